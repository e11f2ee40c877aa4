//! Encryption at rest: of the log, of snapshots and of backups.
//!
//! Three layers, so that each can be changed without the ones below:
//!
//! 1. A **record** is sealed with a data key (XChaCha20-Poly1305) by a [`Sealer`].
//! 2. **Data keys** have ids and live in a [`KeyRing`]. A rotation adds one, which seals from then on; what older ones sealed
//!    is still opened, until everything sealed with one has been compacted away and it is retired.
//! 3. The key ring is **locked** ([`LockedKeys`]) with a key file or a passphrase, and lies beside the data. Changing the
//!    passphrase rewraps some hundred bytes, and touches no data.
//!
//! A sealed record is bound to its place, the cluster, the file and the position in it: copied elsewhere it is refused.
//! Nothing here can tell that a whole file was replaced by an older one of the same name; the log's own checks (index, term,
//! what peers know) have to.
//!
//! # A sealed record, version 1
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version: 1 |
//! | 4 | id of the data key, big-endian |
//! | 24 | nonce, random |
//! | as many as the record has | ciphertext |
//! | 16 | tag, over all of the above and the place |
//!
//! # What a record costs
//!
//! 45 bytes, and one draw from the system's generator. No allocation: a record is encoded into the caller's buffer, sealed
//! and opened where it lies ([`Sealer::begin`] and [`Sealer::finish`]; no copy), or copied in once ([`Sealer::seal`]).
//! Random nonces of 192 bits do not repeat, also not where a machine is cloned or a counter lost.

mod keyring;
mod locked;
mod unlock;

use std::{collections::BTreeMap, fmt};

use chacha20poly1305::{AeadInPlace as _, Key, KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use model::ClusterId;
use sha2::{Digest as _, Sha256};

pub use keyring::{KeyId, KeyRing, RetireError};
pub use locked::{LockedKeys, LockedTextError};
pub use unlock::{
    Fingerprint, KeyFile, KeyFileError, Lock, LockError, Passphrase, SaltedWork, Unlock, UnlockError,
    UnlocksWith, Work, WorkError,
};

use crate::random::{self, RandomError};

const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const HEADER_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_BYTES;

/// By how many bytes a sealed record is longer than the record.
pub const OVERHEAD: usize = HEADER_BYTES + TAG_BYTES;

/// A file of a cluster, which a record is bound to. Make it once per file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place([u8; 32]);

impl Place {
    /// `file` is what the file is, not where it lies: data folders are moved.
    pub fn new(cluster: ClusterId, file: &str) -> Place {
        let hash = Sha256::new().chain_update("wharf place 1").chain_update(cluster.0.to_be_bytes());
        Place(hash.chain_update(file).finalize().into())
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place(..)")
    }
}

/// Seals with the newest key of a ring, opens with any of it.
pub struct Sealer {
    active: KeyId,
    /// Wiped when dropped.
    ciphers: BTreeMap<KeyId, XChaCha20Poly1305>,
}

/// Why a record is not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("a sealed record has {OVERHEAD} bytes at least, this has {0}: it is cut off, or not sealed")]
    TooShort(usize),
    #[error(
        "the record is sealed in format {0}, this version reads {VERSION}: it was written by a newer version, or is not sealed"
    )]
    Version(u8),
    #[error(
        "the record is sealed with data key {0}, which the cluster's keys do not have: restore the keys that belong to this \
         data"
    )]
    UnknownKey(KeyId),
    #[error("the record is damaged, or was sealed for another place")]
    Refused,
}

/// Where a record begins that is being encoded; for [`Sealer::finish`].
#[derive(Debug)]
#[must_use = "what was begun is not sealed yet"]
pub struct Begun(usize);

impl Sealer {
    pub fn new(ring: &KeyRing) -> Sealer {
        let cipher = |(id, key): (KeyId, &[u8; 32])| (id, XChaCha20Poly1305::new(Key::from_slice(key)));
        Sealer { active: ring.active(), ciphers: ring.keys().map(cipher).collect() }
    }

