//! Turns the tar stream of a layer into a directory that overlayfs can use as a lower layer.
//!
//! A layer comes from a stranger, so:
//! - every path is resolved by the kernel below the layer's own directory (`openat2`, see [`tree`]); `..` is refused;
//! - owners, modes (setuid included), times, hard links, symbolic links, fifos and holes are kept;
//! - of extended attributes `user.*` and `security.capability` are kept. Everything else is dropped with a warning,
//!   above all `trusted.overlay.*`, with which a layer could point overlayfs at other directories;
//! - device nodes are dropped with a warning: containers get their own `/dev`, images made with debootstrap carry
//!   nodes that nobody misses, and a character device 0:0 would be a whiteout that no one wrote down as such;
//! - the number of entries and the unpacked size are bounded (see [`Limits`]).
//!
//! Whiteouts (`.wh.name`) become character devices 0:0 and opaque marks (`.wh..wh..opq`) the attribute
//! `trusted.overlay.opaque`, as the overlayfs documentation of the kernel has it. They hide what lower layers have and
//! never what this layer itself brings, in whichever order the archive lists the two (OCI image spec, layer, "Whiteouts").
//!
//! Nothing here is flushed and nothing is renamed: the directory means nothing until `prepare` says so.

mod entry_path;
mod tree;
mod write;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::digest::Hashing;
use crate::durable::advice;
use crate::tarball::{Kind, Member, Members, TarError, shown};
use entry_path::{EntryPath, MAX_PATH_BYTES, Role};
use reference::Digest;
use tree::{Place, Tree};

pub(crate) use tree::{OPAQUE_XATTR, is_whiteout, open_in_root, rename_new};

/// How much a layer or an archive may ask for before it is taken for a decompression bomb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one unpacked layer, with headers, and holes counted as if written.
    pub layer_bytes: u64,
    /// Files, directories and links of one layer.
    pub layer_entries: u64,
    /// Bytes of the paths that have to be remembered until a layer is complete: of directories and left-out devices.
    pub layer_path_bytes: u64,
    /// Bytes of everything in one archive that is loaded, after its outer compression.
    pub archive_bytes: u64,
}

impl Default for Limits {
    /// Above the largest images in use (machine learning, about 20 GB a layer), far below what fills a large disk.
    fn default() -> Limits {
        Limits {
            layer_bytes: 64 << 30,
            layer_entries: 2_000_000,
            layer_path_bytes: 256 << 20,
            archive_bytes: 128 << 30,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("{}", place_in_stream(after))]
    Stream { after: Option<String>, source: TarError },
    #[error("entry {path:?}: {problem}")]
    Refused { path: String, problem: Refusal },
    #[error("entry {path:?}: cannot {doing}{}", advice(source))]
    Write { path: String, doing: &'static str, source: io::Error },
    #[error(
        "entry {path:?}: the layer would unpack to more than {limit_bytes} bytes; if it really is that large, raise \
         the limit of the image store"
    )]
    TooLarge { path: String, limit_bytes: u64 },
    #[error(
        "entry {path:?}: the layer has more than {limit} entries; if it really has that many, raise the limit of the \
         image store"
    )]
    TooManyEntries { path: String, limit: u64 },
    #[error(
        "entry {path:?}: the paths of the layer's directories take more than {limit_bytes} bytes; if they really do, raise \
         the limit of the image store"
    )]
    PathsTooLong { path: String, limit_bytes: u64 },
    #[error(
        "its content has digest {found} where the image says {expected}; the image was built or copied wrong: load it \
         again from a good source"
    )]
    WrongContent { expected: Digest, found: Digest },
}

fn place_in_stream(after: &Option<String>) -> String {
    match after {
        Some(path) => format!("its tar stream is unreadable after entry {path:?}; load the image again"),
        None => "its tar stream is unreadable from the start; load the image again".to_owned(),
    }
}

