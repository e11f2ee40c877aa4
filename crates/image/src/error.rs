//! What can go wrong with a store, each with what to do about it. Loading has its own: `load::LoadError`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::durable::IoError;
use crate::snapshot::SnapshotIdError;
use crate::unpack::UnpackError;
use crate::user::UserError;
use reference::Digest;
use reference::ReferenceError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the image store {} is in use by process {holder}; stop that one, or give this one another directory",
        root.display()
    )]
    Locked { root: PathBuf, holder: String },
    #[error(
        "the list of images {} is damaged; move the file away, start again and load the images again",
        path.display()
    )]
    DamagedIndex { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("image {digest} is not in the store; load it again")]
    NoSuchImage { digest: Digest },
    #[error("image {image}: the stored {what} {digest} is damaged or missing; load the image again")]
    DamagedBlob { image: String, what: &'static str, digest: Digest },
    #[error("image {image}: the stored {what} {digest} cannot be understood; load the image again")]
    BadDocument { image: String, what: &'static str, digest: Digest, source: serde_json::Error },
    #[error("image {image}: cannot unpack layer {layer}")]
    Unpack { image: String, layer: Digest, source: UnpackError },
    #[error("snapshot {id:?} exists already; remove it before making a new one")]
    SnapshotExists { id: String },
    #[error(transparent)]
    SnapshotId(#[from] SnapshotIdError),
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("unpacking layer {layer} came to an unexpected end; see the log, then try again")]
    Panicked { layer: Digest },
    /// What happened to another caller who was doing the same.
    #[error(transparent)]
    Shared(Arc<Error>),
}

impl Error {
    /// The error itself, also if it is shared with other callers.
    pub fn cause(&self) -> &Error {
        match self {
            Error::Shared(inner) => inner.cause(),
            other => other,
        }
    }
}