    /// Appends `record`, sealed, to `out`.
    pub fn seal(
        &self,
        place: &Place,
        position: u64,
        record: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RandomError> {
        out.reserve(record.len() + OVERHEAD);
        let begun = self.begin(out);
        out.extend_from_slice(record);
        self.finish(begun, place, position, out)
    }

    /// Makes room for the header; what the caller appends until [`Sealer::finish`] is the record.
    pub fn begin(&self, out: &mut Vec<u8>) -> Begun {
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        Begun(start)
    }

    /// Seals everything in `out` from where `begun` was. When it fails, the record is cut off again.
    pub fn finish(
        &self,
        begun: Begun,
        place: &Place,
        position: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), RandomError> {
        let Begun(start) = begun;
        let mut nonce = [0; NONCE_BYTES];
        if let Err(error) = random::fill(&mut nonce) {
            out.truncate(start);
            return Err(error);
        }
        let header = Header { key: self.active, nonce };
        let (head, record) = out[start..].split_at_mut(HEADER_BYTES);
        header.write(head);
        let bound = header.bound(place, position);
        // A ring always has its active key.
        let sealed =
            self.ciphers[&self.active].encrypt_in_place_detached(XNonce::from_slice(&nonce), &bound, record);
        let tag = sealed.unwrap_or_else(|_| unreachable!("a record of more than 256 GiB"));
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// The record in `sealed`, opened where it lies. What is refused stays as it was.
    pub fn open<'a>(
        &self,
        place: &Place,
        position: u64,
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], OpenError> {
        if sealed.len() < OVERHEAD {
            return Err(OpenError::TooShort(sealed.len()));
        }
        let (head, rest) = sealed.split_at_mut(HEADER_BYTES);
        let (record, tag) = rest.split_at_mut(rest.len() - TAG_BYTES);
        let header = Header::read(head)?;
        let cipher = self.ciphers.get(&header.key).ok_or(OpenError::UnknownKey(header.key))?;
        let (nonce, tag) = (XNonce::from_slice(&header.nonce), Tag::from_slice(tag));
        let opened = cipher.decrypt_in_place_detached(nonce, &header.bound(place, position), record, tag);
        opened.map_err(|_| OpenError::Refused)?;
        Ok(record)
    }
}

/// Which data key sealed a record: whether a file still needs a key that is to be retired.
pub fn sealed_with(sealed: &[u8]) -> Result<KeyId, OpenError> {
    let head = sealed.get(..HEADER_BYTES).ok_or(OpenError::TooShort(sealed.len()))?;
    Ok(Header::read(head)?.key)
}

struct Header {
    key: KeyId,
    nonce: [u8; NONCE_BYTES],
}

impl Header {
    /// `head` has [`HEADER_BYTES`], here and in `read`.
    fn write(&self, head: &mut [u8]) {
        head[0] = VERSION;
        head[1..1 + KEY_ID_BYTES].copy_from_slice(&self.key.0.to_be_bytes());
        head[1 + KEY_ID_BYTES..].copy_from_slice(&self.nonce);
    }

    fn read(head: &[u8]) -> Result<Header, OpenError> {
        if head[0] != VERSION {
            return Err(OpenError::Version(head[0]));
        }
        let (mut key, mut nonce) = ([0; KEY_ID_BYTES], [0; NONCE_BYTES]);
        key.copy_from_slice(&head[1..1 + KEY_ID_BYTES]);
        nonce.copy_from_slice(&head[1 + KEY_ID_BYTES..]);
        Ok(Header { key: KeyId(u32::from_be_bytes(key)), nonce })
    }

    /// What the tag covers beside the ciphertext. The nonce it covers anyway.
    fn bound(&self, place: &Place, position: u64) -> [u8; 1 + KEY_ID_BYTES + 32 + 8] {
        let mut bytes = [VERSION; 1 + KEY_ID_BYTES + 32 + 8];
        bytes[1..5].copy_from_slice(&self.key.0.to_be_bytes());
        bytes[5..37].copy_from_slice(&place.0);
        bytes[37..].copy_from_slice(&position.to_be_bytes());
        bytes
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer(data key {}, {} in all)", self.active, self.ciphers.len())
    }
}
