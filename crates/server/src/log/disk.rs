//! The few things the log asks of a file system: a trait, so that tests can crash between any two of them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{AtFlags, FlockOperation, StatxFlags, flock, statx};

use super::OpenError;

/// One directory. Names are plain file names in it. Clones are the same directory.
///
/// What is not synced may be lost by a crash: data by `sync`, names by `sync_names`.
pub trait Disk: Clone + Send + 'static {
    type File: DiskFile;

    fn list(&self) -> io::Result<Vec<String>>;
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// A new, empty file; one of that name is replaced.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    fn open(&self, name: &str) -> io::Result<Self::File>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    fn sync_names(&self) -> io::Result<()>;
}

pub trait DiskFile: Send {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// All that was written is durable, and so is the file's length.
    fn sync(&mut self) -> io::Result<()>;
}

/// A real directory, locked against other servers for as long as any clone lives.
#[derive(Clone, Debug)]
pub struct HostDisk {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    directory: File,
    _lock: File,
}

const LOCK: &str = "lock";

impl HostDisk {
    /// Makes the directory where there is none (for this user alone: the log holds secrets), and locks it.
    pub fn open(path: &Path) -> Result<HostDisk, OpenError> {
        let shown = path.display().to_string();
        create_durably(path).map_err(OpenError::io(&shown, "created"))?;
        let directory = File::open(path).map_err(OpenError::io(&shown, "opened"))?;
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(|source| lock_refused(&shown, source))?;
        lock_or_name_holder(&lock, &shown)?;
        Ok(HostDisk { inner: Arc::new(Inner { path: path.to_owned(), directory, _lock: lock }) })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.inner.path.join(name)
    }
}

/// A new directory is lost in a crash, with all that is in it, as long as its parent is not synced.
fn create_durably(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_durably(parent)?;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    File::open(parent)?.sync_all()
}

fn lock_refused(dir: &str, source: io::Error) -> OpenError {
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly { dir: dir.to_owned(), source },
        _ => OpenError::io(LOCK, "opened")(source),
    }
}

fn lock_or_name_holder(mut lock: &File, dir: &str) -> Result<(), OpenError> {
    match flock(lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            // Only for the message; without it the message is shorter.
            let _ = lock.read_to_string(&mut holder);
            return Err(OpenError::Locked { dir: dir.to_owned(), holder });
        }
        Err(error) => return Err(OpenError::io(LOCK, "locked")(error.into())),
    }
    let named = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
    named.map_err(OpenError::io(LOCK, "written"))
}

impl Disk for HostDisk {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.inner.path)?;
        // A name that is not UTF-8 is none of ours.
        entries.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default())).collect()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(name))
    }

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.path(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.inner.directory.sync_all()
    }
}

impl DiskFile for File {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    /// fdatasync(2): it leaves out the times of the file, and nothing that is needed to read the data back.
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()?;
        // What is only in a file that has no name any more is gone with this process: it must not be acknowledged. Nothing
        // else is asked: once a file's times were looked at, Linux 6.13 and later note the next write's at once, and each
        // fdatasync would write the inode as well.
        match statx(&*self, "", AtFlags::EMPTY_PATH, StatxFlags::NLINK)?.stx_nlink {
            0 => Err(io::Error::other("somebody removed the file")),
            _ => Ok(()),
        }
    }
}
