//! Names and numbers that identify things. Each is its own type, so that none is passed for another.

use std::{fmt, num::NonZeroU32, str::FromStr, sync::Arc};

pub use reference::{Digest, DigestError};

/// A DNS label (RFC 1123): 1 to 63 of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit.
///
/// Cheap to clone: names are shared, never copied.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name cannot be empty")]
    Empty,
    #[error("a name has at most 63 characters, this has {0}")]
    TooLong(usize),
    #[error("a name has only lower-case letters, digits and '-', not {0:?}")]
    Character(char),
    #[error("a name begins and ends with a letter or a digit")]
    Edge,
}

impl Name {
    pub const MAX_LEN: usize = 63;

    pub fn new(text: &str) -> Result<Name, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if let Some(c) = text.chars().find(|&c| !allowed(c)) {
            return Err(NameError::Character(c));
        }
        if text.len() > Name::MAX_LEN {
            return Err(NameError::TooLong(text.len()));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(NameError::Edge);
        }
        Ok(Name(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Name, NameError> {
        Name::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What names a service in the whole cluster. Ordered by namespace first, so that a namespace is a range.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    pub namespace: Name,
    pub name: Name,
}

impl fmt::Display for ServiceKey {
    /// `name` in the namespace `default`, `namespace/name` in any other.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "default" => f.pad(self.name.as_str()),
            namespace => f.pad(&format!("{namespace}/{}", self.name)),
        }
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Identifies one replica for ever. Chosen at random before it is proposed; shown as 13 characters of Crockford's base32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u64);

/// Identifies one node for ever, whatever it is called. Drawn by the agent at its first start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// Identifies one data directory of a server for ever: a server that lost its data comes back under another. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// Identifies a cluster: everything that one desired state is about. Drawn when its first server starts for the first time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

/// Identifies a join or access token; public, unlike the token's secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub u64);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id: an id is 13 characters of 0-9 and a-z without i, l, o and u")]
pub struct IdError(pub String);

const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const BASE32_LEN: usize = 13;

fn write_base32(value: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let digits: [u8; BASE32_LEN] =
        std::array::from_fn(|i| BASE32[(value >> (5 * (BASE32_LEN - 1 - i)) & 31) as usize]);
    f.pad(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
}

fn read_base32(text: &str) -> Result<u64, IdError> {
    let error = || IdError(text.to_owned());
    if text.len() != BASE32_LEN {
        return Err(error());
    }
    let mut value: u64 = 0;
    for byte in text.bytes() {
        let digit = BASE32.iter().position(|&b| b == byte).ok_or_else(error)? as u64;
        if value >> 59 != 0 {
            return Err(error());
        }
        value = value << 5 | digit;
    }
    Ok(value)
}

macro_rules! base32_id {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_base32(self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_base32(self.0, f)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                read_base32(text).map($name)
            }
        }
    )*};
}
base32_id!(ReplicaId, NodeId, MemberId, ClusterId, TokenId);

/// Where new ids come from: SplitMix64 (Steele, Lea and Flood 2014), seeded by the shell, so that the cores draw no
/// random number themselves and a simulation repeats exactly.
#[derive(Clone, Debug)]
pub struct IdSource(u64);

impl IdSource {
    pub fn new(seed: u64) -> IdSource {
        IdSource(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn replica(&mut self) -> ReplicaId {
        ReplicaId(self.next_u64())
    }
}

/// The place 1..N of a service that a replica fills.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub NonZeroU32);

impl Slot {
    pub fn new(number: u32) -> Option<Slot> {
        NonZeroU32::new(number).map(Slot)
    }

    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// Numbers the revisions of one service from 1, in the order in which they were first applied.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevisionNumber(pub u64);

/// The version of a spec: grows by one with each change that a user makes to a service.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    pub fn next(self) -> Generation {
        Generation(self.0 + 1)
    }
}

/// The Raft index of the log entry that last wrote an object; what compare-and-set compares.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

macro_rules! shown_as_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}
shown_as_number!(Slot, RevisionNumber, Generation, Version);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "web", "web-2", "0", &"x".repeat(63)] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert_eq!(Name::new("Web"), Err(NameError::Character('W')));
        assert_eq!(Name::new("a_b"), Err(NameError::Character('_')));
        assert_eq!(Name::new("-a"), Err(NameError::Edge));
        assert_eq!(Name::new("a-"), Err(NameError::Edge));
        assert_eq!(Name::new(&"x".repeat(64)), Err(NameError::TooLong(64)));
    }

    proptest! {
        #[test]
        fn ids_survive_being_written(value: u64) {
            prop_assert_eq!(ReplicaId(value).to_string().parse(), Ok(ReplicaId(value)));
        }
    }

    #[test]
    fn ids_that_overflow_or_have_foreign_letters_are_refused() {
        for bad in ["", "0", "zzzzzzzzzzzzz", "000000000000u", "0000000000000000"] {
            assert!(bad.parse::<ReplicaId>().is_err(), "{bad}");
        }
    }
}
