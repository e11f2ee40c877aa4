//! From a digest to directories that can be mounted: unpacks the layers that are missing, each exactly once.
//!
//! A layer directory is complete if it exists: it is made under `tmp/`, its content compared with the diff id, flushed
//! with one `syncfs`, and then renamed. The rename itself is not flushed. If a power failure undoes it, the layer is
//! made again from its blob; a directory that is there afterwards has all its data.
//!
//! Cost of preparing what is unpacked already: one `getxattr` per layer. The manifest and the configuration are read
//! and verified once per process and image.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use rustix::io::Errno;

use crate::blob::read_document;
use crate::document::{ConfigDocument, ImageConfig, Manifest};
use crate::durable::{At, IoError, make_directory};
use crate::error::Error;
use crate::store::{Inner, Store};
use crate::unpack::{self, OPAQUE_XATTR};
use reference::Digest;

/// An image whose layers are all on disk. While it lives, garbage collection keeps the image.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Directories for overlayfs's `lowerdir`, top first, at least one. Below the store's root no name holds a `:` or `,`.
    pub layers: Vec<PathBuf>,
    pub config: ImageConfig,
    pub digest: Digest,
    _pin: Arc<Pin>,
}

/// Keeps an image from garbage collection.
#[derive(Debug)]
struct Pin {
    store: Weak<Inner>,
    digest: Digest,
}

/// A verified manifest and configuration.
#[derive(Debug)]
pub(crate) struct ParsedImage {
    /// Bottom first, as the manifest lists them.
    pub(crate) layers: Vec<Layer>,
    pub(crate) config_digest: Digest,
    pub(crate) config: ImageConfig,
}

#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) blob: Digest,
    pub(crate) diff_id: Digest,
}

/// Layers that are being unpacked right now.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    running: Mutex<HashMap<Digest, Arc<Flight>>>,
}

#[derive(Debug, Default)]
struct Flight {
    outcome: Mutex<Option<Result<(), Arc<Error>>>>,
    landed: Condvar,
}

enum Presence {
    Absent,
    There,
    /// Its root hides all layers below. Overlayfs does not look at this mark on roots, so it is honoured here.
    HidesLower,
}

impl Store {
    /// Unpacks what is not unpacked yet and says what to mount and run.
    ///
    /// Callers of the same layer wait for the first one and share its result, good or bad.
    pub fn prepare(&self, digest: &Digest) -> Result<Prepared, Error> {
        let inner = &self.inner;
        // Pinned before it is looked at, so that garbage collection cannot come between.
        let pin = inner.pin(digest);
        let image = inner.parsed(digest)?;
        let mut layers = Vec::with_capacity(image.layers.len());
        for layer in image.layers.iter().rev() {
            let path = inner.layer_path(&layer.diff_id);
            // Builders repeat layers, such as that of a step that changes nothing, and overlayfs takes no directory twice
            // (ELOOP). Of two that are equal the lower one adds nothing: all that it has, the upper one has above it.
            if layers.contains(&path) {
                continue;
            }
            let mut presence = presence(&path)?;
            if matches!(presence, Presence::Absent) {
                inner.unpack_once(digest, layer)?;
                presence = self::presence(&path)?;
            }
            layers.push(path);
            match presence {
                Presence::There => {}
                Presence::HidesLower => break,
                // Somebody else removed it in between.
                Presence::Absent => {
                    return Err(IoError::new("find", &inner.layer_path(&layer.diff_id), Errno::NOENT).into());
                }
            }
        }
        if layers.is_empty() {
            // Overlayfs wants a lower directory.
            layers.push(inner.root.join("empty"));
        }
        Ok(Prepared { layers, config: image.config.clone(), digest: digest.clone(), _pin: Arc::new(pin) })
    }
}

impl Inner {
    fn pin(self: &Arc<Self>, digest: &Digest) -> Pin {
        *self.state().pins.entry(digest.clone()).or_insert(0) += 1;
        Pin { store: Arc::downgrade(self), digest: digest.clone() }
    }

    /// The manifest and configuration of an image, from memory if they were read before.
    pub(crate) fn parsed(&self, digest: &Digest) -> Result<Arc<ParsedImage>, Error> {
        {
            let state = self.state();
            if let Some(parsed) = state.parsed.get(digest) {
                return Ok(Arc::clone(parsed));
            }
            if state.index.get(digest).is_none() {
                return Err(Error::NoSuchImage { digest: digest.clone() });
            }
        }
        let parsed = Arc::new(self.parse(digest)?);
        self.state().parsed.insert(digest.clone(), Arc::clone(&parsed));
        Ok(parsed)
    }

    fn parse(&self, digest: &Digest) -> Result<ParsedImage, Error> {
        let manifest: Manifest = self.document(digest, "manifest", digest)?;
        let config: ConfigDocument = self.document(digest, "configuration", &manifest.config.digest)?;
        let diff_ids = config.rootfs.diff_ids;
        // Loading refuses an image whose numbers of layers and diff ids differ.
        let layers = manifest.layers.into_iter().zip(diff_ids);
        Ok(ParsedImage {
            layers: layers.map(|(blob, diff_id)| Layer { blob: blob.digest, diff_id }).collect(),
            config_digest: manifest.config.digest,
            config: config.config.unwrap_or_default().into(),
        })
    }

