//! What the tests of the store share: a store in a temporary directory, tars written by hand, errors as text.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use image::{Digest, Image, Store};
use tempfile::TempDir;

/// A store that goes away with its directory.
pub struct Home {
    pub dir: TempDir,
    pub store: Store,
}

pub fn home() -> Home {
    let dir = tempfile::Builder::new().prefix("wharf-image-test-").tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    Home { dir, store }
}

impl Home {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// An error with its causes, one line, as the edge of a program prints it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += ": ";
        text += &cause.to_string();
        source = cause.source();
    }
    text
}

/// Runs a tool that the tests need. A missing tool is a failure, never a skip.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed by this test: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {}\n{stderr}", args.join(" "), output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Builds tars member by member, also such as no honest tool writes.
#[derive(Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn new() -> Tar {
        Tar::default()
    }

    pub fn member(mut self, kind: u8, path: &str, link: &str, mode: u32, data: &[u8]) -> Tar {
        let mut block = [0_u8; 512];
        assert!(path.len() <= 100 && link.len() <= 100);
        block[..path.len()].copy_from_slice(path.as_bytes());
        block[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
        block[136..148].copy_from_slice(b"00000000144\0");
        block[156] = kind;
        block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        seal(&mut block);
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// A member with any header, sealed by its checksum.
    pub fn raw(mut self, mut block: [u8; 512], data: &[u8]) -> Tar {
        seal(&mut block);
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, path: &str, data: &str) -> Tar {
        self.member(b'0', path, "", 0o644, data.as_bytes())
    }

    pub fn dir(self, path: &str) -> Tar {
        self.member(b'5', path, "", 0o755, b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Tar {
        self.member(b'2', path, target, 0o777, b"")
    }

    pub fn hard_link(self, path: &str, target: &str) -> Tar {
        self.member(b'1', path, target, 0o644, b"")
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length += 1;
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.member(b'x', "pax", "", 0o644, &data)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Writes an OCI layout by hand, any part of which a test may then spoil.
pub struct Layout {
    pub dir: PathBuf,
}

impl Layout {
    pub fn new(dir: PathBuf) -> Layout {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout { dir }
    }

    pub fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        fs::write(self.dir.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        digest
    }

    /// The manifest of an image with these layers (as stored, and the digest of their tars).
    pub fn image(&self, architecture: &str, layers: &[(&[u8], Digest)]) -> (Digest, usize) {
        let diff_ids: Vec<String> = layers.iter().map(|(_, diff_id)| format!("\"{diff_id}\"")).collect();
        let config = format!(
            r#"{{"architecture":"{architecture}","os":"linux","config":{{"Cmd":["/bin/sh"]}},
            "rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            diff_ids.join(",")
        );
        let config_digest = self.blob(config.as_bytes());
        let listed: Vec<String> = layers
            .iter()
            .map(|(bytes, _)| {
                let digest = self.blob(bytes);
                let size = bytes.len();
                format!(
                    r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{size}}}"#
                )
            })
            .collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":
            {{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{}}},
            "layers":[{}]}}"#,
            config.len(),
            listed.join(",")
        );
        (self.blob(manifest.as_bytes()), manifest.len())
    }

    pub fn index(&self, entries: &[String]) {
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        fs::write(self.dir.join("index.json"), text).unwrap();
    }

    /// The whole of a one-image layout.
    pub fn simple(dir: PathBuf, layers: &[Vec<u8>]) -> Layout {
        let layout = Layout::new(dir);
        let layers: Vec<(&[u8], Digest)> = layers.iter().map(|tar| (&tar[..], Digest::of(tar))).collect();
        let manifest = layout.image(architecture(), &layers);
        layout.index(&[entry(&manifest, "test:1")]);
        layout
    }
}

pub fn entry((digest, size): &(Digest, usize), name: &str) -> String {
    format!(
        r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{size},
        "annotations":{{"org.opencontainers.image.ref.name":"{name}"}}}}"#
    )
}

pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Loads an image made of these plain layers, bottom first.
pub fn load(home: &Home, layers: &[Vec<u8>]) -> Image {
    let dir = home.path(&format!("layout-{}", Digest::of(&layers.concat()).hex()));
    Layout::simple(dir.clone(), layers);
    home.store.load_layout(&dir, None).unwrap().remove(0)
}

/// Every file below `root`: kind, mode, owner and content, by path.
pub fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        for item in fs::read_dir(&dir).unwrap() {
            let path = item.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let kind = meta.file_type();
            let what = if kind.is_dir() {
                waiting.push(path.clone());
                "dir".to_owned()
            } else if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_char_device() {
                format!("char {:#x}", meta.rdev())
            } else if kind.is_file() {
                format!("{} {}", meta.len(), Digest::of(&fs::read(&path).unwrap()).hex().get(..8).unwrap())
            } else {
                "special".to_owned()
            };
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            found.insert(name, format!("{:o} {}:{} {what}", meta.mode() & 0o7777, meta.uid(), meta.gid()));
        }
    }
    found
}

/// A mount that goes away with this value.
pub struct Mount(pub PathBuf);

impl Mount {
    pub fn overlay(layers: &[PathBuf], upper: &Path, work: &Path, at: PathBuf) -> Mount {
        fs::create_dir_all(&at).unwrap();
        let lower: Vec<&str> = layers.iter().map(|layer| layer.to_str().unwrap()).collect();
        let options =
            format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), upper.display(), work.display());
        run("mount", &["-t", "overlay", "overlay", "-o", &options, at.to_str().unwrap()]);
        Mount(at)
    }

    pub fn tmpfs(at: PathBuf, size: &str) -> Mount {
        fs::create_dir_all(&at).unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode=755"), "tmpfs", at.to_str().unwrap()]);
        Mount(at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        if !std::thread::panicking() {
            assert!(done.is_ok_and(|status| status.success()), "{} stays mounted", self.0.display());
        }
    }
}
