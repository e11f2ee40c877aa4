//! Loading: names, platforms, and the exact words for every archive that is not what it should be.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use image::{Digest, FileContent, FileEntry, ImageConfig};
use support::{Home, Layout, Tar, architecture, chain, entry, gzip, home, listing, load};

fn layer(text: &str) -> Vec<u8> {
    Tar::new().file("file", text).end()
}

/// The layout as an archive, in the order in which skopeo writes it.
fn archive(dir: &Path) -> Vec<u8> {
    let mut tar = Tar::new();
    let mut names: Vec<String> = listing(dir).into_keys().collect();
    names.sort();
    for name in names.iter().filter(|name| dir.join(name).is_file()) {
        tar = tar.member(b'0', name, "", 0o644, &fs::read(dir.join(name)).unwrap());
    }
    tar.end()
}

fn failure(home: &Home, bytes: &[u8], name: Option<&str>) -> String {
    let error = home.store.load_archive(bytes, name).unwrap_err();
    assert!(home.store.list().unwrap().is_empty(), "something of a bad archive was kept");
    assert!(listing(&home.path("store/blobs/sha256")).is_empty(), "a blob of a bad archive was kept");
    assert!(listing(&home.path("store/tmp")).is_empty(), "a temporary file was left");
    chain(&error)
}

