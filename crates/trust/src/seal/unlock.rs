//! What opens a locked key ring: a key file, or a passphrase stretched by Argon2id (RFC 9106).

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    hex,
    random::{self, RandomError},
};

/// What a ring is locked with.
#[derive(Clone, Copy, Debug)]
pub enum Lock<'a> {
    KeyFile(&'a KeyFile),
    Passphrase(&'a Passphrase, Work),
}

/// What somebody tries to unlock a ring with.
#[derive(Clone, Copy, Debug)]
pub enum Unlock<'a> {
    KeyFile(&'a KeyFile),
    Passphrase(&'a Passphrase),
}

/// What a locked ring says of its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnlocksWith {
    KeyFile(Fingerprint),
    Passphrase(SaltedWork),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    #[error(transparent)]
    Random(#[from] RandomError),
    #[error("a passphrase has {} characters at least; a shorter one is easily guessed", Passphrase::LEAST)]
    TooShort,
    #[error(transparent)]
    Work(#[from] WorkError),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    #[error("the cluster's keys are locked with a passphrase, not with a key file")]
    WantsPassphrase,
    #[error("the cluster's keys are locked with the key file {0}, not with a passphrase")]
    WantsKeyFile(Fingerprint),
    #[error("the cluster's keys are locked with the key file {wanted}; this is {given}")]
    OtherKeyFile { wanted: Fingerprint, given: Fingerprint },
    #[error("this is not the passphrase that the cluster's keys are locked with")]
    WrongPassphrase,
    /// Their checksum holds, so this is no accident.
    #[error(
        "the cluster's keys were changed by someone who does not have the key file; restore them from a backup"
    )]
    Forged,
    #[error(transparent)]
    Work(#[from] WorkError),
}

/// How long guessing a passphrase takes: Argon2id's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Argon2id with {} KiB, {} passes and {} lanes is out of bounds (8 KiB per lane to 1 GiB, 1 to 64, 1 to 16)",
    .0.memory_kib, .0.passes, .0.lanes
)]
pub struct WorkError(pub Work);

impl Work {
    /// 64 MiB and three passes (RFC 9106 section 4, where memory is short), on one lane: some tenths of a second.
    pub const USUAL: Work = Work { memory_kib: 65_536, passes: 3, lanes: 1 };

    /// What is stored beside the data may ask for no more than this: it is followed before it can be verified.
    fn check(self) -> Result<Params, WorkError> {
        let bounded = self.memory_kib <= 1 << 20 && self.passes <= 64 && self.lanes <= 16;
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32));
        params.ok().filter(|_| bounded).ok_or(WorkError(self))
    }
}

/// As it is stored beside the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaltedWork {
    pub work: Work,
    pub salt: [u8; 16],
}

/// Never shown; wiped when dropped.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Characters that one has to have for locking; whoever unlocks may type what they like.
    pub const LEAST: usize = 12;

    pub fn new(text: Zeroizing<String>) -> Passphrase {
        Passphrase(text)
    }

    fn stretch(&self, salted: &SaltedWork) -> Result<Zeroizing<[u8; 32]>, WorkError> {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, salted.work.check()?);
        let mut key = Zeroizing::new([0; 32]);
        let done = argon2.hash_password_into(self.0.as_bytes(), &salted.salt, key.as_mut_slice());
        done.map_err(|_| WorkError(salted.work))?;
        Ok(key)
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// A key that lies in a file of its own, away from the data. Wiped when dropped.
pub struct KeyFile(Zeroizing<[u8; 32]>);

/// Tells key files apart and gives nothing of them away.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 8]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no key file: one is the line `{HEADER}` with 64 hex digits")]
pub struct KeyFileError;

const HEADER: &str = "wharf-key-file 1 ";

impl KeyFile {
    pub fn make() -> Result<KeyFile, RandomError> {
        random::secret().map(KeyFile)
    }

    /// What the file holds; keep it from others (mode 0600).
    pub fn encode(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(HEADER.len() + 65));
        text.push_str(HEADER);
        hex::write(self.0.as_slice(), &mut text);
        text.push('\n');
        text
    }

    pub fn decode(text: &str) -> Result<KeyFile, KeyFileError> {
        let digits = text.trim_end().strip_prefix(HEADER).ok_or(KeyFileError)?;
        hex::read(digits).map(|key| KeyFile(Zeroizing::new(key))).ok_or(KeyFileError)
    }

    pub fn fingerprint(&self) -> Fingerprint {
        let hash = Sha256::new().chain_update("wharf key file 1").chain_update(self.0.as_slice()).finalize();
        Fingerprint(std::array::from_fn(|at| hash[at]))
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFile({})", self.fingerprint())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        hex::write(&self.0, &mut text);
        f.pad(&text)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Lock<'_> {
    /// The key that wraps, and what is stored so that it can be had again.
    pub(super) fn key(&self) -> Result<(Zeroizing<[u8; 32]>, UnlocksWith), LockError> {
        match self {
            Lock::KeyFile(file) => Ok((file.0.clone(), UnlocksWith::KeyFile(file.fingerprint()))),
            Lock::Passphrase(passphrase, work) => {
                if passphrase.0.chars().count() < Passphrase::LEAST {
                    return Err(LockError::TooShort);
                }
                let salted = SaltedWork { work: *work, salt: *random::secret()? };
                Ok((passphrase.stretch(&salted)?, UnlocksWith::Passphrase(salted)))
            }
        }
    }
}

impl Unlock<'_> {
    /// The key that unwraps, if this is the right kind of lock.
    pub(super) fn key(&self, with: &UnlocksWith) -> Result<Zeroizing<[u8; 32]>, UnlockError> {
        match (self, with) {
            (Unlock::KeyFile(file), UnlocksWith::KeyFile(wanted)) => {
                let (wanted, given) = (*wanted, file.fingerprint());
                if wanted != given {
                    return Err(UnlockError::OtherKeyFile { wanted, given });
                }
                Ok(file.0.clone())
            }
            (Unlock::Passphrase(passphrase), UnlocksWith::Passphrase(salted)) => {
                Ok(passphrase.stretch(salted)?)
            }
            (Unlock::KeyFile(_), UnlocksWith::Passphrase(_)) => Err(UnlockError::WantsPassphrase),
            (Unlock::Passphrase(_), UnlocksWith::KeyFile(wanted)) => Err(UnlockError::WantsKeyFile(*wanted)),
        }
    }

    /// Why a key of the right kind did not open what it should.
    pub(super) fn refused(&self) -> UnlockError {
        match self {
            Unlock::KeyFile(_) => UnlockError::Forged,
            Unlock::Passphrase(_) => UnlockError::WrongPassphrase,
        }
    }
}
