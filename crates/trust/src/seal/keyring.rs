//! The data keys of a cluster, unlocked.

use std::{collections::BTreeMap, fmt};

use model::ClusterId;
use zeroize::Zeroizing;

use crate::random::{self, RandomError};

/// Numbers the data keys of a cluster from 1; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Never empty: the highest id is the active one, which seals.
#[derive(Clone)]
pub struct KeyRing {
    cluster: ClusterId,
    keys: BTreeMap<KeyId, Zeroizing<[u8; 32]>>,
    active: KeyId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetireError {
    #[error("data key {0} is the one that seals: rotate first")]
    Active(KeyId),
    #[error("there is no data key {0}")]
    Unknown(KeyId),
}

impl KeyRing {
    /// Of a new cluster: one key.
    pub fn make(cluster: ClusterId) -> Result<KeyRing, RandomError> {
        let active = KeyId(1);
        Ok(KeyRing { cluster, keys: BTreeMap::from([(active, random::secret()?)]), active })
    }

    /// `None` if there is no key at all.
    pub(super) fn of(cluster: ClusterId, keys: BTreeMap<KeyId, Zeroizing<[u8; 32]>>) -> Option<KeyRing> {
        let active = *keys.last_key_value()?.0;
        Some(KeyRing { cluster, keys, active })
    }

    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The key that seals.
    pub fn active(&self) -> KeyId {
        self.active
    }

    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.keys().copied()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (KeyId, &[u8; 32])> {
        self.keys.iter().map(|(id, key)| (*id, &**key))
    }

    /// Adds a key, which seals from now on. Store the ring, locked, before anything is sealed with it.
    pub fn rotate(&mut self) -> Result<KeyId, RandomError> {
        let next = KeyId(self.active.0 + 1);
        self.keys.insert(next, random::secret()?);
        self.active = next;
        Ok(next)
    }

    /// Forgets a key. What it sealed can never be read again: first make sure that nothing of it is left.
    pub fn retire(&mut self, id: KeyId) -> Result<(), RetireError> {
        if id == self.active {
            return Err(RetireError::Active(id));
        }
        self.keys.remove(&id).map(drop).ok_or(RetireError::Unknown(id))
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} keys of {}, active {})", self.keys.len(), self.cluster, self.active)
    }
}