#[test]
fn archives_that_are_not_what_they_should_be() {
    let home = home();
    let layout = Layout::simple(home.path("good"), &[layer("one")]);
    let good = archive(&layout.dir);
    let blob = |what: &[u8]| format!("blobs/sha256/{}", Digest::of(what).hex());
    let layer_file = blob(&layer("one"));
    let spoiled = |change: &dyn Fn(&Path)| {
        let dir = home.path("spoiled");
        let _ = fs::remove_dir_all(&dir);
        let layout = Layout::simple(dir.clone(), &[layer("one")]);
        change(&layout.dir);
        archive(&dir)
    };
    let cases: Vec<(Vec<u8>, String)> = vec![
        (
            vec![],
            "this is neither an OCI nor a Docker image archive: it has no index.json and no manifest.json, but no files \
             at all. Use the output of \"skopeo copy\", \"buildah push\", \"podman save\" or \"docker save\""
                .into(),
        ),
        (
            b"#!/bin/sh\necho this is a script\n".repeat(50),
            "the archive is unreadable; make it again: there is no tar header at byte 0; this is not a tar stream, or it is \
             damaged"
                .into(),
        ),
        (
            good[..700].to_vec(),
            format!(
                "the archive is unreadable after \"{}\"; make it again: the stream ends in the middle of a member; it was cut \
                 off on the way",
                first_file(&good)
            ),
        ),
        (
            gzip(&good)[..200].to_vec(),
            format!(
                "the archive is unreadable after \"{}\"; make it again: the stream ends in the middle of a member; it was cut \
                 off on the way",
                first_file(&good)
            ),
        ),
        (
            Tar::new().file("etc/passwd", "").file("bin/sh", "").file("bin/ls", "").file("x", "").end(),
            "this is neither an OCI nor a Docker image archive: it has no index.json and no manifest.json, but \
             \"bin/ls\", \"bin/sh\", \"etc/passwd\" and 1 more files. Use the output of \"skopeo copy\", \"buildah push\", \
             \"podman save\" or \"docker save\""
                .into(),
        ),
        (
            spoiled(&|dir| fs::remove_file(dir.join(&layer_file)).unwrap()),
            format!(
                "{layer_file} is missing, although blobs/sha256/MANIFEST names it; the image was copied incompletely: copy it \
                 again"
            ),
        ),
        (
            spoiled(&|dir| fs::write(dir.join(&layer_file), "short").unwrap()),
            format!("{layer_file} has 5 bytes where 2048 are expected; it was damaged on the way: copy it again"),
        ),
        (
            spoiled(&|dir| fs::write(dir.join(&layer_file), layer("two")).unwrap()),
            format!(
                "{layer_file} has digest {} where {} is expected; it was damaged on the way: copy it again",
                Digest::of(&layer("two")),
                Digest::of(&layer("one"))
            ),
        ),
        (
            spoiled(&|dir| fs::write(dir.join("index.json"), "{\"schemaVersion\": 2,").unwrap()),
            "index.json cannot be understood; the image was made wrong: EOF while parsing a value at line 1 column 20".into(),
        ),
        (
            spoiled(&|dir| fs::write(dir.join("index.json"), "{\"schemaVersion\":2,\"manifests\":[]}").unwrap()),
            "the archive has no image in it".into(),
        ),
        (
            spoiled(&|dir| {
                let text = fs::read_to_string(dir.join("index.json")).unwrap();
                fs::write(dir.join("index.json"), text.replace("sha256:", "sha512:")).unwrap();
            }),
            "index.json cannot be understood; the image was made wrong: DIGEST is not a digest: expected \
             \"sha256:\" and 64 lower-case hex digits at line 1 column 172"
                .into(),
        ),
        (
            spoiled(&|dir| {
                let text = fs::read_to_string(dir.join("index.json")).unwrap();
                fs::write(dir.join("index.json"), text.replace("test:1", "Bad Name")).unwrap();
            }),
            "image name \"Bad Name\" has capital letters in its repository; repositories are lower-case".into(),
        ),
        (
            spoiled(&|dir| {
                let layout = Layout { dir: dir.to_owned() };
                let foreign = layout.image("pdp11", &[]);
                layout.index(&[entry(&foreign, "old")]);
            }),
            format!("the image is for linux/pdp11, but this node is linux/{}; get the image for this architecture", architecture()),
        ),
        (
            Tar::new().file("manifest.json", r#"[{"Config":"c.json","RepoTags":["a:1"],"Layers":[]}]"#).end(),
            "c.json is missing, although manifest.json names it; the image was copied incompletely: copy it again".into(),
        ),
    ];
    let mut cases = cases;
    cases.extend(hostile_cases(&home));
    for (bytes, expected) in cases {
        let seen = failure(&home, &bytes, None);
        assert_eq!(masked(&seen), masked(&expected));
    }
    let name = failure(&home, &good, Some("app@sha256:00"));
    assert!(name.starts_with("image name \"app@sha256:00\" ends in a bad digest"), "{name}");
}

/// Archives of strangers who mean harm: time, memory, or one name for two images.
fn hostile_cases(home: &Home) -> Vec<(Vec<u8>, String)> {
    let names = (0..17).fold(Tar::new(), |tar, _| {
        tar.member(b'K', "././@LongLink", "", 0, &vec![b'x'; 1_000_000])
            .symlink("link", "replaced by the long one")
    });
    let members = (0..100_001).fold(Tar::new(), |tar, _| tar.dir("d"));
    let chain = (0..100).fold(Tar::new().file("link-100", "[]"), |tar, i| {
        tar.symlink(&format!("link-{i}"), &format!("link-{}", i + 1))
    });
    let chain = chain.file("manifest.json", r#"[{"Config":"link-0","RepoTags":["a:1"],"Layers":[]}]"#);
    let (one, two) = (layer("one"), layer("two"));
    let config =
        |tar: &[u8]| format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, Digest::of(tar));
    let one_name = r#"[{"Config":"a.json","RepoTags":["a:1"],"Layers":["one"]},
        {"Config":"b.json","RepoTags":["docker.io/library/a:1"],"Layers":["two"]}]"#;
    let one_name = Tar::new()
        .member(b'0', "one", "", 0o644, &one)
        .member(b'0', "two", "", 0o644, &two)
        .file("a.json", &config(&one))
        .file("b.json", &config(&two))
        .file("manifest.json", one_name);
    let tall = home.path("tall");
    Layout::simple(tall.clone(), &vec![layer("one"); 501]);
    vec![
        (
            names.end(),
            "the names in the archive take more than 16777216 bytes; no image archive has such names".into(),
        ),
        (
            members.end(),
            "the archive has more than 100000 files; no image archive is made of so many".into(),
        ),
        (
            chain.end(),
            "link-0 is missing, although manifest.json names it; the image was copied incompletely: copy it again".into(),
        ),
        (
            one_name.end(),
            "the archive has two images called a:1; give it one image of that name, or load them one by one".into(),
        ),
        (
            archive(&tall),
            "MANIFEST lists 501 layers, but Linux cannot stack more than 500; build the image with fewer".into(),
        ),
    ]
}

/// Takes out what depends on the exact bytes of a manifest, which no reader cares about.
fn masked(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let names =
            text.contains(&format!("although {word} names")) || text.contains(&format!("{word} lists"));
        let named_by = word.starts_with("blobs/sha256/") && names;
        if named_by {
            "MANIFEST".to_owned()
        } else if word.starts_with("\"sha512:") || word == "DIGEST" {
            "DIGEST".to_owned()
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn first_file(tar: &[u8]) -> String {
    String::from_utf8_lossy(tar[..100].split(|byte| *byte == 0).next().unwrap()).into_owned()
}

#[test]
fn the_image_for_this_node_is_picked_and_found_by_the_digest_of_the_list() {
    let home = home();
    let layout = Layout::new(home.path("layout"));
    let tar = layer("native");
    let native = layout.image(architecture(), &[(&tar, Digest::of(&tar))]);
    let foreign = layout.image("pdp11", &[]);
    let item = |(digest, size): &(Digest, usize), os: &str, architecture: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"{digest}","size":{size},
            "platform":{{"os":"{os}","architecture":"{architecture}"}}}}"#
        )
    };
    let list = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[{},{},{}]}}"#,
        item(&foreign, "linux", "pdp11"),
        item(&native, "linux", architecture()),
        item(&foreign, "unknown", "unknown"),
    );
    let list_digest = layout.blob(list.as_bytes());
    let listed = |name: &str| {
        entry(&(list_digest.clone(), list.len()), name)
            .replace("vnd.oci.image.manifest.v1", "vnd.docker.distribution.manifest.list.v2")
    };
    layout.index(&[listed("app:1")]);
    let images = home.store.load_layout(&layout.dir, None).unwrap();
    assert_eq!((images[0].name.as_str(), &images[0].digest), ("app:1", &native.0));
    for reference in [format!("app@{list_digest}"), format!("app@{}", native.0), native.0.to_string()] {
        assert_eq!(home.store.resolve(&reference).unwrap(), Some(native.0.clone()), "{reference}");
    }
    assert_eq!(home.store.prepare(&native.0).unwrap().layers.len(), 1);
    assert!(home.store.remove(&format!("app@{list_digest}")).unwrap());
    assert!(home.store.list().unwrap().is_empty());
}

