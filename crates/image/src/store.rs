//! The store on disk: its directories, its lock, and the list of images.
//!
//! ```text
//! <root>/                mode 0700: layers hold setuid programs that users of the host must not reach
//!   lock                 held by the one process that uses the store
//!   oci-layout index.json blobs/sha256/<hex>      an OCI image layout
//!   layers/<hex>         an unpacked layer by the digest of its uncompressed tar; complete if it exists
//!   empty                what an image without layers is made of
//!   snapshots/<id>/{upper,work}
//!   tmp/                 half-made things; everything in it is garbage when the store opens
//!   trash/               removed things that still take space
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::FlockOperation;

use crate::blob::{Blobs, Staging};
use crate::durable::{At, IoError, Trash, make_directory, replace_file};
use crate::error::Error;
use crate::index::Index;
use crate::prepare::{Flights, ParsedImage};
use crate::unpack::Limits;
use reference::Digest;
use reference::{Reference, TaggedName};

/// The node's image store. Cheap to clone; every clone is the same store.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) blobs: Blobs,
    pub(crate) trash: Trash,
    pub(crate) state: Mutex<State>,
    pub(crate) flights: Flights,
    next_temporary: AtomicU64,
    /// Held for as long as the store is open.
    _lock: File,
}

/// Whoever changes what is in `blobs/`, `layers/` or the index holds the lock of this.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) index: Index,
    /// Manifests and configurations that were read and verified since the store was opened.
    pub(crate) parsed: HashMap<Digest, Arc<ParsedImage>>,
    /// Images that somebody in this process prepares or has prepared, and how many do.
    pub(crate) pins: BTreeMap<Digest, usize>,
}

/// A name in the store and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Normalised, such as `busybox:latest`.
    pub name: String,
    /// Of the manifest: the identity of the image.
    pub digest: Digest,
    /// Bytes of manifest, configuration and layers as stored.
    pub size_bytes: u64,
    /// RFC 3339, as the image's configuration says it; reproducible images often say nothing.
    pub created: Option<String>,
}

impl Store {
    /// Opens the store at `root` with the default limits, or makes it.
    ///
    /// Fails with [`Error::Locked`] while another process has it open.
    pub fn open(root: &Path) -> Result<Store, Error> {
        Store::open_with(root, Limits::default())
    }

    pub fn open_with(root: &Path, limits: Limits) -> Result<Store, Error> {
        make_directory(root, 0o700)?;
        let root = root.canonicalize().at("resolve", root)?;
        let lock = take_lock(&root)?;
        for dir in ["blobs/sha256", "layers", "snapshots", "tmp"] {
            make_directory(&root.join(dir), 0o700)?;
        }
        make_directory(&root.join("empty"), 0o755)?;
        let trash = Trash::open(root.join("trash"))?;
        let tmp = root.join("tmp");
        for entry in fs::read_dir(&tmp).at("list", &tmp)? {
            trash.discard(&entry.at("list", &tmp)?.path())?;
        }
        let layout = root.join("oci-layout");
        if !layout.exists() {
            replace_file(&layout, b"{\"imageLayoutVersion\":\"1.0.0\"}\n", &tmp.join("oci-layout"))?;
        }
        let state = State { index: read_index(&root)?, parsed: HashMap::new(), pins: BTreeMap::new() };
        let inner = Inner {
            blobs: Blobs { dir: root.join("blobs/sha256") },
            limits,
            trash,
            state: Mutex::new(state),
            flights: Flights::default(),
            next_temporary: AtomicU64::new(0),
            _lock: lock,
            root,
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// Every name in the store, sorted, with its image.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        let state = self.inner.state();
        let mut images: Vec<Image> = state
            .index
            .iter()
            .flat_map(|(digest, listed)| {
                listed.names.iter().map(|name| Image {
                    name: name.to_string(),
                    digest: digest.clone(),
                    size_bytes: listed.total_bytes,
                    created: listed.created.clone(),
                })
            })
            .collect();
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// The manifest that a reference stands for now; `None` if it is not in the store.
    ///
    /// A digest may be that of the manifest or of the multi-platform list it came from, and finds an image whose
    /// name has moved on, too. The name before a digest is not compared: content has no name.
    pub fn resolve(&self, reference: &str) -> Result<Option<Digest>, Error> {
        let state = self.inner.state();
        Ok(match reference.parse()? {
            Reference::Tagged(name) => state.index.by_name(&name).cloned(),
            Reference::Exact { digest, .. } => state.index.by_digest(&digest).cloned(),
        })
    }

    /// Takes a name away; with a digest, every name of that image in that repository. `false` if there was none.
    ///
    /// Frees nothing yet: see [`Store::collect_garbage`].
    pub fn remove(&self, reference: &str) -> Result<bool, Error> {
        let reference: Reference = reference.parse()?;
        let mut state = self.inner.state();
        let mut index = state.index.clone();
        let removed = match &reference {
            Reference::Tagged(wanted) => index.unname(|_, name| name == wanted),
            Reference::Exact { repository, digest } => {
                let Some(image) = state.index.by_digest(digest) else { return Ok(false) };
                let in_repository =
                    |name: &TaggedName| repository.as_ref().is_none_or(|wanted| wanted == name.repository());
                index.unname(|digest, name| digest == image && in_repository(name))
            }
        };
        if !removed {
            return Ok(false);
        }
        self.inner.write_index(&mut state, index)?;
        Ok(true)
    }
}

impl Inner {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state half changed: each change is one assignment after its write to disk.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `index` the truth, on disk and then in memory.
    pub(crate) fn write_index(&self, state: &mut State, index: Index) -> Result<(), IoError> {
        replace_file(&self.root.join("index.json"), &index.to_bytes(), &self.temporary("index"))?;
        state.index = index;
        Ok(())
    }

    /// A path in `tmp/` that nobody else has.
    pub(crate) fn temporary(&self, purpose: &str) -> PathBuf {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        self.root.join("tmp").join(format!("{purpose}-{number}"))
    }

    pub(crate) fn staging(&self) -> Result<Staging, IoError> {
        Staging::create(self.temporary("load"), self.limits.archive_bytes)
    }

    pub(crate) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.hex())
    }

    /// The names of an image for a message, or its digest if it has none.
    pub(crate) fn label(&self, digest: &Digest) -> String {
        let state = self.state();
        let names: BTreeSet<_> =
            state.index.get(digest).map(|listed| listed.names.clone()).unwrap_or_default();
        match names.first() {
            Some(name) => name.to_string(),
            None => digest.to_string(),
        }
    }
}

fn take_lock(root: &Path) -> Result<File, Error> {
    let path = root.join("lock");
    let options = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = options.at("open", &path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).at("read", &path)?;
            return Err(Error::Locked { root: root.to_owned(), holder: holder.trim().to_owned() });
        }
        Err(errno) => return Err(IoError::new("lock", &path, errno).into()),
    }
    file.set_len(0).at("write", &path)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes()).at("write", &path)?;
    Ok(file)
}

fn read_index(root: &Path) -> Result<Index, Error> {
    let path = root.join("index.json");
    if !path.exists() {
        return Ok(Index::default());
    }
    let bytes = fs::read(&path).at("read", &path)?;
    Index::parse(&bytes).map_err(|source| Error::DamagedIndex { path, source: Box::new(source) })
}
