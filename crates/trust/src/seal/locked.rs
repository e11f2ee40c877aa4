//! The data keys of a cluster, locked: what lies on the disk, and goes into backups.
//!
//! ```text
//! wharf-keys 1
//! cluster 0000000000001
//! unlock passphrase argon2id 65536 3 1 <salt>
//! keys <nonce> <all data keys with their ids, sealed as one>
//! check <CRC-32 of all before>
//! ```
//!
//! or `unlock key-file <fingerprint>`. The keys are bound to the lines before them, and to each other: none can be left out
//! or brought back. The check tells damage from a wrong passphrase.

use std::collections::BTreeMap;

use chacha20poly1305::{AeadInPlace as _, Key, KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use model::ClusterId;
use zeroize::Zeroizing;

use super::{
    Fingerprint, KeyId, KeyRing, Lock, LockError, NONCE_BYTES, SaltedWork, TAG_BYTES, Unlock, UnlockError,
    UnlocksWith, Work,
};
use crate::{hex, random};

/// An id and a data key.
const ENTRY_BYTES: usize = 4 + 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedKeys {
    cluster: ClusterId,
    with: UnlocksWith,
    nonce: [u8; NONCE_BYTES],
    /// Entries, sealed, and the tag.
    sealed: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockedTextError {
    #[error("the cluster's keys are damaged (their check does not match); restore them from a backup")]
    Damaged,
    #[error(
        "the cluster's keys begin with {0:?}, not with {HEADER:?}: were they written by a newer version?"
    )]
    Header(String),
}

const HEADER: &str = "wharf-keys 1";

impl KeyRing {
    /// For storing; each time anew, so that a rotation or another passphrase rewraps the keys and nothing else.
    pub fn lock(&self, lock: Lock<'_>) -> Result<LockedKeys, LockError> {
        let (wrapping, with) = lock.key()?;
        let mut nonce = [0; NONCE_BYTES];
        random::fill(&mut nonce)?;
        // Room for all of it at once: a buffer that grows leaves keys behind where it was.
        let mut sealed = Vec::with_capacity(self.keys().count() * ENTRY_BYTES + TAG_BYTES);
        for (id, key) in self.keys() {
            sealed.extend_from_slice(&id.0.to_be_bytes());
            sealed.extend_from_slice(key);
        }
        let bound = bound(self.cluster(), &with);
        let tag = XChaCha20Poly1305::new(Key::from_slice(wrapping.as_slice()))
            .encrypt_in_place_detached(XNonce::from_slice(&nonce), bound.as_bytes(), &mut sealed)
            .unwrap_or_else(|_| unreachable!("more than 256 GiB of keys"));
        sealed.extend_from_slice(&tag);
        Ok(LockedKeys { cluster: self.cluster(), with, nonce, sealed })
    }
}

impl LockedKeys {
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// What to ask for.
    pub fn unlocks_with(&self) -> &UnlocksWith {
        &self.with
    }

    /// Takes as long as its [`Work`] says, if it is by passphrase.
    pub fn unlock(&self, unlock: Unlock<'_>) -> Result<KeyRing, UnlockError> {
        let wrapping = unlock.key(&self.with)?;
        let refused = || unlock.refused();
        let entries = self.sealed.len().checked_sub(TAG_BYTES).ok_or_else(refused)?;
        let (sealed, tag) = self.sealed.split_at(entries);
        let mut entries = Zeroizing::new(sealed.to_vec());
        let bound = bound(self.cluster, &self.with);
        XChaCha20Poly1305::new(Key::from_slice(wrapping.as_slice()))
            .decrypt_in_place_detached(
                XNonce::from_slice(&self.nonce),
                bound.as_bytes(),
                &mut entries,
                Tag::from_slice(tag),
            )
            .map_err(|_| refused())?;
        let keys: BTreeMap<_, _> = entries.chunks_exact(ENTRY_BYTES).map(entry).collect();
        KeyRing::of(self.cluster, keys).ok_or_else(refused)
    }

    pub fn encode(&self) -> String {
        let mut text = bound(self.cluster, &self.with);
        text.push_str("keys ");
        hex::write(&self.nonce, &mut text);
        text.push(' ');
        hex::write(&self.sealed, &mut text);
        text.push('\n');
        let check = crc32fast::hash(text.as_bytes());
        text.push_str(CHECK);
        hex::write(&check.to_be_bytes(), &mut text);
        text.push('\n');
        text
    }

    pub fn decode(text: &str) -> Result<LockedKeys, LockedTextError> {
        let first = text.lines().next().unwrap_or_default();
        if first != HEADER {
            return Err(LockedTextError::Header(first.to_owned()));
        }
        parse(text).ok_or(LockedTextError::Damaged)
    }
}

const CHECK: &str = "check ";

fn entry(bytes: &[u8]) -> (KeyId, Zeroizing<[u8; 32]>) {
    let (mut id, mut key) = ([0; 4], Zeroizing::new([0; 32]));
    id.copy_from_slice(&bytes[..4]);
    key.copy_from_slice(&bytes[4..]);
    (KeyId(u32::from_be_bytes(id)), key)
}

/// The lines that the keys are bound to.
fn bound(cluster: ClusterId, with: &UnlocksWith) -> String {
    let mut text = format!("{HEADER}\ncluster {cluster}\nunlock ");
    match with {
        UnlocksWith::KeyFile(fingerprint) => text.push_str(&format!("key-file {fingerprint}")),
        UnlocksWith::Passphrase(SaltedWork { work, salt }) => {
            let Work { memory_kib, passes, lanes } = work;
            text.push_str(&format!("passphrase argon2id {memory_kib} {passes} {lanes} "));
            hex::write(salt, &mut text);
        }
    }
    text.push('\n');
    text
}

fn parse(text: &str) -> Option<LockedKeys> {
    let (body, check) = text.split_at(text.rfind(CHECK)?);
    let check = hex::read(check.strip_prefix(CHECK)?.strip_suffix('\n')?)?;
    if crc32fast::hash(body.as_bytes()).to_be_bytes() != check {
        return None;
    }
    let mut lines = body.lines().skip(1);
    let cluster = lines.next()?.strip_prefix("cluster ")?.parse().ok()?;
    let with = parse_unlock(lines.next()?.strip_prefix("unlock ")?)?;
    let (nonce, sealed) = lines.next()?.strip_prefix("keys ")?.split_once(' ')?;
    let keys = LockedKeys { cluster, with, nonce: hex::read(nonce)?, sealed: hex::read_all(sealed)? };
    lines.next().is_none().then_some(keys)
}

fn parse_unlock(text: &str) -> Option<UnlocksWith> {
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        ["key-file", fingerprint] => Some(UnlocksWith::KeyFile(Fingerprint(hex::read(fingerprint)?))),
        ["passphrase", "argon2id", memory_kib, passes, lanes, salt] => {
            let work = Work {
                memory_kib: memory_kib.parse().ok()?,
                passes: passes.parse().ok()?,
                lanes: lanes.parse().ok()?,
            };
            Some(UnlocksWith::Passphrase(SaltedWork { work, salt: hex::read(salt)? }))
        }
        _ => None,
    }
}