#[test]
fn docker_archives_with_links_between_layers_and_several_names() {
    let home = home();
    let (one, two) = (layer("one"), layer("two"));
    let config = |tars: &[&[u8]]| {
        let ids: Vec<String> = tars.iter().map(|tar| format!("\"{}\"", Digest::of(tar))).collect();
        format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#, ids.join(","))
    };
    let manifest = r#"[{"Config":"a.json","RepoTags":["a:1","a:latest"],"Layers":["x/layer.tar","y/layer.tar"]},
        {"Config":"b.json","RepoTags":["b"],"Layers":["z/layer.tar","zipped"]}]"#;
    let tar = Tar::new()
        .dir("x")
        .member(b'0', "x/layer.tar", "", 0o644, &one)
        .member(b'0', "y/layer.tar", "", 0o644, &two)
        .symlink("z/layer.tar", "../x/layer.tar")
        .member(b'0', "zipped", "", 0o644, &gzip(&two))
        .file("a.json", &config(&[&one, &two]))
        .file("b.json", &config(&[&one, &two]))
        .file("manifest.json", manifest)
        .end();
    let error = home.store.load_archive(&tar[..], Some("c")).unwrap_err();
    assert_eq!(
        chain(&error),
        "one name was given, but the archive has 2 images (a:1, a:latest, b:latest); load it without a name to keep theirs"
    );
    let images = home.store.load_archive(&zstd::encode_all(&tar[..], 1).unwrap()[..], None).unwrap();
    assert_eq!(
        images.iter().map(|image| image.name.as_str()).collect::<Vec<_>>(),
        ["a:1", "a:latest", "b:latest"]
    );
    let listed = home.store.list().unwrap();
    assert_eq!(listed, images);
    // Compressed differently, but the same layers: they are on disk once.
    let a = home.store.prepare(&images[0].digest).unwrap();
    let b = home.store.prepare(&images[2].digest).unwrap();
    assert_ne!(a.digest, b.digest);
    assert_eq!(a.layers, b.layers);
}

#[test]
fn names_move_and_removed_images_stay_for_whoever_uses_them() {
    let home = home();
    let old = load(&home, &[layer("old")]);
    let new = load(&home, &[layer("new")]);
    assert_ne!(old.digest, new.digest);
    let resolve = |reference: &str| home.store.resolve(reference).unwrap();
    assert_eq!(resolve("docker.io/library/test:1"), Some(new.digest.clone()));
    assert_eq!(resolve("test"), None);
    assert_eq!(resolve(&format!("test@{}", old.digest)), Some(old.digest.clone()));
    // In use, although nameless: a rollback will want it.
    let in_use = BTreeSet::from([old.digest.clone()]);
    assert_eq!(home.store.collect_garbage(&in_use).unwrap().images, 0);
    let prepared = home.store.prepare(&old.digest).unwrap();
    // Nobody names it, but somebody holds it.
    assert_eq!(home.store.collect_garbage(&BTreeSet::new()).unwrap().images, 0);
    assert!(prepared.layers[0].exists());
    drop(prepared);
    let freed = home.store.collect_garbage(&BTreeSet::new()).unwrap();
    assert_eq!((freed.images, freed.blobs, freed.layers), (1, 3, 1));
    assert_eq!(resolve(old.digest.as_str()), None);
    assert_eq!(
        chain(&home.store.prepare(&old.digest).unwrap_err()),
        format!("image {} is not in the store; load it again", old.digest)
    );
    assert!(home.store.prepare(&new.digest).is_ok());
    let list = format!("other@{}", new.digest);
    assert!(!home.store.remove(&list).unwrap(), "a digest with another repository took the name");
    assert!(home.store.remove("test:1").unwrap() && !home.store.remove("test:1").unwrap());
    let freed = home.store.collect_garbage(&BTreeSet::new()).unwrap();
    assert_eq!((freed.images, freed.layers), (1, 1));
    assert!(
        listing(&home.path("store/blobs/sha256")).is_empty()
            && listing(&home.path("store/layers")).is_empty()
    );
}