/// Why an entry is not written although the archive is well-formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the path has a \"..\" in it, which could lead out of the image; refused")]
    DotDot,
    #[error("the path has a zero byte in it; refused")]
    ZeroByte,
    #[error("a path of more than {MAX_PATH_BYTES} bytes, which Linux cannot name; refused")]
    TooLong,
    #[error("a whiteout that names nothing, or that is used as a directory; refused")]
    BadWhiteout,
    #[error("the root of the layer has to be a directory; refused")]
    RootNotADirectory,
    #[error("{0:?} on its way is neither a directory nor a link to one inside the layer; refused")]
    ParentNotADirectory(String),
    #[error("the hard link points to {0:?}, which this layer does not have (yet)")]
    LinkTargetMissing(String),
    #[error("the hard link points to {0:?}, which is a directory")]
    LinkToDirectory(String),
    #[error("owner {0} is not a user or group number that Linux has")]
    BadOwner(u64),
    #[error("the symbolic link has no target")]
    EmptyLink,
}

/// What was left out of an unpacked layer, for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) devices: u64,
    /// Names of attributes: of many different ones the first few.
    pub(crate) xattrs: BTreeSet<String>,
}

impl Dropped {
    const NAMED: usize = 16;

    fn xattr(&mut self, name: &[u8]) {
        if self.xattrs.len() < Dropped::NAMED {
            // Linux knows none longer than 255 bytes; a layer may hold any.
            self.xattrs.insert(String::from_utf8_lossy(&name[..name.len().min(255)]).into_owned());
        }
    }
}

#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) diff_id: Digest,
    pub(crate) dropped: Dropped,
}

/// Unpacks a layer, compressed or not, into the empty directory `root`.
///
/// Directories that later entries replace are moved to `replaced`, so that nothing is walked here.
pub(crate) fn unpack(
    layer: impl Read,
    root: OwnedFd,
    replaced: OwnedFd,
    limits: &Limits,
) -> Result<Unpacked, UnpackError> {
    let at_start = |error| UnpackError::Stream { after: None, source: TarError::Read(error) };
    let plain = crate::compression::decompress(layer).map_err(at_start)?;
    let exhausted = Rc::new(Cell::new(false));
    let bounded = Bounded { inner: plain, left: limits.layer_bytes, exhausted: Rc::clone(&exhausted) };
    let mut hashing = Hashing::new(bounded);
    let mut unpacker = Unpacker {
        tree: Tree::new(root, replaced),
        limits: *limits,
        entries: 0,
        logical_bytes: 0,
        path_bytes: 0,
        current: None,
        directories: BTreeMap::new(),
        dropped_devices: BTreeSet::new(),
        dropped: Dropped::default(),
        buffer: vec![0; 128 * 1024],
    };
    unpacker.run(&mut hashing).map_err(|error| match error {
        // The limit shows up as a failed read; say what it was.
        UnpackError::Stream { .. } if exhausted.get() => unpacker.too_large(),
        error => error,
    })?;
    let (diff_id, _) = hashing.finish();
    Ok(Unpacked { diff_id, dropped: unpacker.dropped })
}

struct Unpacker {
    tree: Tree,
    limits: Limits,
    entries: u64,
    logical_bytes: u64,
    /// Of what is in `directories` and `dropped_devices`.
    path_bytes: u64,
    /// The entry being written, for errors.
    current: Option<String>,
    /// Times of directories, set last because every file made in one changes them.
    directories: BTreeMap<Vec<u8>, (i64, u32)>,
    /// Hard links to a dropped device are dropped with it.
    dropped_devices: BTreeSet<Vec<u8>>,
    dropped: Dropped,
    buffer: Vec<u8>,
}

impl Unpacker {
    fn run(&mut self, input: &mut impl Read) -> Result<(), UnpackError> {
        let mut members = Members::new(input);
        while let Some(member) = members.next().map_err(|error| self.stream(error))? {
            let path = shown(&member.path);
            self.charge(&member, &path)?;
            self.current = Some(path);
            self.entry(&member, &mut members)?;
        }
        // Bytes after the end mark belong to the content that the diff id names.
        members.drain().map_err(|error| self.stream(error))?;
        self.set_directory_times()
    }

