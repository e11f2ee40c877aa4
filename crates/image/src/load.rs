//! Brings images into the store, from a stream or a directory.
//!
//! All ways end in the same three steps: the files are copied into a staging area and hashed on the way; the
//! documents say which of them make up which image, and every digest and size is compared; then [`commit`] makes the
//! chosen blobs durable and lists the images. Nothing of an image that fails any check is kept, and of an archive
//! with several images all are kept or none.
//!
//! Cost: every byte is written once (and read again only when unpacked); one `fdatasync` and one `rename` per blob, one
//! directory flush, and one durable replacement of `index.json` (two flushes). Blobs are flushed before the store's lock is
//! taken, so that a slow disk holds up nobody else.
//!
//! Start at [`Store::load_archive`]; `oci` and `docker` read the two kinds of documents.

mod archive;
mod docker;
mod import;
mod layout;
mod oci;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use import::{FileContent, FileEntry};

use crate::blob::{StageError, Staged, Staging, read_document};
use serde::Serialize;

use crate::document::{ConfigDocument, Descriptor, Platform, host_architecture};
use crate::durable::{At, IoError, sync_directory};
use crate::index::Listed;
use crate::store::{Image, Store};
use crate::tarball::TarError;
use reference::Digest;
use reference::{ReferenceError, TaggedName};

