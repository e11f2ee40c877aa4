//! The writable layer of a container: `upper` and `work` for overlayfs, on the same file system as each other.
//!
//! A snapshot appears by a rename, so it has both directories or is not there. It is not flushed: after a power
//! failure no container that used it runs any more.

use std::fs;
use std::path::PathBuf;

use crate::durable::{At, IoError, make_directory};
use crate::error::Error;
use crate::store::Store;
use crate::unpack::rename_new;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub upper: PathBuf,
    pub work: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be the id of a snapshot; use at most 200 letters, digits, \"_\", \".\" or \"-\", not a dot first"
)]
pub struct SnapshotIdError(pub String);

impl Store {
    /// Makes an empty snapshot. One that exists is an error and not reused: it holds what another container wrote.
    pub fn create_snapshot(&self, id: &str) -> Result<Snapshot, Error> {
        let path = self.snapshot_path(id)?;
        let made = self.inner.temporary("snapshot");
        make_directory(&made, 0o700)?;
        // The upper directory's mode becomes that of the container's root directory.
        make_directory(&made.join("upper"), 0o755)?;
        make_directory(&made.join("work"), 0o755)?;
        match rename_new(&made, &path) {
            Ok(()) => Ok(Snapshot { upper: path.join("upper"), work: path.join("work") }),
            Err(errno) => {
                self.inner.trash.discard(&made)?;
                if errno == rustix::io::Errno::EXIST {
                    return Err(Error::SnapshotExists { id: id.to_owned() });
                }
                Err(IoError::new("create", &path, errno).into())
            }
        }
    }

    /// A snapshot made before, for instance by an earlier process.
    pub fn snapshot(&self, id: &str) -> Result<Option<Snapshot>, Error> {
        let path = self.snapshot_path(id)?;
        Ok(path.exists().then(|| Snapshot { upper: path.join("upper"), work: path.join("work") }))
    }

    /// Removes a snapshot at once; its space is free a little later. `false` if there was none.
    ///
    /// The overlay on it has to be unmounted before, or the container sees its files go.
    pub fn remove_snapshot(&self, id: &str) -> Result<bool, Error> {
        let path = self.snapshot_path(id)?;
        Ok(self.inner.trash.discard(&path)?)
    }

    /// The ids of all snapshots, sorted.
    pub fn snapshots(&self) -> Result<Vec<String>, Error> {
        let dir = self.inner.root.join("snapshots");
        let mut ids = Vec::new();
        for entry in fs::read_dir(&dir).at("list", &dir)? {
            ids.push(entry.at("list", &dir)?.file_name().to_string_lossy().into_owned());
        }
        ids.sort();
        Ok(ids)
    }

    fn snapshot_path(&self, id: &str) -> Result<PathBuf, SnapshotIdError> {
        // Colons and commas would be separators in overlayfs's options.
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let good = (1..=200).contains(&id.len()) && !id.starts_with('.') && id.bytes().all(allowed);
        if good {
            Ok(self.inner.root.join("snapshots").join(id))
        } else {
            Err(SnapshotIdError(id.to_owned()))
        }
    }
}
