//! Content-addressed files, and the staging area in which they are made.
//!
//! A blob appears under `blobs/sha256/<hex>` only by a rename of a file that was hashed while written and flushed
//! before. An equal blob that is already there is replaced by the new one: loading an image again heals a blob that
//! the disk damaged.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::digest::Hasher;
use crate::durable::{At, IoError};
use reference::Digest;

#[derive(Debug)]
pub(crate) struct Blobs {
    pub(crate) dir: PathBuf,
}

/// A directory below `tmp/` that goes away with this value, or at the next open after a crash.
#[derive(Debug)]
pub(crate) struct Staging {
    dir: PathBuf,
    next: u64,
    left_bytes: u64,
}

/// A file in a staging area, hashed but not yet flushed.
#[derive(Clone, Debug)]
pub(crate) struct Staged {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) path: PathBuf,
}

/// Who is to blame when a copy stops.
#[derive(Debug)]
pub(crate) enum StageError {
    Input(io::Error),
    Disk(IoError),
    TooLarge,
}

impl Blobs {
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    pub(crate) fn open(&self, digest: &Digest) -> Result<File, IoError> {
        let path = self.path(digest);
        File::open(&path).at("open", &path)
    }

    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }
}

impl Staging {
    /// `limit_bytes` bounds all files of this staging area together.
    pub(crate) fn create(dir: PathBuf, limit_bytes: u64) -> Result<Staging, IoError> {
        fs::create_dir(&dir).at("create", &dir)?;
        Ok(Staging { dir, next: 0, left_bytes: limit_bytes })
    }

    /// Copies `input` to its end into a new file.
    pub(crate) fn add(&mut self, mut input: impl Read) -> Result<Staged, StageError> {
        let mut file = self.create_file().map_err(StageError::Disk)?;
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let n = match input.read(&mut buffer) {
                Ok(0) => return Ok(file.finish()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(StageError::Input(error)),
            };
            file.take(&buffer[..n])?;
        }
    }

    /// A new file to write to piece by piece.
    pub(crate) fn create_file(&mut self) -> Result<StagedFile<'_>, IoError> {
        let path = self.dir.join(self.next.to_string());
        self.next += 1;
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o444).open(&path).at("create", &path)?;
        Ok(StagedFile { file, path, hash: Hasher::default(), left_bytes: &mut self.left_bytes })
    }
}

/// A file in a staging area while it is written.
#[derive(Debug)]
pub(crate) struct StagedFile<'a> {
    file: File,
    path: PathBuf,
    hash: Hasher,
    left_bytes: &'a mut u64,
}

impl StagedFile<'_> {
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        *self.left_bytes = self.left_bytes.checked_sub(bytes.len() as u64).ok_or(StageError::TooLarge)?;
        self.file.write_all(bytes).at("write", &self.path).map_err(StageError::Disk)?;
        self.hash.update(bytes);
        Ok(())
    }

    pub(crate) fn finish(self) -> Staged {
        let (digest, size) = self.hash.finish();
        Staged { digest, size, path: self.path }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // A staging area is flat. What cannot be removed now goes at the next open.
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "a staging area stays until the store is opened again");
        }
    }
}

impl Staged {
    pub(crate) fn open(&self) -> Result<File, IoError> {
        File::open(&self.path).at("open", &self.path)
    }

    /// Makes the content durable; its name is not yet.
    pub(crate) fn flush(&self) -> Result<(), IoError> {
        self.open()?.sync_data().at("flush", &self.path)
    }
}

/// Reads a small document whole; `None` if it is larger than any honest one.
pub(crate) fn read_document(path: &Path) -> Result<Option<Vec<u8>>, IoError> {
    const MAX_DOCUMENT_BYTES: u64 = 8 << 20;
    let mut bytes = Vec::new();
    let file = File::open(path).at("open", path)?;
    file.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes).at("read", path)?;
    Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= MAX_DOCUMENT_BYTES))
}