/// What overlayfs takes at most (OVL_MAX_STACK in fs/overlayfs/params.h).
const MAX_LAYERS: usize = 500;

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the archive is unreadable{}; make it again", seen_of(after))]
    Archive { after: Option<String>, source: TarError },
    #[error(
        "this is neither an OCI nor a Docker image archive: it has no index.json and no manifest.json, but {holds}. Use \
         the output of \"skopeo copy\", \"buildah push\", \"podman save\" or \"docker save\""
    )]
    NotAnImage { holds: String },
    #[error("{} is not an OCI image layout: it has no index.json", path.display())]
    NotALayout { path: PathBuf },
    #[error(
        "{file} is missing, although {named_by} names it; the image was copied incompletely: copy it again"
    )]
    Missing { file: String, named_by: String },
    #[error(
        "{file} has digest {found} where {expected} is expected; it was damaged on the way: copy it again"
    )]
    WrongDigest { file: String, expected: Digest, found: Digest },
    #[error(
        "{file} has {found} bytes where {expected} are expected; it was damaged on the way: copy it again"
    )]
    WrongSize { file: String, expected: u64, found: u64 },
    #[error("{file} cannot be understood; the image was made wrong")]
    BadDocument { file: String, source: serde_json::Error },
    #[error("{file} is too large for a document (more than 8 MiB); the image was made wrong")]
    DocumentTooLarge { file: String },
    #[error(
        "{file} is of type {media_type:?}, which is not a container image; only OCI and Docker v2 images are loaded"
    )]
    NotAContainerImage { file: String, media_type: String },
    #[error(
        "{file}: its layer {layer} is of type {media_type:?}; only tar, gzip and zstd layers can be unpacked"
    )]
    UnknownLayer { file: String, layer: Digest, media_type: String },
    #[error("{file} lists {layers} layers but its configuration {diff_ids}; the image was made wrong")]
    LayerCount { file: String, layers: usize, diff_ids: usize },
    #[error(
        "the image is for {offered}, but this node is linux/{}; get the image for this architecture",
        host_architecture()
    )]
    WrongPlatform { offered: String },
    #[error("{file} is nested deeper than any image index is")]
    TooDeep { file: String },
    #[error("the image has no name in the archive; give it one when loading it")]
    Unnamed,
    #[error(
        "one name was given, but the archive has {images} images ({}); load it without a name to keep theirs",
        names.join(", ")
    )]
    SeveralImages { images: usize, names: Vec<String> },
    #[error("the archive has no image in it")]
    Empty,
    #[error(
        "the archive holds more than {limit_bytes} bytes; if that is right, raise the limit of the image store"
    )]
    TooLarge { limit_bytes: u64 },
    #[error("the archive has more than {limit} files; no image archive is made of so many")]
    TooManyFiles { limit: usize },
    #[error("the names in the archive take more than {limit_bytes} bytes; no image archive has such names")]
    NamesTooLong { limit_bytes: usize },
    #[error(
        "{file} lists {layers} layers, but Linux cannot stack more than {limit}; build the image with fewer",
        limit = MAX_LAYERS
    )]
    TooManyLayers { file: String, layers: usize },
    #[error(
        "the archive has two images called {name}; give it one image of that name, or load them one by one"
    )]
    NameTwice { name: TaggedName },
    #[error("file {path:?} of the image to build: {problem}")]
    BadFile { path: String, problem: &'static str },
    #[error("cannot read {path}")]
    Source { path: String, source: io::Error },
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    Io(#[from] IoError),
}

fn seen_of(after: &Option<String>) -> String {
    after.as_ref().map(|path| format!(" after {path:?}")).unwrap_or_default()
}

/// Where the files of an image come from. Paths are relative, with plain slashes.
trait Source {
    /// Hands out a staged copy of a file, or `None` if there is no such file.
    fn take(&mut self, path: &str) -> Result<Option<Staged>, LoadError>;
}

/// An image whose parts are all staged and checked.
#[derive(Debug)]
struct Candidate {
    names: BTreeSet<TaggedName>,
    manifest: Staged,
    media_type: String,
    config: Staged,
    layers: Vec<Staged>,
    created: Option<String>,
    picked_from: Option<Digest>,
}

impl Store {
    /// Loads every image of an OCI or Docker archive, compressed or not, told apart by content.
    ///
    /// `name` replaces the name of the only image; without it the names in the archive count.
    pub fn load_archive(&self, input: impl Read, name: Option<&str>) -> Result<Vec<Image>, LoadError> {
        let name = name.map(str::parse).transpose()?;
        let mut staging = self.inner.staging()?;
        let mut files = archive::read(input, &mut staging, self.inner.limits.archive_bytes)?;
        // Docker writes both kinds of documents; the OCI ones say more.
        let candidates = if files.has("index.json") {
            oci::candidates(&mut files)?
        } else if files.has("manifest.json") {
            docker::candidates(&mut files, &mut staging, self.inner.limits.archive_bytes)?
        } else {
            return Err(LoadError::NotAnImage { holds: files.summary() });
        };
        self.commit(named(candidates, name)?)
    }

    /// Loads every image of an OCI image layout directory.
    pub fn load_layout(&self, dir: &Path, name: Option<&str>) -> Result<Vec<Image>, LoadError> {
        let name = name.map(str::parse).transpose()?;
        let mut staging = self.inner.staging()?;
        let mut files = layout::LayoutDir::open(dir, &mut staging, self.inner.limits.archive_bytes)?;
        let candidates = oci::candidates(&mut files)?;
        self.commit(named(candidates, name)?)
    }

    /// Makes the blobs durable, moves them into place and lists the images.
    fn commit(&self, candidates: Vec<Candidate>) -> Result<Vec<Image>, LoadError> {
        let inner = &self.inner;
        let mut blobs: BTreeMap<&Digest, &Staged> = BTreeMap::new();
        for candidate in &candidates {
            let parts = [&candidate.manifest, &candidate.config].into_iter().chain(&candidate.layers);
            blobs.extend(parts.map(|staged| (&staged.digest, staged)));
        }
        for staged in blobs.values() {
            staged.flush()?;
        }
        let mut state = inner.state();
        for (digest, staged) in &blobs {
            fs::rename(&staged.path, inner.blobs.path(digest)).at("keep", &staged.path)?;
        }
        sync_directory(&inner.blobs.dir)?;
        let mut index = state.index.clone();
        for candidate in &candidates {
            index.put(candidate.manifest.digest.clone(), candidate.listed());
        }
        inner.write_index(&mut state, index)?;
        Ok(candidates.iter().flat_map(Candidate::images).collect())
    }
}

impl Candidate {
    fn total_bytes(&self) -> u64 {
        self.manifest.size + self.config.size + self.layers.iter().map(|layer| layer.size).sum::<u64>()
    }

    fn listed(&self) -> Listed {
        Listed {
            names: self.names.clone(),
            media_type: self.media_type.clone(),
            manifest_bytes: self.manifest.size,
            total_bytes: self.total_bytes(),
            created: self.created.clone(),
            picked_from: self.picked_from.clone(),
        }
    }

    fn images(&self) -> Vec<Image> {
        let image = |name: &TaggedName| Image {
            name: name.to_string(),
            digest: self.manifest.digest.clone(),
            size_bytes: self.total_bytes(),
            created: self.created.clone(),
        };
        self.names.iter().map(image).collect()
    }
}

/// Gives the images their final names.
fn named(mut candidates: Vec<Candidate>, name: Option<TaggedName>) -> Result<Vec<Candidate>, LoadError> {
    let Some(first) = candidates.first() else { return Err(LoadError::Empty) };
    let Some(name) = name else {
        check_own_names(&candidates)?;
        return Ok(candidates);
    };
    // Several names of one image are still one image.
    let digest = first.manifest.digest.clone();
    if candidates.iter().any(|candidate| candidate.manifest.digest != digest) {
        let names = candidates.iter().flat_map(|candidate| match candidate.names.is_empty() {
            true => vec!["(no name)".to_owned()],
            false => candidate.names.iter().map(TaggedName::to_string).collect(),
        });
        let (images, names) = (candidates.len(), names.collect());
        return Err(LoadError::SeveralImages { images, names });
    }
    candidates.truncate(1);
    candidates[0].names = BTreeSet::from([name]);
    Ok(candidates)
}

/// Every image has a name, and no two different images have the same.
fn check_own_names(candidates: &[Candidate]) -> Result<(), LoadError> {
    let mut holders: BTreeMap<&TaggedName, &Digest> = BTreeMap::new();
    for candidate in candidates {
        if candidate.names.is_empty() {
            return Err(LoadError::Unnamed);
        }
        for name in &candidate.names {
            let holder = *holders.entry(name).or_insert(&candidate.manifest.digest);
            if *holder != candidate.manifest.digest {
                return Err(LoadError::NameTwice { name: name.clone() });
            }
        }
    }
    Ok(())
}

fn parse_document<T: serde::de::DeserializeOwned>(file: &str, staged: &Staged) -> Result<T, LoadError> {
    let too_large = || LoadError::DocumentTooLarge { file: file.to_owned() };
    let bytes = read_document(&staged.path)?.ok_or_else(too_large)?;
    serde_json::from_slice(&bytes).map_err(|source| LoadError::BadDocument { file: file.to_owned(), source })
}

/// What every image has to satisfy, whichever documents it came with.
fn check_config(file: &str, config: &ConfigDocument, layers: usize) -> Result<(), LoadError> {
    let diff_ids = config.rootfs.diff_ids.len();
    if layers != diff_ids {
        return Err(LoadError::LayerCount { file: file.to_owned(), layers, diff_ids });
    }
    if layers > MAX_LAYERS {
        return Err(LoadError::TooManyLayers { file: file.to_owned(), layers });
    }
    // Images made by hand may say nothing; then they are taken for this node's kind.
    let os = if config.os.is_empty() { "linux" } else { &config.os };
    let silent = config.architecture.is_empty();
    if os == "linux" && (silent || config.architecture == host_architecture()) {
        return Ok(());
    }
    Err(LoadError::WrongPlatform { offered: format!("{os}/{}", config.architecture) })
}

fn stage_error(error: StageError, path: &str, limit_bytes: u64) -> LoadError {
    match error {
        StageError::Input(source) => LoadError::Source { path: path.to_owned(), source },
        StageError::Disk(error) => LoadError::Io(error),
        StageError::TooLarge => LoadError::TooLarge { limit_bytes },
    }
}

fn platform_name(platform: &Platform) -> String {
    let variant = platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

/// A document that this store makes itself.
fn stage_json(staging: &mut Staging, document: &impl Serialize, limit: u64) -> Result<Staged, LoadError> {
    let file = || "a document of the image".to_owned();
    let bytes =
        serde_json::to_vec(document).map_err(|source| LoadError::BadDocument { file: file(), source })?;
    staging.add(&bytes[..]).map_err(|error| stage_error(error, &file(), limit))
}

fn describe(media_type: &str, staged: &Staged) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: staged.digest.clone(),
        size: staged.size,
        platform: None,
        annotations: BTreeMap::new(),
    }
}
