//! What the log and its snapshots are encrypted with.

use std::sync::{Arc, PoisonError, RwLock};

use consensus::format::{DataKey, Decrypt, EncryptedAt};
use model::ClusterId;
use trust::{
    RandomError,
    seal::{self, KeyRing, Place, Sealer},
};

/// The data keys of this server. Clones are the same vault: a key that is added seals everything from then on, whoever
/// writes it.
#[derive(Clone, Debug)]
pub struct Vault(Arc<RwLock<Arc<Keys>>>);

#[derive(Debug)]
struct Keys {
    cluster: ClusterId,
    active: DataKey,
    sealer: Sealer,
}

/// One key, to encrypt one thing with; what is encrypted meanwhile with a newer one is none of its business.
#[derive(Clone, Debug)]
pub(super) struct Encrypt(Arc<Keys>);

/// By how much encryption makes a group or a snapshot longer.
pub(super) const OVERHEAD_BYTES: usize = seal::OVERHEAD;

impl Vault {
    pub fn new(ring: &KeyRing) -> Vault {
        Vault(Arc::new(RwLock::new(Arc::new(Keys::of(ring)))))
    }

    /// From now on the ring's newest key encrypts. Whoever calls this has made the ring durable.
    pub fn change(&self, ring: &KeyRing) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Keys::of(ring));
    }

    pub(super) fn encrypt(&self) -> Encrypt {
        Encrypt(self.keys())
    }

    fn keys(&self) -> Arc<Keys> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Keys {
    fn of(ring: &KeyRing) -> Keys {
        Keys { cluster: ring.cluster(), active: DataKey(ring.active().0), sealer: Sealer::new(ring) }
    }

    fn place(&self, at: EncryptedAt) -> (Place, u64) {
        let (file, position) = match at {
            EncryptedAt::Group { member, group } => (format!("log of {member:016x}"), group),
            EncryptedAt::Snapshot { member, index } => (format!("snapshots of {member:016x}"), index),
        };
        (Place::new(self.cluster, &file), position)
    }
}

impl Encrypt {
    pub(super) fn key(&self) -> DataKey {
        self.0.active
    }

    /// Appends `plain`, encrypted, to `out`.
    pub(super) fn encrypt(
        &self,
        at: EncryptedAt,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RandomError> {
        let (place, position) = self.0.place(at);
        self.0.sealer.seal(&place, position, plain, out)
    }
}

impl Decrypt for Vault {
    fn decrypt(&self, key: DataKey, at: EncryptedAt, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let keys = self.keys();
        let (place, position) = keys.place(at);
        // What seals is the trust crate's; that the header names the same key is the log's.
        match seal::sealed_with(bytes) {
            Ok(found) if found.0 != key.0 => {
                return Err(format!("it is sealed with data key {found}, its file with data key {}", key.0));
            }
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
        let mut bytes = bytes.to_vec();
        let plain = keys.sealer.open(&place, position, &mut bytes);
        plain.map(|plain| plain.to_vec()).map_err(|error| error.to_string())
    }
}
