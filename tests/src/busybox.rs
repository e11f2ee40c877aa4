//! An image with busybox, as `docker save` would write it: the demo image has no shell to break things with.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::json;
use sha2::{Digest, Sha256};

/// The docker-archive; it says itself that it is `box:1`.
pub fn busybox_archive() -> Vec<u8> {
    let layer = layer();
    let digest: String = Sha256::digest(&layer).iter().map(|byte| format!("{byte:02x}")).collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": ["box:1"], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    add(&mut archive, "manifest.json", manifest.to_string().as_bytes(), 0o644);
    add(&mut archive, "config.json", config.to_string().as_bytes(), 0o644);
    add(&mut archive, "layer.tar", &layer, 0o644);
    archive.into_inner().expect("the archive is complete")
}

fn layer() -> Vec<u8> {
    let busybox = Path::new("/bin/busybox");
    let mode = fs::metadata(busybox).expect("busybox-static is installed").permissions().mode() & 0o777;
    let mut layer = tar::Builder::new(Vec::new());
    add(&mut layer, "bin/busybox", &fs::read(busybox).expect("busybox can be read"), mode);
    for applet in ["sh", "sleep", "cat", "echo", "mknod", "mount", "id"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        layer.append_link(&mut header, format!("bin/{applet}"), "busybox").expect("a link is added");
    }
    layer.into_inner().expect("the layer is complete")
}

fn add(archive: &mut tar::Builder<Vec<u8>>, path: &str, contents: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_size(contents.len() as u64);
    header.set_mode(mode);
    archive.append_data(&mut header, path, contents).expect("a file is added");
}
