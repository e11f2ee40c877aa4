//! Contents that only those with the key can read. The keys are the shell's; here is which key a file needs, where the
//! encrypted bytes lie, and what they are bound to.
//!
//! A segment or a snapshot is encrypted with one key, which its header names, or not at all. What recovery needs to tell
//! a torn tail from damage, sectors, group numbers, seals of segments, stays readable: so the judgement is the same with
//! and without a key, and is passed before anything is decrypted. A group that is complete and does not open is damage.

use crate::{Index, MemberId};

/// Names a key; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataKey(pub u32);

/// What encrypted bytes are, and so where they may be decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncryptedAt {
    Group { member: MemberId, group: u64 },
    Snapshot { member: MemberId, index: Index },
}

/// Whoever has the keys.
pub trait Decrypt {
    /// What was encrypted with this key there; or why not, in words that follow "it cannot be decrypted".
    fn decrypt(&self, key: DataKey, at: EncryptedAt, bytes: &[u8]) -> Result<Vec<u8>, String>;
}

/// For files that are not encrypted.
#[derive(Clone, Copy, Debug)]
pub struct NoKeys;

impl Decrypt for NoKeys {
    fn decrypt(&self, DataKey(key): DataKey, _: EncryptedAt, _: &[u8]) -> Result<Vec<u8>, String> {
        Err(format!("it needs data key {key}, and there are no keys"))
    }
}

/// As it is written in headers.
pub(crate) fn key_number(key: Option<DataKey>) -> u64 {
    key.map_or(0, |DataKey(number)| u64::from(number))
}

/// The reverse of [`key_number`] in a header that has to name a key.
pub(crate) fn key_of_number(number: u64) -> Option<DataKey> {
    u32::try_from(number).ok().filter(|number| *number > 0).map(DataKey)
}
