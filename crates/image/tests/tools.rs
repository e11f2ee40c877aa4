//! Images made by other tools: busybox through umoci, skopeo, buildah; Debian's file tree through debootstrap's nodes.
//!
//! Needs root and the Debian packages skopeo, umoci, buildah and busybox-static; without them these tests fail.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::path::PathBuf;

use image::{Image, Prepared, Store};
use support::{Home, Mount, home, listing, run};

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
         setfattr -n user.note -v kept etc/group 2>/dev/null || python3 -c \"import os; os.setxattr('etc/group','user.note',b'kept')\"",
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
    let forms: [(&str, Vec<&str>); 5] = [
        ("oci-archive", vec![]),
        ("docker-archive", vec![]),
        ("oci-archive", vec!["--dest-compress-format", "zstd", "--dest-compress"]),
        ("oci-archive", vec!["--format", "v2s2"]),
        ("dir-as-layout", vec![]),
    ];
    for (form, options) in forms {
        let file = home.path(&format!("{form}{}", options.concat()));
        let target = match form {
            "dir-as-layout" => format!("oci:{}:busybox", file.display()),
            form => format!("{form}:{}:busybox:latest", file.display()),
        };
        // Debian's skopeo cannot write Docker manifests into a layout; everything else it can.
        let options = if options.contains(&"v2s2") { vec!["--format", "oci"] } else { options };
        run("skopeo", &[&["--insecure-policy", "copy", "-q"], &options[..], &[&source, &target]].concat());
        let other = support::home();
        let images = match form {
            "dir-as-layout" => other.store.load_layout(&file, None).unwrap(),
            _ => other.store.load_archive(File::open(&file).unwrap(), None).unwrap(),
        };
        assert_eq!(images[0].name, "busybox:latest");
        let loaded = prepared(&other.store, &images);
        assert_eq!(loaded.config, reference.config, "{form} {options:?}");
        let loaded_files: Vec<_> = loaded.layers.iter().map(|layer| listing(layer)).collect();
        assert_eq!(loaded_files, files, "{form} {options:?}");
    }
}
