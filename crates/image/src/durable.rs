//! Writing so that a crash at any instruction leaves the old or the new, and removing so that nobody waits.
//!
//! Removal renames into `trash/` (one system call, atomic) and a background thread deletes from there. What a crash
//! leaves in `trash/` is deleted after the next open.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// A system call on a file of the store, or of the caller, that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}{}", path.display(), advice(source))]
pub struct IoError {
    pub doing: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl IoError {
    pub(crate) fn new(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> IoError {
        IoError { doing, path: path.to_owned(), source: source.into() }
    }
}

/// What to do about the causes that have one well-known cure.
pub(crate) fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT) => {
            " (the disk is full and nothing was kept: free space or remove images, then try again)"
        }
        Some(Errno::ROFS) => " (the file system is read-only: put the store on a writable one)",
        Some(Errno::PERM | Errno::ACCESS) => " (the image store has to be used by root)",
        Some(Errno::OPNOTSUPP) => {
            " (the file system lacks what overlayfs needs: put the store on ext4, xfs or btrfs)"
        }
        _ => "",
    }
}

/// Says what was being done to which path when a call failed.
pub(crate) trait At<T> {
    fn at(self, doing: &'static str, path: &Path) -> Result<T, IoError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, doing: &'static str, path: &Path) -> Result<T, IoError> {
        self.map_err(|error| IoError::new(doing, path, error))
    }
}

/// Replaces `path` by `bytes`: after a crash it is the old or the new file, whole. Nobody else has `tmp`.
pub(crate) fn replace_file(path: &Path, bytes: &[u8], tmp: &Path) -> Result<(), IoError> {
    durable_file::replace_from(tmp, path, bytes).at("replace", path)
}

pub(crate) fn sync_directory(path: &Path) -> Result<(), IoError> {
    File::open(path).and_then(|dir| dir.sync_all()).at("flush", path)
}

/// Makes a directory with exactly this mode, whatever the umask; one that exists is brought to the mode.
pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<(), IoError> {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(path).at("create", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("set the mode of", path)
}

/// Where removed things go, and the thread that empties it.
#[derive(Debug)]
pub(crate) struct Trash {
    dir: PathBuf,
    next: AtomicU64,
    wake: Option<Sender<()>>,
}

impl Trash {
    /// Opens the trash and starts deleting what an earlier process left in it.
    pub(crate) fn open(dir: PathBuf) -> Result<Trash, IoError> {
        make_directory(&dir, 0o700)?;
        let numbers = fs::read_dir(&dir).at("list", &dir)?.filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.parse::<u64>().ok()
        });
        let next = numbers.max().map_or(0, |highest| highest + 1);
        let (wake, woken) = mpsc::channel();
        let emptied = dir.clone();
        let work = move || {
            while let Ok(()) = woken.recv() {
                // Everything asked for so far is done by one pass.
                while woken.try_recv().is_ok() {}
                if let Err(error) = empty(&emptied) {
                    tracing::warn!(%error, cause = %error.source, "removed images and snapshots still take space");
                }
            }
        };
        let spawned = thread::Builder::new().name("image-trash".to_owned()).spawn(work);
        // Without a thread the trash is emptied by whoever fills it.
        let wake = spawned.ok().map(|_| wake);
        let trash = Trash { dir, next: AtomicU64::new(next), wake };
        trash.empty_soon()?;
        Ok(trash)
    }

    /// Moves `path` out of sight at once; `false` if there was nothing. The space is free a little later.
    pub(crate) fn discard(&self, path: &Path) -> Result<bool, IoError> {
        let target = self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        match fs::rename(path, &target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(IoError { doing: "remove", path: path.to_owned(), source }),
        }
        self.empty_soon()?;
        Ok(true)
    }

    fn empty_soon(&self) -> Result<(), IoError> {
        match &self.wake {
            // The thread lives as long as the sender.
            Some(wake) => wake.send(()).map_err(io::Error::other).at("empty", &self.dir),
            None => empty(&self.dir),
        }
    }
}

/// Deletes everything in `dir`, with constant stack and descriptors.
///
/// What lies there was made by images and containers, so a tree may be deep enough to break a recursive walk. A
/// directory inside a directory is therefore first moved up into `dir` itself, and deleted in its turn.
fn empty(dir: &Path) -> Result<(), IoError> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::open(dir, flags, Mode::empty()).at("open", dir)?;
    let mut waiting = names_in(&top).at("list", dir)?;
    let mut moved = 0_u64;
    while let Some(name) = waiting.pop() {
        if unlink(&top, &name).at("remove", dir)? {
            continue;
        }
        let inner = match rustix::fs::openat(&top, name.as_slice(), flags, Mode::empty()) {
            Ok(inner) => inner,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error).at("open", dir),
        };
        for child in names_in(&inner).at("list", dir)? {
            if unlink(&inner, &child).at("remove", dir)? {
                continue;
            }
            waiting.extend(move_up(&inner, &child, &top, &mut moved).at("remove", dir)?);
        }
        match rustix::fs::unlinkat(&top, name.as_slice(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error).at("remove", dir),
        }
    }
    Ok(())
}

/// Moves a directory out of `inner` into `top` and says what it is called there; `None` if it is gone.
fn move_up(inner: &OwnedFd, child: &[u8], top: &OwnedFd, moved: &mut u64) -> Result<Option<Vec<u8>>, Errno> {
    loop {
        // Not a number, so that it never meets one given out by `discard`. It may meet what an interrupted deletion left.
        let up = format!("up-{moved}").into_bytes();
        *moved += 1;
        match rustix::fs::renameat_with(inner, child, top, up.as_slice(), RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(Some(up)),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Removes a non-directory or an empty directory; `false` for a directory with content.
fn unlink(dir: &impl std::os::fd::AsFd, name: &[u8]) -> Result<bool, Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error),
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

fn names_in(dir: &impl std::os::fd::AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_deletion_is_taken_up() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["3/a/b", "3/c/d", "up-0/e/f", "up-1"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        empty(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// Deeper than a path may be long and than descriptors may be open: what a hostile container can make.
    #[test]
    fn a_very_deep_tree_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut here = rustix::fs::open(dir.path(), flags, Mode::empty()).unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&here, "d", Mode::from_raw_mode(0o700)).unwrap();
            rustix::fs::openat(&here, "file", OFlags::CREATE, Mode::from_raw_mode(0o600)).unwrap();
            here = rustix::fs::openat(&here, "d", flags, Mode::empty()).unwrap();
        }
        drop(here);
        empty(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
