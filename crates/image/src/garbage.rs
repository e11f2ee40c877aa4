//! Removes what no name, no container and nobody in this process needs.
//!
//! Order: first the shortened list of images is written durably, then blobs are unlinked and layers renamed away. A
//! crash in between leaves blobs that nothing lists, and the next collection takes them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::durable::{At, IoError};
use crate::error::Error;
use crate::index::{Index, Listed};
use crate::store::{Inner, State, Store};
use reference::Digest;

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    pub images: usize,
    pub blobs: usize,
    pub layers: usize,
    /// Bytes of the removed blobs. Those of the unpacked layers come on top; counting them would mean walking them.
    pub blob_bytes: u64,
}

#[derive(Debug, Default)]
struct Needed {
    blobs: BTreeSet<Digest>,
    layers: BTreeSet<Digest>,
}

impl Store {
    /// Removes every image that has no name and whose manifest is neither in `in_use` nor prepared in this process.
    ///
    /// `in_use` has to name the images of all containers that live on from before this process started. If a
    /// manifest that is needed cannot be read, nothing is removed: what it needs is unknown.
    pub fn collect_garbage(&self, in_use: &BTreeSet<Digest>) -> Result<Freed, Error> {
        let inner = &self.inner;
        // Documents are read outside the lock. If an image arrives meanwhile, its are read in another round.
        let (mut state, index, needed) = loop {
            inner.read_kept(in_use)?;
            let state = inner.state();
            let mut index = state.index.clone();
            index.retain(|digest, listed| state.keeps(digest, listed, in_use));
            if let Some(needed) = state.needed(&index) {
                break (state, index, needed);
            }
        };
        let images = state.index.iter().count() - index.iter().count();
        if images > 0 {
            inner.write_index(&mut state, index)?;
        }
        let kept: BTreeSet<Digest> = state.index.iter().map(|(digest, _)| digest.clone()).collect();
        state.parsed.retain(|digest, _| kept.contains(digest));
        let mut freed = Freed { images, ..Freed::default() };
        inner.remove_blobs(&needed, &mut freed)?;
        inner.remove_layers(&needed, &mut freed)?;
        Ok(freed)
    }
}

impl State {
    fn keeps(&self, digest: &Digest, listed: &Listed, in_use: &BTreeSet<Digest>) -> bool {
        !listed.names.is_empty() || in_use.contains(digest) || self.pins.contains_key(digest)
    }

    /// What the images of an index are made of; `None` if one of them was not read yet.
    fn needed(&self, index: &Index) -> Option<Needed> {
        let mut needed = Needed::default();
        for (digest, _) in index.iter() {
            let parsed = self.parsed.get(digest)?;
            needed.blobs.extend([digest.clone(), parsed.config_digest.clone()]);
            needed.blobs.extend(parsed.layers.iter().map(|layer| layer.blob.clone()));
            needed.layers.extend(parsed.layers.iter().map(|layer| layer.diff_id.clone()));
        }
        Some(needed)
    }
}

impl Inner {
    /// Brings the documents of all images that stay into memory.
    fn read_kept(&self, in_use: &BTreeSet<Digest>) -> Result<(), Error> {
        let kept: Vec<Digest> = {
            let state = self.state();
            let kept = state.index.iter().filter(|(digest, listed)| state.keeps(digest, listed, in_use));
            kept.map(|(digest, _)| digest.clone()).collect()
        };
        for digest in &kept {
            match self.parsed(digest) {
                // Another collection was faster.
                Ok(_) | Err(Error::NoSuchImage { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn remove_blobs(&self, needed: &Needed, freed: &mut Freed) -> Result<(), IoError> {
        for path in unneeded(&self.blobs.dir, &needed.blobs)? {
            freed.blob_bytes += fs::metadata(&path).at("look at", &path)?.len();
            fs::remove_file(&path).at("remove", &path)?;
            freed.blobs += 1;
        }
        Ok(())
    }

    fn remove_layers(&self, needed: &Needed, freed: &mut Freed) -> Result<(), IoError> {
        let layers = self.root.join("layers");
        for path in unneeded(&layers, &needed.layers)? {
            if self.trash.discard(&path)? {
                freed.layers += 1;
            }
        }
        Ok(())
    }
}

/// Everything in `dir` that is not named after a needed digest.
fn unneeded(dir: &Path, needed: &BTreeSet<Digest>) -> Result<Vec<PathBuf>, IoError> {
    let needed: BTreeSet<&str> = needed.iter().map(Digest::hex).collect();
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).at("list", dir)? {
        let entry = entry.at("list", dir)?;
        if !entry.file_name().to_str().is_some_and(|name| needed.contains(name)) {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}
