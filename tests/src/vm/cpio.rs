//! An initramfs: what a virtual machine finds as its file system, in the one format that the kernel unpacks.
//!
//! The format is "newc" of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst: for each entry a
//! header of 13 numbers in eight hexadecimal digits, the path, the contents, the last two padded to four bytes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::Command,
};

/// The files by their path, without the leading slash. Sorted, so that a folder comes before what is in it.
#[derive(Clone, Debug, Default)]
pub struct Initramfs {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug)]
enum Entry {
    Folder,
    /// A file of the host, read when the archive is written.
    Copy(PathBuf),
    Text {
        mode: u32,
        contents: Vec<u8>,
    },
    Link(String),
    Character {
        major: u32,
        minor: u32,
    },
}

/// The file types of `stat`, see inode(7).
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

impl Initramfs {
    pub fn folder(&mut self, path: &str) {
        self.put(path, Entry::Folder);
    }

    pub fn file(&mut self, path: &str, mode: u32, contents: impl Into<Vec<u8>>) {
        self.put(path, Entry::Text { mode, contents: contents.into() });
    }

    pub fn link(&mut self, path: &str, target: &str) {
        self.put(path, Entry::Link(target.to_owned()));
    }

    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.put(path, Entry::Character { major, minor });
    }

    /// A file of the host, executable.
    pub fn copy(&mut self, path: &str, from: &Path) {
        self.put(path, Entry::Copy(from.to_owned()));
    }

    /// A program of the host and the libraries that it is linked with.
    pub fn program(&mut self, path: &str, from: &Path) {
        self.copy(path, from);
        for library in libraries(from) {
            let inside = library.to_string_lossy().into_owned();
            self.copy(&inside, &library);
        }
    }

    fn put(&mut self, path: &str, entry: Entry) {
        let path = path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            self.entries.entry(path[..end].to_owned()).or_insert(Entry::Folder);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    pub fn write(&self, to: &Path) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(to)?);
        for (inode, (path, entry)) in self.entries.iter().enumerate() {
            let (mode, device, contents) = match entry {
                Entry::Folder => (FOLDER | 0o755, (0, 0), Vec::new()),
                Entry::Copy(from) => (FILE | 0o755, (0, 0), read(from)?),
                Entry::Text { mode, contents } => (FILE | mode, (0, 0), contents.clone()),
                Entry::Link(target) => (LINK | 0o777, (0, 0), target.clone().into_bytes()),
                Entry::Character { major, minor } => (CHARACTER | 0o600, (*major, *minor), Vec::new()),
            };
            // Inode numbers start at 1: files with the same one would be hard links.
            write_entry(&mut out, inode as u32 + 1, path, mode, device, &contents)?;
        }
        write_entry(&mut out, 0, "TRAILER!!!", 0, (0, 0), &[])?;
        out.flush()
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn write_entry(
    out: &mut impl Write,
    inode: u32,
    path: &str,
    mode: u32,
    device: (u32, u32),
    contents: &[u8],
) -> io::Result<()> {
    let size = u32::try_from(contents.len()).map_err(io::Error::other)?;
    let path_size = path.len() as u32 + 1;
    // inode, mode, uid, gid, links, mtime, size, device of the file (2), device it is (2), size of the path, checksum
    let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, path_size, 0];
    write!(out, "070701")?;
    for field in fields {
        write!(out, "{field:08x}")?;
    }
    const HEADER: u32 = 6 + 13 * 8;
    out.write_all(path.as_bytes())?;
    out.write_all(&[0])?;
    out.write_all(padding(HEADER + path_size))?;
    out.write_all(contents)?;
    out.write_all(padding(size))
}

fn padding(written: u32) -> &'static [u8] {
    &[0; 3][..(4 - written as usize % 4) % 4]
}

/// What the dynamic linker would load for it; nothing for a static program.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd, of libc-bin, can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    text.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another program reads the archive.
    #[test]
    fn busybox_unpacks_what_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut initramfs = Initramfs::default();
        initramfs.file("/etc/deep/odd", 0o640, "12345");
        initramfs.file("/etc/empty", 0o644, "");
        initramfs.link("/link", "etc/deep/odd");
        initramfs.folder("/mnt");
        initramfs.write(&folder.path().join("archive")).expect("the archive is written");
        let unpacked = Command::new("sh")
            .args([
                "-c",
                "busybox cpio -id < archive && cat link etc/empty && stat -c %a etc/deep/odd && ls -d mnt",
            ])
            .current_dir(folder.path())
            .output()
            .expect("a shell");
        let seen = String::from_utf8_lossy(&unpacked.stdout).into_owned();
        assert_eq!(seen, "12345640\nmnt\n", "{unpacked:?}");
    }
}
