//! Images made by other tools: busybox through umoci, skopeo and buildah.
//!
//! Needs root and the Debian packages skopeo, umoci, buildah and busybox-static; without them these tests fail.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::File;
use std::path::PathBuf;

use image::{Image, Prepared, Store};
use support::{Home, home, listing, run};

/// A busybox image with three layers, whiteouts among them, as an OCI layout made with umoci.
fn busybox_layout(home: &Home) -> PathBuf {
    let layout = home.path("busybox-layout");
    let rootfs = home.path("bundle/rootfs");
    let image = format!("{}:busybox", layout.display());
    run("umoci", &["init", "--layout", layout.to_str().unwrap()]);
    run("umoci", &["new", "--image", &image]);
    run("umoci", &["unpack", "--image", &image, home.path("bundle").to_str().unwrap()]);
    let repack = |text: &str| {
        let script = format!("set -e; cd {}; {text}", rootfs.display());
        run("sh", &["-c", &script]);
        run(
            "umoci",
            &["repack", "--refresh-bundle", "--image", &image, home.path("bundle").to_str().unwrap()],
        );
    };
    repack(
        "mkdir -p bin etc tmp var/old; chmod 1777 tmp; cp /bin/busybox bin/busybox; chmod 4755 bin/busybox;
         for name in sh ls cat true; do ln bin/busybox bin/$name; done; ln -s bin sbin;
         printf 'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/srv:/bin/sh\n' > etc/passwd;
         printf 'root:x:0:\nweb:x:1000:\nadm:x:4:web\n' > etc/group; echo old > var/old/file; echo gone > etc/gone;
         touch -d @86400 etc/group",
    );
    repack("rm etc/gone; rm -r var/old; mkdir var/old; echo new > var/old/new");
    repack("chown 1000:1000 var/old/new; touch -d @86400 var/old/new");
    run(
        "umoci",
        &[
            "config",
            "--image",
            &image,
            "--config.entrypoint",
            "/bin/busybox",
            "--config.cmd",
            "true",
            "--config.env",
            "A=b",
            "--config.user",
            "web",
            "--config.workingdir",
            "/srv",
            "--config.stopsignal",
            "SIGINT",
            "--config.exposedports",
            "80/tcp",
            "--config.label",
            "x=y",
            "--config.volume",
            "/data",
        ],
    );
    layout
}

fn prepared(store: &Store, images: &[Image]) -> Prepared {
    assert_eq!(images.len(), 1, "{images:?}");
    store.prepare(&images[0].digest).unwrap()
}

#[test]
fn one_busybox_in_every_form_gives_the_same_files_and_configuration() {
    let home = home();
    let layout = busybox_layout(&home);
    let source = format!("oci:{}:busybox", layout.display());
    let reference = prepared(&home.store, &home.store.load_layout(&layout, None).unwrap());
    let config = &reference.config;
    assert_eq!(
        (config.entrypoint.as_slice(), config.cmd.as_slice()),
        (&["/bin/busybox".into()][..], &["true".into()][..])
    );
    assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("web", "/srv"));
    assert_eq!(
        (config.stop_signal.as_deref(), &config.exposed_ports),
        (Some("SIGINT"), &vec!["80/tcp".to_owned()])
    );
    assert!(config.env.contains(&"A=b".to_owned()), "{config:?}");
    assert_eq!((&config.labels["x"], &config.volumes), (&"y".to_owned(), &vec!["/data".to_owned()]));
    let user = home.store.user(&reference, &config.user).unwrap();
    assert_eq!((user.uid, user.gid, user.additional_gids, user.home.as_str()), (1000, 1000, vec![4], "/srv"));
    let files: Vec<_> = reference.layers.iter().map(|layer| listing(layer)).collect();
    let forms: [(&str, &[&str]); 4] = [
        ("oci-archive", &[]),
        ("oci-archive", &["--dest-compress", "--dest-compress-format", "zstd"]),
        ("docker-archive", &[]),
        ("oci", &[]),
    ];
    for (form, options) in forms {
        let file = home.path(&format!("{form}{}", options.concat()));
        let target = format!("{form}:{}:busybox:latest", file.display());
        run("skopeo", &[&["--insecure-policy", "copy", "-q"], options, &[&source, &target]].concat());
        let other = support::home();
        let images = match form {
            "oci" => other.store.load_layout(&file, None).unwrap(),
            _ => other.store.load_archive(File::open(&file).unwrap(), None).unwrap(),
        };
        assert_eq!(images[0].name, "busybox:latest");
        let loaded = prepared(&other.store, &images);
        assert_eq!(loaded.config, reference.config, "{form} {options:?}");
        let loaded_files: Vec<_> = loaded.layers.iter().map(|layer| listing(layer)).collect();
        assert_eq!(loaded_files, files, "{form} {options:?}");
    }
}

#[test]
fn an_archive_of_buildah_loads_and_its_names_count() {
    let home = home();
    let state = |name: &str| home.path(name).to_str().unwrap().to_owned();
    let (root, runroot) = (state("buildah-root"), state("buildah-run"));
    let buildah = |args: &[&str]| {
        let global = ["--storage-driver", "vfs", "--root", &root, "--runroot", &runroot];
        run("buildah", &[&global[..], args].concat())
    };
    let container = buildah(&["from", "scratch"]).trim().to_owned();
    buildah(&["copy", "-q", &container, "/bin/busybox", "/bin/sh"]);
    buildah(&["config", "--cmd", "/bin/sh", &container]);
    buildah(&["commit", "-q", &container, "localhost/made-by/buildah:7"]);
    for kind in ["oci-archive", "docker-archive"] {
        let file = state(kind);
        buildah(&[
            "push",
            "-q",
            "localhost/made-by/buildah:7",
            &format!("{kind}:{file}:localhost/made-by/buildah:7"),
        ]);
        let images = home.store.load_archive(File::open(&file).unwrap(), None).unwrap();
        assert_eq!(images[0].name, "localhost/made-by/buildah:7", "{kind}");
        let prepared = prepared(&home.store, &images);
        assert_eq!(prepared.config.cmd, ["/bin/sh"]);
        let shell = std::fs::read(prepared.layers[0].join("bin/sh")).unwrap();
        assert!(shell == std::fs::read("/bin/busybox").unwrap(), "{kind}");
    }
}

/// The store is an OCI layout itself, so that other tools can look into it and take images out.
#[test]
fn skopeo_reads_the_store() {
    let home = home();
    let layout = busybox_layout(&home);
    home.store.load_layout(&layout, Some("team/app:3")).unwrap();
    let out = home.path("out");
    let source = format!("oci:{}:team/app:3", home.path("store").display());
    run("skopeo", &["--insecure-policy", "copy", "-q", &source, &format!("oci-archive:{}", out.display())]);
    let images = support::home().store.load_archive(File::open(&out).unwrap(), Some("again")).unwrap();
    assert_eq!(images[0].digest, home.store.resolve("team/app:3").unwrap().unwrap());
}
