//! Images made by tools that are not ours.

use std::{path::Path, process::Command};

use tests::Cluster;

pub fn run(program: &str, args: &[&str]) {
    let output =
        Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An OCI layout with busybox, made with umoci.
pub fn busybox_layout(folder: &Path) -> String {
    let layout = folder.join("layout");
    let layout = layout.to_str().expect("UTF-8");
    let rootfs = folder.join("busybox");
    std::fs::create_dir_all(rootfs.join("bin")).expect("a folder");
    std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("busybox-static is installed");
    for applet in ["sh", "sleep", "echo", "cat", "id", "hostname"] {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).expect("a link");
    }
    let image = format!("{layout}:latest");
    run("umoci", &["init", "--layout", layout]);
    run("umoci", &["new", "--image", &image]);
    run("umoci", &["insert", "--image", &image, rootfs.join("bin").to_str().expect("UTF-8"), "/bin"]);
    run("umoci", &["config", "--image", &image, "--config.cmd", "/bin/sh", "--config.env", "FROM_IMAGE=yes"]);
    image
}

fn runs(cluster: &Cluster, image: &str) {
    let manifest = format!(
        "\
apiVersion: wharf/v1
kind: Service
metadata: {{name: box}}
spec:
  image: {image}
  command: [/bin/sh, -c, 'echo hello from $FROM_IMAGE $HOSTNAME; exec sleep 1000']
"
    );
    let applied = cluster.apply("box", &manifest);
    assert_eq!(applied.code, 0, "{applied:#?}");
    let logs = cluster.ok(&["logs", "box"]);
    assert!(logs.contains("hello from yes box-1"), "{logs}");
    assert_eq!(cluster.ok(&["exec", "box", "--", "/bin/id", "-u"]).trim(), "0");
    assert_eq!(cluster.wharf(&["delete", "box"]).code, 0);
}

#[test]
fn busybox_images_by_umoci_and_skopeo_load_and_run() {
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().expect("a folder");
    let layout = busybox_layout(folder.path());
    let folder_of_layout = layout.trim_end_matches(":latest");
    cluster.ok(&["image", "load", folder_of_layout, "--name", "box/layout:1"]);
    runs(&cluster, "box/layout:1");
    for format in ["oci-archive", "docker-archive"] {
        let file = folder.path().join(format);
        let file = file.to_str().expect("UTF-8");
        run("skopeo", &["copy", "-q", &format!("oci:{layout}"), &format!("{format}:{file}:box/{format}:1")]);
        cluster.ok(&["image", "load", file, "--name", &format!("box/{format}:1")]);
        runs(&cluster, &format!("box/{format}:1"));
    }
    let listed = cluster.ok(&["image", "ls"]);
    assert!(listed.contains("box/oci-archive:1"), "{listed}");
    cluster.ok(&["image", "rm", "box/oci-archive:1"]);
    assert!(!cluster.ok(&["image", "ls"]).contains("box/oci-archive:1"));
    cluster.end();
}
