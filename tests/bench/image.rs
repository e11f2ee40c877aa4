//! The image that all orchestrators run: a static busybox, once as a root filesystem and once as a Docker archive of it.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub(crate) const BUSYBOX: &str = "/bin/busybox";
pub(crate) const NAME: &str = "bench/busybox:1";

#[derive(Debug)]
pub(crate) struct Image {
    folder: TempDir,
}

impl Image {
    pub(crate) fn make() -> Image {
        let folder = tempfile::Builder::new().prefix("wharf-bench-").tempdir().expect("a temporary folder");
        let image = Image { folder };
        let layer = layer().expect("busybox can be read");
        std::fs::write(image.root_filesystem(), &layer).expect("the layer can be written");
        std::fs::write(image.archive(), archive(&layer).expect("a tar in memory"))
            .expect("the archive can be written");
        image
    }

    /// For `docker import`.
    pub(crate) fn root_filesystem(&self) -> PathBuf {
        self.folder.path().join("rootfs.tar")
    }

    /// For `wharf image load`.
    pub(crate) fn archive(&self) -> PathBuf {
        self.folder.path().join("image.tar")
    }
}

fn layer() -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for directory in ["bin/", "dev/", "etc/", "proc/", "sys/", "tmp/"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        tar.append_data(&mut header, directory, std::io::empty())?;
    }
    tar.append_path_with_name(BUSYBOX, "bin/busybox")?;
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_mode(0o777);
    link.set_size(0);
    tar.append_link(&mut link, "bin/sleep", "busybox")?;
    tar.into_inner()
}

/// The least that is an image. Source: the Docker image specification v1.2.
fn archive(layer: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut diff_id = "sha256:".to_owned();
    for byte in Sha256::digest(layer) {
        let _ = write!(diff_id, "{byte:02x}");
    }
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"] }]);
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, Path::new(name), bytes)
    };
    add("manifest.json", manifest.to_string().as_bytes())?;
    add("config.json", config.to_string().as_bytes())?;
    add("layer.tar", layer)?;
    tar.into_inner()
}
