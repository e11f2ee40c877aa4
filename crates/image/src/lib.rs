//! A node's images: content-addressed blobs, names, unpacked layers that containers share, their writable snapshots,
//! and the collection of what nobody needs.
//!
//! This crate knows OCI and Linux and nothing of a cluster. It blocks; async callers use a blocking thread.
//!
//! Invariants:
//! - No byte is used whose digest was not compared: blobs when they are loaded, layers again (uncompressed) when they are
//!   unpacked, documents whenever a process first reads them.
//! - Whatever is visible under its final name is complete: everything is made under `tmp/` and renamed. So a kill or a
//!   power failure at any instruction leaves a store that opens and works.
//! - Nothing in an image decides where something is written or read: the kernel resolves every path below a layer's
//!   directory.
//! - One process uses a store at a time.
//!
//! Start at [`Store`] (`store.rs` has the directory tree), then `load`, `prepare` and `unpack`. What operations cost:
//!
//! | operation | reads and writes | flushes |
//! |---|---|---|
//! | `load_*` | each file written and hashed once | one per blob, blob directory, index file and its directory |
//! | `prepare`, nothing unpacked | each blob read once, each file of it written | one `syncfs` per layer |
//! | `prepare`, all unpacked | one `getxattr` per layer (first time in a process: manifest and configuration) | none |
//! | `resolve`, `list` | none: the index is in memory | none |
//! | `create_snapshot`, `remove_snapshot` | three `mkdir` with their modes and a `rename`; a `rename` | none |
//! | `remove`, `collect_garbage` | one rename or unlink per thing | index file and its directory |

mod blob;
mod compression;
mod digest;
mod document;
mod durable;
mod error;
mod garbage;
mod index;
mod load;
mod merged;
mod prepare;
mod snapshot;
mod store;
mod tarball;
mod unpack;
mod user;

pub use document::ImageConfig;
pub use durable::IoError;
pub use error::Error;
pub use garbage::Freed;
pub use load::{FileContent, FileEntry, LoadError};
pub use prepare::Prepared;
pub use reference::{Digest, DigestError, Reference, ReferenceError, TaggedName};
pub use snapshot::{Snapshot, SnapshotIdError};
pub use store::{Image, Store};
pub use tarball::TarError;
pub use unpack::{Limits, Refusal, UnpackError};
pub use user::{User, UserError};
