//! An OCI image layout directory as a source of files: only what the documents name is copied.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{LoadError, Source, stage_error};
use crate::blob::{Staged, Staging};
use crate::durable::At;
use crate::unpack::open_in_root;

#[derive(Debug)]
pub(super) struct LayoutDir<'a> {
    dir: OwnedFd,
    path: &'a Path,
    staging: &'a mut Staging,
    limit_bytes: u64,
    /// Blobs that were copied already: images share layers.
    taken: BTreeMap<String, Staged>,
}

impl<'a> LayoutDir<'a> {
    pub(super) fn open(
        path: &'a Path,
        staging: &'a mut Staging,
        limit_bytes: u64,
    ) -> Result<LayoutDir<'a>, LoadError> {
        let dir: OwnedFd = File::open(path).at("open", path)?.into();
        let mut layout = LayoutDir { dir, path, staging, limit_bytes, taken: BTreeMap::new() };
        match layout.take("index.json")? {
            Some(_) => Ok(layout),
            None => Err(LoadError::NotALayout { path: path.to_owned() }),
        }
    }
}

impl Source for LayoutDir<'_> {
    /// Links are followed inside the layout only: an archive that was unpacked here must not make this process, which
    /// is root, read other files.
    fn take(&mut self, path: &str) -> Result<Option<Staged>, LoadError> {
        if let Some(staged) = self.taken.get(path) {
            return Ok(Some(staged.clone()));
        }
        let full = self.path.join(path);
        // A fifo must not make this wait for a writer.
        let file = match open_in_root(&self.dir, path.as_bytes(), OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(crate::durable::IoError::new("open", &full, errno).into()),
        };
        if !file.metadata().at("look at", &full)?.is_file() {
            return Ok(None);
        }
        let limit = self.limit_bytes;
        let staged =
            self.staging.add(file).map_err(|error| stage_error(error, &full.to_string_lossy(), limit))?;
        self.taken.insert(path.to_owned(), staged.clone());
        Ok(Some(staged))
    }
}