#[test]
fn garbage_collection_takes_what_a_crash_left_and_keeps_shared_layers() {
    let home = home();
    let shared = layer("shared");
    let one = load(&home, &[shared.clone(), layer("one")]);
    home.store.prepare(&one.digest).unwrap();
    let two = load(&home, &[shared.clone(), layer("two")]);
    home.store.prepare(&two.digest).unwrap();
    fs::write(home.path("store/blobs/sha256").join(Digest::of(b"orphan").hex()), "orphan").unwrap();
    let freed = home.store.collect_garbage(&BTreeSet::new()).unwrap();
    // The first image lost its name to the second; what they share stays.
    assert_eq!((freed.images, freed.blobs, freed.layers), (1, 4, 1));
    assert_eq!(home.store.prepare(&two.digest).unwrap().layers.len(), 2);
}

#[test]
fn a_damaged_blob_is_noticed_and_loading_again_heals_it() {
    let home = home();
    let image = load(&home, &[layer("x")]);
    let blob = home.path("store/blobs/sha256").join(Digest::of(&layer("x")).hex());
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, layer("y")).unwrap();
    let error = chain(&home.store.prepare(&image.digest).unwrap_err());
    assert!(error.contains("its content has digest"), "{error}");
    fs::remove_file(&blob).unwrap();
    let error = chain(&home.store.prepare(&image.digest).unwrap_err());
    let digest = Digest::of(&layer("x"));
    assert_eq!(
        error,
        format!("image test:1: the stored layer {digest} is damaged or missing; load the image again")
    );
    load(&home, &[layer("x")]);
    assert!(home.store.prepare(&image.digest).is_ok());
}

#[test]
fn an_image_from_files_is_reproducible_and_complete() {
    let file = |path: &str, mode, content| FileEntry { path: path.to_owned(), mode, content };
    let source = tempfile::NamedTempFile::new().unwrap();
    fs::write(source.path(), "x".repeat(1000)).unwrap();
    let long = format!("/{}name", "directory/".repeat(20));
    let files = [
        file("/bin/program", 0o755, FileContent::CopyOf(source.path().to_owned())),
        file("/bin/alias", 0o777, FileContent::SymlinkTo("program".into())),
        file("/etc/note", 0o600, FileContent::Bytes(b"note".to_vec())),
        file("/tmp", 0o1777, FileContent::Directory),
        file(&long, 0o644, FileContent::Bytes(vec![])),
    ];
    let config = ImageConfig { entrypoint: vec!["/bin/program".into()], ..ImageConfig::default() };
    let (here, there) = (home(), home());
    let image = here.store.import_files("wharf.local/hello", &files, config.clone()).unwrap();
    let mut shuffled = files.to_vec();
    shuffled.reverse();
    let other = there.store.import_files("other", &shuffled, config.clone()).unwrap();
    assert_eq!(image.digest, other.digest);
    assert_eq!(image.name, "wharf.local/hello:latest");
    let prepared = here.store.prepare(&image.digest).unwrap();
    assert_eq!(prepared.config, config);
    let found = listing(&prepared.layers[0]);
    let x = Digest::of("x".repeat(1000).as_bytes()).hex()[..8].to_owned();
    assert_eq!(found["bin/program"], format!("755 0:0 1000 {x}"));
    assert_eq!(found["bin/alias"], "777 0:0 -> program");
    assert_eq!((found["tmp"].as_str(), found["bin"].as_str()), ("1777 0:0 dir", "755 0:0 dir"));
    assert!(found.contains_key(&long[1..]), "{found:?}");
    for (path, problem) in [
        ("relative", "the path has to be absolute"),
        ("/a/../b", "the path has an empty component, \".\" or \"..\" in it"),
        ("/bin/program", "the path is given twice"),
    ] {
        let twice = [files[0].clone(), file(path, 0o644, FileContent::Bytes(vec![]))];
        let error = here.store.import_files("x", &twice, config.clone()).unwrap_err();
        assert_eq!(chain(&error), format!("file {path:?} of the image to build: {problem}"));
    }
}

#[test]
fn an_image_without_layers_still_has_something_to_mount() {
    let home = home();
    let image = load(&home, &[]);
    let prepared = home.store.prepare(&image.digest).unwrap();
    assert_eq!(prepared.layers.len(), 1);
    assert!(listing(&prepared.layers[0]).is_empty());
    home.store.collect_garbage(&BTreeSet::new()).unwrap();
    assert!(prepared.layers[0].is_dir());
}