    fn document<T: serde::de::DeserializeOwned>(
        &self,
        image: &Digest,
        what: &'static str,
        digest: &Digest,
    ) -> Result<T, Error> {
        let damaged = || Error::DamagedBlob { image: self.label(image), what, digest: digest.clone() };
        let path = self.blobs.path(digest);
        if !path.exists() {
            return Err(damaged());
        }
        let bytes = read_document(&path)?.ok_or_else(damaged)?;
        if Digest::of(&bytes) != *digest {
            return Err(damaged());
        }
        let bad =
            |source| Error::BadDocument { image: self.label(image), what, digest: digest.clone(), source };
        serde_json::from_slice(&bytes).map_err(bad)
    }

    /// Unpacks a layer, or waits for whoever is doing it.
    fn unpack_once(&self, image: &Digest, layer: &Layer) -> Result<(), Error> {
        let (flight, mine) = self.flights.join(&layer.diff_id);
        if !mine {
            return flight.wait().map_err(Error::Shared);
        }
        let landing = Landing { flights: &self.flights, flight: &flight, layer: &layer.diff_id };
        // It may have been finished between the look and the join.
        let outcome = match presence(&self.layer_path(&layer.diff_id)) {
            Ok(Presence::Absent) => self.unpack(image, layer),
            Ok(Presence::There | Presence::HidesLower) => Ok(()),
            Err(error) => Err(error.into()),
        };
        let outcome = outcome.map_err(Arc::new);
        landing.with(outcome.clone());
        outcome.map_err(Error::Shared)
    }

    fn unpack(&self, image: &Digest, layer: &Layer) -> Result<(), Error> {
        let dir = self.temporary("unpack");
        let outcome = self.unpack_into(&dir, image, layer);
        // What is left is the half-made layer of a failure, or the directories that the layer itself replaced.
        if let Err(error) = self.trash.discard(&dir) {
            tracing::warn!(%error, cause = %error.source, "what is left of an unpacked layer stays until the next start");
        }
        outcome
    }

    fn unpack_into(&self, dir: &Path, image: &Digest, layer: &Layer) -> Result<(), Error> {
        let (root, replaced) = (dir.join("root"), dir.join("replaced"));
        make_directory(dir, 0o700)?;
        make_directory(&root, 0o755)?;
        make_directory(&replaced, 0o700)?;
        if !self.blobs.contains(&layer.blob) {
            let digest = layer.blob.clone();
            return Err(Error::DamagedBlob { image: self.label(image), what: "layer", digest });
        }
        let blob = self.blobs.open(&layer.blob)?;
        let opened: OwnedFd = File::open(&root).at("open", &root)?.into();
        let replaced: OwnedFd = File::open(&replaced).at("open", &replaced)?.into();
        let failed = |source| Error::Unpack { image: self.label(image), layer: layer.blob.clone(), source };
        let unpacked = unpack::unpack(blob, opened, replaced, &self.limits).map_err(failed)?;
        if unpacked.diff_id != layer.diff_id {
            let (expected, found) = (layer.diff_id.clone(), unpacked.diff_id);
            return Err(failed(unpack::UnpackError::WrongContent { expected, found }));
        }
        if unpacked.dropped != unpack::Dropped::default() {
            let (image, dropped) = (self.label(image), &unpacked.dropped);
            tracing::warn!(image, layer = %layer.blob, ?dropped, "left device nodes or attributes out of a layer");
        }
        let flushed = File::open(&root).at("open", &root)?;
        rustix::fs::syncfs(&flushed).at("flush", &root)?;
        let target = self.layer_path(&layer.diff_id);
        fs::rename(&root, &target).at("complete", &target)?;
        Ok(())
    }
}

impl Flights {
    /// The flight of a layer, and whether the caller is the one to fly it.
    fn join(&self, layer: &Digest) -> (Arc<Flight>, bool) {
        let mut running = lock(&self.running);
        if let Some(flight) = running.get(layer) {
            return (Arc::clone(flight), false);
        }
        let flight = Arc::new(Flight::default());
        running.insert(layer.clone(), Arc::clone(&flight));
        (flight, true)
    }
}

impl Flight {
    fn wait(&self) -> Result<(), Arc<Error>> {
        let mut outcome = lock(&self.outcome);
        loop {
            match &*outcome {
                Some(outcome) => return outcome.clone(),
                None => outcome = self.landed.wait(outcome).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Ends a flight however the one who flies it ends: a panic must not leave the others waiting forever.
struct Landing<'a> {
    flights: &'a Flights,
    flight: &'a Flight,
    layer: &'a Digest,
}

impl Landing<'_> {
    fn with(self, outcome: Result<(), Arc<Error>>) {
        *lock(&self.flight.outcome) = Some(outcome);
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let panicked = || Err(Arc::new(Error::Panicked { layer: self.layer.clone() }));
        lock(&self.flight.outcome).get_or_insert_with(panicked);
        lock(&self.flights.running).remove(self.layer);
        self.flight.landed.notify_all();
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let Some(store) = self.store.upgrade() else { return };
        let mut state = store.state();
        if let Some(count) = state.pins.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                state.pins.remove(&self.digest);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each holder makes one assignment; a panic cannot leave it half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn presence(layer: &Path) -> Result<Presence, IoError> {
    let mut value = [0_u8; 8];
    match rustix::fs::lgetxattr(layer, OPAQUE_XATTR, &mut value) {
        Ok(1) if value[0] == b'y' => Ok(Presence::HidesLower),
        Ok(_) | Err(Errno::NODATA | Errno::RANGE) => Ok(Presence::There),
        Err(Errno::NOENT) => Ok(Presence::Absent),
        Err(errno) => Err(errno).at("look at", layer),
    }
}
