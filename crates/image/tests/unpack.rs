//! Layers written by hand, good and hostile, unpacked by the real store onto the real file system.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;

use image::{Limits, Store};
use support::{Home, Layout, Tar, chain, gzip, home, listing, load};

/// The error of unpacking this layer, with the digest of the layer taken out.
fn refusal(home: &Home, layer: Vec<u8>) -> String {
    let digest = image::Digest::of(&layer);
    let image = load(home, &[layer]);
    match home.store.prepare(&image.digest) {
        Ok(prepared) => format!("unpacked: {:?}", listing(&prepared.layers[0])),
        Err(error) => chain(&error).replace(digest.as_str(), "LAYER"),
    }
}

#[test]
fn hostile_layers_are_refused_and_touch_nothing_outside() {
    let home = home();
    let victim = home.path("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("file"), "untouched").unwrap();
    let outside = victim.to_str().unwrap();
    let unpack = "image test:1: cannot unpack layer LAYER";
    // Of the path only as much as somebody reads.
    let long_path = format!(
        "entry \"{}a...\": a path of more than 4095 bytes, which Linux cannot name; refused",
        "a/".repeat(127)
    );
    let cases = [
        (
            Tar::new().file("a/../../escape", "x"),
            "entry \"a/../../escape\": the path has a \"..\" in it, which could lead out of the image; refused",
        ),
        (
            Tar::new().hard_link("passwd", "../../../../etc/passwd"),
            "entry \"passwd\": the path has a \"..\" in it, which could lead out of the image; refused",
        ),
        (
            Tar::new().hard_link("passwd", "/etc/passwd"),
            "entry \"passwd\": the hard link points to \"etc/passwd\", which this layer does not have (yet)",
        ),
        (
            Tar::new().symlink("out", outside).file("out/file", "changed"),
            "entry \"out/file\": \"out\" on its way is neither a directory nor a link to one inside the layer; refused",
        ),
        (
            Tar::new()
                .symlink("out", "../../../../../../../..")
                .symlink("more", "out")
                .hard_link("h", "more/etc/passwd"),
            "entry \"h\": the hard link points to \"more/etc/passwd\", which this layer does not have (yet)",
        ),
        (
            Tar::new().symlink("loop", "loop").file("loop/file", "x"),
            "entry \"loop/file\": \"loop\" on its way is neither a directory nor a link to one inside the layer; refused",
        ),
        (
            Tar::new().file("file", "x").file("file/below", "x"),
            "entry \"file/below\": \"file\" on its way is neither a directory nor a link to one inside the layer; refused",
        ),
        (Tar::new().file("./", "x"), "entry \"./\": the root of the layer has to be a directory; refused"),
        (
            Tar::new().file("a/.wh...", ""),
            "entry \"a/.wh...\": a whiteout that names nothing, or that is used as a directory; refused",
        ),
        (
            Tar::new().pax(&[("path", b"a\0b")]).file("x", ""),
            "entry \"a\\0b\": the path has a zero byte in it; refused",
        ),
        (
            Tar::new().pax(&[("uid", b"4294967295")]).file("x", ""),
            "entry \"x\": owner 4294967295 is not a user or group number that Linux has",
        ),
        (Tar::new().pax(&[("path", "a/".repeat(4_000).as_bytes())]).file("x", ""), long_path.as_str()),
        (Tar::new().symlink("s", ""), "entry \"s\": the symbolic link has no target"),
        (
            Tar::new().dir("d").hard_link("h", "d"),
            "entry \"h\": the hard link points to \"d\", which is a directory",
        ),
        (
            Tar::new().member(b'Q', "odd", "", 0o644, b""),
            "its tar stream is unreadable from the start; load the image again: the tar member at byte 0 has type 'Q', \
             which has no meaning in an image",
        ),
        (
            Tar::new().file("good", "").member(b'x', "pax", "", 0o644, &[b'9'; 2 << 20]).file("x", ""),
            "its tar stream is unreadable after entry \"good\"; load the image again: the tar header at byte 512 is \
             larger than 1 MiB; no honest archive has such names or attributes",
        ),
    ];
    for (tar, expected) in cases {
        assert_eq!(refusal(&home, tar.end()), format!("{unpack}: {expected}"));
    }
    assert_eq!(listing(&victim).into_iter().collect::<Vec<_>>().len(), 1);
    assert_eq!(fs::read_to_string(victim.join("file")).unwrap(), "untouched");
    assert!(listing(&home.path("store/layers")).is_empty(), "half a layer is visible");
}

#[test]
fn damaged_streams_say_where_they_broke() {
    let home = home();
    let good = Tar::new().file("first", "1").file("second", &"2".repeat(2000)).end();
    let mut cut = good.clone();
    cut.truncate(2000);
    let mut zipped = gzip(&good);
    zipped.truncate(zipped.len() / 2);
    for (layer, expected) in [
        (
            cut,
            "its tar stream is unreadable after entry \"second\"; load the image again: the stream ends in the middle of \
             a member; it was cut off on the way",
        ),
        (
            b"this is no tar stream at all, and is long enough for a block".repeat(20),
            "its tar stream is unreadable from the start; load the image again: there is no tar header at byte 0; this is \
             not a tar stream, or it is damaged",
        ),
    ] {
        let seen = refusal(&home, layer);
        assert_eq!(seen, format!("image test:1: cannot unpack layer LAYER: {expected}"));
    }
    // How much of a cut gzip stream comes out is the decompressor's affair; that it is noticed is not.
    let digest = image::Digest::of(&zipped);
    let layout = Layout::new(home.path("cut"));
    let manifest = layout.image(support::architecture(), &[(&zipped, image::Digest::of(&good))]);
    layout.index(&[support::entry(&manifest, "cut")]);
    let images = home.store.load_layout(&layout.dir, None).unwrap();
    let error = chain(&home.store.prepare(&images[0].digest).unwrap_err());
    assert!(
        error.starts_with(&format!("image cut:latest: cannot unpack layer {digest}: its tar stream")),
        "{error}"
    );
}

#[test]
fn a_layer_with_other_content_than_promised_is_refused() {
    let home = home();
    let tar = Tar::new().file("a", "b").end();
    let layout = Layout::new(home.path("layout"));
    let wrong = image::Digest::of(b"something else");
    let manifest = layout.image(support::architecture(), &[(&tar, wrong.clone())]);
    layout.index(&[support::entry(&manifest, "app")]);
    let images = home.store.load_layout(&layout.dir, None).unwrap();
    let found = image::Digest::of(&tar);
    assert_eq!(
        chain(&home.store.prepare(&images[0].digest).unwrap_err()),
        format!(
            "image app:latest: cannot unpack layer {found}: its content has digest {found} where the image says {wrong}; the \
             image was built or copied wrong: load it again from a good source"
        )
    );
    // The bytes after the end mark count, too.
    let mut longer = tar.clone();
    longer.extend_from_slice(b"hidden");
    let manifest = layout.image(support::architecture(), &[(&longer, found)]);
    layout.index(&[support::entry(&manifest, "app")]);
    let images = home.store.load_layout(&layout.dir, None).unwrap();
    assert!(chain(&home.store.prepare(&images[0].digest).unwrap_err()).contains("its content has digest"));
}

#[test]
fn bombs_are_stopped_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let limits =
        Limits { layer_bytes: 1 << 20, layer_entries: 100, layer_path_bytes: 9_000, archive_bytes: 1 << 30 };
    let home = Home { store: Store::open_with(&dir.path().join("store"), limits).unwrap(), dir };
    let many = (0..101).fold(Tar::new(), |tar, i| tar.file(&format!("f{i}"), "")).end();
    let mut trailing = Tar::new().file("a", "").end();
    trailing.resize(20 << 20, 0);
    // A header that promises eight exabytes of holes.
    let mut sparse = [0_u8; 512];
    sparse[..4].copy_from_slice(b"hole");
    sparse[100..107].copy_from_slice(b"0000644");
    sparse[124..135].copy_from_slice(b"00000000000");
    sparse[156] = b'S';
    sparse[257..265].copy_from_slice(b"ustar  \0");
    sparse[483..495].copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    // Nothing of them is on the disk, but all of it in memory.
    let long_path = |i: usize| format!("{}{i:05}", "d/".repeat(45));
    let devices = (0..100).fold(Tar::new(), |tar, i| tar.member(b'3', &long_path(i), "", 0o644, b""));
    let directories = (0..100).fold(Tar::new(), |tar, i| tar.dir(&long_path(i)));
    // Ninety-five bytes each, of which nine thousand may be remembered.
    let paths_too_long = format!(
        "entry {:?}: the paths of the layer's directories take more than 9000 bytes; if they really do, raise the limit of \
         the image store",
        long_path(9_000 / 95)
    );
    let too_large = "the layer would unpack to more than 1048576 bytes; if it really is that large, raise the limit of \
                     the image store";
    for (layer, expected) in [
        (Tar::new().file("big", &"0".repeat(2 << 20)).end(), format!("entry \"big\": {too_large}")),
        (trailing, format!("entry \"a\": {too_large}")),
        (devices.end(), paths_too_long.clone()),
        (directories.end(), paths_too_long),
        (Tar::new().raw(sparse, b"").end(), format!("entry \"hole\": {too_large}")),
        (
            many,
            "entry \"f100\": the layer has more than 100 entries; if it really has that many, raise the limit of the \
             image store"
                .to_owned(),
        ),
    ] {
        // Compressed, as a bomb would be.
        let zipped = gzip(&layer);
        let layout = Layout::new(home.path("bomb"));
        let manifest = layout.image(support::architecture(), &[(&zipped, image::Digest::of(&layer))]);
        layout.index(&[support::entry(&manifest, "bomb")]);
        let images = home.store.load_layout(&layout.dir, None).unwrap();
        let error = chain(&home.store.prepare(&images[0].digest).unwrap_err());
        assert_eq!(error.split_once(": entry").map(|(_, rest)| format!("entry{rest}")), Some(expected));
    }
}