    fn charge(&mut self, member: &Member, path: &str) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > self.limits.layer_entries {
            return Err(UnpackError::TooManyEntries {
                path: path.to_owned(),
                limit: self.limits.layer_entries,
            });
        }
        self.logical_bytes = self.logical_bytes.saturating_add(member.size);
        if self.logical_bytes > self.limits.layer_bytes {
            return Err(UnpackError::TooLarge {
                path: path.to_owned(),
                limit_bytes: self.limits.layer_bytes,
            });
        }
        Ok(())
    }

    fn entry(&mut self, member: &Member, members: &mut Members<impl Read>) -> Result<(), UnpackError> {
        let (path, role) = EntryPath::parse(&member.path).map_err(|problem| self.refused(problem))?;
        match role {
            Role::Root if member.kind == Kind::Directory => {
                let root = self.tree.root().map_err(|error| self.failed(error))?;
                return self.directory_metadata(&root, member, &path);
            }
            Role::Root => return Err(self.refused(Refusal::RootNotADirectory)),
            // Bookkeeping of aufs that old Docker versions left in layers.
            Role::AufsBookkeeping => return Ok(()),
            Role::Opaque => {
                let parent = self.tree.parent(&path).map_err(|error| self.failed(error))?;
                return tree::set_opaque(&parent).map_err(|error| self.failed(error));
            }
            Role::Whiteout => {
                let place = self.tree.place(&path).map_err(|error| self.failed(error))?;
                return self.tree.whiteout(&place).map_err(|error| self.failed(error));
            }
            Role::Plain => {}
        }
        let place = self.tree.place(&path).map_err(|error| self.failed(error))?;
        match member.kind {
            Kind::File => self.file(&place, member, members),
            Kind::Directory => self.directory(&place, member, &path),
            Kind::Symlink => self.symlink(&place, member),
            Kind::HardLink => self.hard_link(&place, member, &path),
            Kind::Fifo => self.fifo(&place, member),
            Kind::CharDevice | Kind::BlockDevice => {
                self.dropped.devices += 1;
                self.drop_device(&path)
            }
        }
    }

    fn drop_device(&mut self, path: &EntryPath) -> Result<(), UnpackError> {
        self.charge_path(path)?;
        self.dropped_devices.insert(path.bytes().to_vec());
        Ok(())
    }

    /// A layer of two million long paths must not take the memory of the host.
    fn charge_path(&mut self, path: &EntryPath) -> Result<(), UnpackError> {
        self.path_bytes += path.bytes().len() as u64;
        let limit_bytes = self.limits.layer_path_bytes;
        if self.path_bytes > limit_bytes {
            return Err(UnpackError::PathsTooLong { path: self.path(), limit_bytes });
        }
        Ok(())
    }

    fn hard_link(&mut self, place: &Place, member: &Member, path: &EntryPath) -> Result<(), UnpackError> {
        let (target, role) = EntryPath::parse(&member.link).map_err(|problem| self.refused(problem))?;
        if role != Role::Plain {
            return Err(self.refused(Refusal::LinkTargetMissing(target.to_string())));
        }
        if self.dropped_devices.contains(target.bytes()) {
            return self.drop_device(path);
        }
        self.tree.hard_link(place, &target).map_err(|error| self.failed(error))
    }

    fn set_directory_times(&mut self) -> Result<(), UnpackError> {
        for (path, (seconds, nanos)) in std::mem::take(&mut self.directories) {
            // A directory that a later entry replaced is gone, and so is its time.
            if let Some(dir) = self.tree.existing_directory(&path).map_err(|error| self.failed(error))? {
                write::set_times(&dir, seconds, nanos).map_err(|error| self.failed(error.into()))?;
            }
        }
        Ok(())
    }

    fn path(&self) -> String {
        self.current.clone().unwrap_or_default()
    }

    fn stream(&self, source: TarError) -> UnpackError {
        UnpackError::Stream { after: self.current.clone(), source }
    }

    fn refused(&self, problem: Refusal) -> UnpackError {
        UnpackError::Refused { path: self.path(), problem }
    }

    fn failed(&self, failure: tree::Failure) -> UnpackError {
        match failure {
            tree::Failure::Refused(problem) => self.refused(problem),
            tree::Failure::System { doing, errno } => {
                UnpackError::Write { path: self.path(), doing, source: errno.into() }
            }
        }
    }

    fn too_large(&self) -> UnpackError {
        UnpackError::TooLarge { path: self.path(), limit_bytes: self.limits.layer_bytes }
    }
}

/// Stops a stream that is longer than it may be.
struct Bounded<R> {
    inner: R,
    left: u64,
    exhausted: Rc<Cell<bool>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => {
                self.exhausted.set(true);
                return Err(io::Error::other("the stream is longer than allowed"));
            }
        }
        Ok(n)
    }
}
