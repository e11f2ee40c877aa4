//! The few things that the folder asks of a file system: a trait, so that tests can crash between any two of them.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    Owner,
    All,
}

/// One directory, whose files are named. What is not synced may be lost by a crash: contents by `sync`, names by
/// `sync_names`.
pub(super) trait Disk: fmt::Debug + Send + Sync {
    /// `None` if there is none.
    fn read(&self, name: &str) -> io::Result<Option<Zeroizing<String>>>;
    /// The permission bits; `None` if there is no such file.
    fn mode(&self, name: &str) -> io::Result<Option<u32>>;
    /// A new file; one of that name is replaced.
    fn create(&self, name: &str, text: &str, readers: Readers) -> io::Result<()>;
    fn sync(&self, name: &str) -> io::Result<()>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn sync_names(&self) -> io::Result<()>;
}

#[derive(Debug)]
pub(super) struct HostDisk {
    path: PathBuf,
}

impl HostDisk {
    pub(super) fn open(path: &Path) -> io::Result<HostDisk> {
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            // Its name has to survive a crash as well.
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(HostDisk { path: path.to_owned() })
    }
}

impl Disk for HostDisk {
    fn read(&self, name: &str) -> io::Result<Option<Zeroizing<String>>> {
        let Some(mut file) = found(File::open(self.path.join(name)))? else { return Ok(None) };
        // Room for all of it at once, so that no part of a key stays behind in an outgrown buffer.
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        let mut text = Zeroizing::new(String::with_capacity(len + 1));
        file.read_to_string(&mut text)?;
        Ok(Some(text))
    }

    fn mode(&self, name: &str) -> io::Result<Option<u32>> {
        let metadata = found(fs::metadata(self.path.join(name)))?;
        Ok(metadata.map(|metadata| metadata.permissions().mode() & 0o777))
    }

    fn create(&self, name: &str, text: &str, readers: Readers) -> io::Result<()> {
        let path = self.path.join(name);
        // Never into a file that is there: it may have other readers.
        found(fs::remove_file(&path))?;
        let mode = match readers {
            Readers::Owner => 0o600,
            Readers::All => 0o644,
        };
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?.write_all(text.as_bytes())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        File::open(self.path.join(name))?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