#[test]
fn what_a_layer_may_say_is_kept() {
    let home = home();
    let long = "long/".repeat(60) + "name";
    // A capability value with a newline byte in it, which careless readers of PAX records cut off.
    let capability = [0, 0, 0, 2, b'\n', 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = Tar::new()
        .pax(&[("mtime", b"1000.5")])
        .member(b'5', "dir/", "", 0o1777, b"")
        .pax(&[("uid", b"1000"), ("gid", b"2000000"), ("mtime", b"86400.25")])
        .member(b'0', "dir/setuid", "", 0o6755, b"program")
        .hard_link("dir/same", "/dir/setuid")
        .symlink("absolute", "/dir")
        .file("absolute/through-link", "inside")
        .symlink("climbing", "../../../dir")
        .file("climbing/through-climb", "inside")
        .file("/rooted", "r")
        .pax(&[("path", long.as_bytes())])
        .file("x", "deep")
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.user.note", b"a\nb"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"label"),
        ])
        .file("attributes", "x")
        .member(b'6', "fifo", "", 0o640, b"")
        .member(b'3', "null", "", 0o666, b"")
        .hard_link("null-again", "null")
        .member(b'4', "disk", "", 0o660, b"")
        .file("replaced", "by a directory")
        .dir("replaced/")
        .file("replaced/file", "1")
        .dir("gone")
        .file("gone/file", "2")
        .file("gone", "now a file")
        .member(0, "old-style-dir/", "", 0o755, b"")
        .end();
    let image = load(&home, &[layer]);
    let root = home.store.prepare(&image.digest).unwrap().layers.remove(0);
    let found = listing(&root);
    let stat = |path: &str| fs::symlink_metadata(root.join(path)).unwrap();
    let setuid = stat("dir/setuid");
    assert_eq!((setuid.mode() & 0o7777, setuid.uid(), setuid.gid()), (0o6755, 1000, 2_000_000));
    assert_eq!((setuid.mtime(), setuid.mtime_nsec()), (86400, 250_000_000));
    assert_eq!(setuid.ino(), stat("dir/same").ino());
    // Files were made in it afterwards; its time is still the archive's.
    assert_eq!(
        (stat("dir").mtime(), stat("dir").mtime_nsec(), stat("dir").mode() & 0o7777),
        (1000, 500_000_000, 0o1777)
    );
    assert!(found.contains_key("dir/through-link") && found.contains_key("dir/through-climb"), "{found:?}");
    assert!(found.contains_key("rooted") && found.contains_key(&long) && found.contains_key("replaced/file"));
    assert_eq!(fs::read_to_string(root.join("gone")).unwrap(), "now a file");
    assert!(stat("old-style-dir").is_dir());
    assert_eq!(found["fifo"], "640 0:0 special");
    for dropped in ["null", "null-again", "disk"] {
        assert!(!found.contains_key(dropped), "{dropped} was made");
    }
    let mut names = [0_u8; 512];
    let n = rustix::fs::listxattr(root.join("attributes"), &mut names).unwrap();
    let mut names: Vec<&str> = std::str::from_utf8(&names[..n]).unwrap().split_terminator('\0').collect();
    names.sort_unstable();
    assert_eq!(names, ["security.capability", "user.note"]);
    let mut value = [0_u8; 64];
    let n = rustix::fs::getxattr(root.join("attributes"), "security.capability", &mut value).unwrap();
    assert_eq!(&value[..n], capability);
}

#[test]
fn sparse_files_take_no_space_for_their_holes() {
    let home = home();
    let source = home.path("source");
    fs::create_dir(&source).unwrap();
    fs::File::create(source.join("holes")).unwrap().set_len(64 << 20).unwrap();
    for format in ["gnu", "pax"] {
        let tar = home.path(format);
        support::run(
            "tar",
            &[
                "--sparse",
                &format!("--format={format}"),
                "-C",
                source.to_str().unwrap(),
                "-cf",
                tar.to_str().unwrap(),
                ".",
            ],
        );
        let image = load(&home, &[fs::read(&tar).unwrap()]);
        let root = home.store.prepare(&image.digest).unwrap().layers.remove(0);
        let stat = fs::metadata(root.join("holes")).unwrap();
        assert_eq!((stat.len(), stat.blocks()), (64 << 20, 0), "{format}");
    }
}
