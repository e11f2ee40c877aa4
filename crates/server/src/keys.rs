//! The data keys of this server: what its log and its snapshots are encrypted with.
//!
//! | file | |
//! |---|---|
//! | `data-keys` | all data keys, locked; see `trust::seal` |
//! | `data-keys.unlock` | the key file that opens them, unless it lies elsewhere or a passphrase does it |
//!
//! Every server has keys of its own, made at its first start: nothing has to be handed to a server that joins, a stolen
//! disk opens no other, and a rotation is the act of one. Servers send each other entries over TLS, not files.
//!
//! A key file beside the log protects a disk that is thrown away or sent in only as far as somebody wipes that one file.
//! Whoever wants more keeps it elsewhere, or locks the keys with a passphrase ([`Unlock`]).
//!
//! What always holds: a key is durable in `data-keys` before anything is encrypted with it, and is forgotten only after
//! nothing on the disk needs it. Where something does and the file is gone, no new one is made.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use consensus::format::DataKey;
use model::ClusterId;
use trust::{
    RandomError,
    seal::{
        self, KeyFile, KeyFileError, KeyId, KeyRing, Lock, LockError, LockedKeys, LockedTextError,
        Passphrase, UnlockError, UnlocksWith, Work,
    },
};

use crate::log::Vault;

const KEYS: &str = "data-keys";
const KEY_FILE: &str = "data-keys.unlock";

/// What opens the data keys. At the first start it is also what locks them.
#[derive(Clone, Debug, Default)]
pub enum Unlock {
    /// A key file beside the log.
    #[default]
    Beside,
    /// A key file elsewhere: on another disk, from a service manager. Made where there is none, if there are no keys yet.
    KeyFile(PathBuf),
    Passphrase(Arc<Passphrase>),
}

/// The same, with the file's place.
#[derive(Debug)]
enum Opener {
    KeyFile(PathBuf),
    Passphrase(Arc<Passphrase>),
}

impl Unlock {
    fn of(self, dir: &Path) -> Opener {
        match self {
            Unlock::Beside => Opener::KeyFile(dir.join(KEY_FILE)),
            Unlock::KeyFile(path) => Opener::KeyFile(path),
            Unlock::Passphrase(passphrase) => Opener::Passphrase(passphrase),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("{} cannot be {action}", path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },
    #[error(
        "{} is missing, and what is in {} is encrypted with keys from it: bring it back. Where it is lost: in a cluster, \
         move the data directory away and let this server join again; a single server has to be restored from a backup",
        path.display(), dir.display()
    )]
    Missing { path: PathBuf, dir: PathBuf },
    #[error("the key file {} is missing, and the data keys are locked with it: bring it back, or name where it is", .0.display())]
    MissingKeyFile(PathBuf),
    #[error("{} can be read by other users (mode {mode:03o}); make it private: chmod 600", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} cannot be used", path.display())]
    KeyFile { path: PathBuf, source: KeyFileError },
    #[error("{} cannot be used", path.display())]
    Text { path: PathBuf, source: LockedTextError },
    #[error("{} cannot be unlocked", path.display())]
    Locked { path: PathBuf, source: UnlockError },
    #[error("{} are the keys of cluster {found}, and this server is of cluster {expected}", path.display())]
    OtherCluster { path: PathBuf, found: ClusterId, expected: ClusterId },
    #[error("the data keys cannot be locked")]
    Lock(#[from] LockError),
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// The keys, unlocked, and where they are kept.
#[derive(Debug)]
pub struct Keys {
    dir: PathBuf,
    opener: Opener,
    ring: KeyRing,
    vault: Vault,
}

impl Keys {
    /// Makes them where there are none, unless `is_needed`: what is in `dir` was encrypted with some.
    ///
    /// Takes some tenths of a second with a passphrase.
    pub fn open(dir: &Path, cluster: ClusterId, unlock: Unlock, is_needed: bool) -> Result<Keys, KeysError> {
        let (path, opener) = (dir.join(KEYS), unlock.of(dir));
        let ring = match fs::read_to_string(&path) {
            Ok(text) => open_ring(&path, &text, &opener)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if is_needed {
                    return Err(KeysError::Missing { path, dir: dir.to_owned() });
                }
                let ring = KeyRing::make(cluster)?;
                store(dir, &ring, &opener)?;
                ring
            }
            Err(source) => return Err(KeysError::Io { path, action: "read", source }),
        };
        if ring.cluster() != cluster {
            let (found, expected) = (ring.cluster(), cluster);
            return Err(KeysError::OtherCluster { path, found, expected });
        }
        let vault = Vault::new(&ring);
        Ok(Keys { dir: dir.to_owned(), opener, ring, vault })
    }

    /// Whether a directory has any.
    pub fn are_in(dir: &Path) -> bool {
        dir.join(KEYS).exists()
    }

    /// What the log is opened with.
    pub fn vault(&self) -> Vault {
        self.vault.clone()
    }

    /// By their ids; the last encrypts.
    pub fn ids(&self) -> Vec<KeyId> {
        self.ring.ids().collect()
    }

    /// From the next write on, a new key encrypts.
    pub fn rotate(&mut self) -> Result<KeyId, KeysError> {
        let mut ring = self.ring.clone();
        let id = ring.rotate()?;
        self.keep(ring)?;
        Ok(id)
    }

    /// Forgets all keys but the active one and those that are needed: see `log::Report::keys`. Says which were forgotten.
    pub fn retire_all_but(&mut self, needed: &BTreeSet<DataKey>) -> Result<Vec<KeyId>, KeysError> {
        let active = self.ring.active();
        let is_spare = |id: &KeyId| *id != active && !needed.contains(&DataKey(id.0));
        let spare: Vec<KeyId> = self.ring.ids().filter(is_spare).collect();
        let mut ring = self.ring.clone();
        // Neither the active one nor an unknown one is among them.
        if spare.iter().filter_map(|id| ring.retire(*id).ok()).count() > 0 {
            self.keep(ring)?;
        }
        Ok(spare)
    }

    /// Locks them with something else. What is encrypted stays as it is. A key file that lay beside them is removed.
    pub fn lock_with(&mut self, unlock: Unlock) -> Result<(), KeysError> {
        let opener = unlock.of(&self.dir);
        store(&self.dir, &self.ring, &opener)?;
        self.opener = opener;
        let path = self.dir.join(KEY_FILE);
        if matches!(&self.opener, Opener::KeyFile(file) if *file == path) {
            return Ok(());
        }
        durable_file::remove(&path).map_err(|source| KeysError::Io { path, action: "removed", source })
    }

    fn keep(&mut self, ring: KeyRing) -> Result<(), KeysError> {
        store(&self.dir, &ring, &self.opener)?;
        self.vault.change(&ring);
        self.ring = ring;
        Ok(())
    }
}

fn open_ring(path: &Path, text: &str, opener: &Opener) -> Result<KeyRing, KeysError> {
    let locked = LockedKeys::decode(text);
    let locked = locked.map_err(|source| KeysError::Text { path: path.to_owned(), source })?;
    let refused = |source| KeysError::Locked { path: path.to_owned(), source };
    match opener {
        Opener::Passphrase(passphrase) => {
            locked.unlock(seal::Unlock::Passphrase(passphrase)).map_err(refused)
        }
        Opener::KeyFile(file) => {
            // That a passphrase is wanted is better to know than that a file is missing.
            if let UnlocksWith::Passphrase(_) = locked.unlocks_with() {
                return Err(refused(UnlockError::WantsPassphrase));
            }
            let key = read_key_file(file)?.ok_or_else(|| KeysError::MissingKeyFile(file.clone()))?;
            locked.unlock(seal::Unlock::KeyFile(&key)).map_err(refused)
        }
    }
}

/// The key file is durable before anything is locked with it.
fn store(dir: &Path, ring: &KeyRing, opener: &Opener) -> Result<(), KeysError> {
    let locked = match opener {
        Opener::Passphrase(passphrase) => ring.lock(Lock::Passphrase(passphrase, Work::USUAL))?,
        Opener::KeyFile(file) => ring.lock(Lock::KeyFile(&read_or_make_key_file(file)?))?,
    };
    let path = dir.join(KEYS);
    let written = durable_file::replace(&path, locked.encode());
    written.map_err(|source| KeysError::Io { path, action: "written", source })
}

/// `None` if there is none. One that others can read is refused.
pub fn read_key_file(path: &Path) -> Result<Option<KeyFile>, KeysError> {
    let failed = |source| KeysError::Io { path: path.to_owned(), action: "read", source };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeysError::Exposed { path: path.to_owned(), mode });
    }
    let text = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
    let key = KeyFile::decode(&text);
    key.map(Some).map_err(|source| KeysError::KeyFile { path: path.to_owned(), source })
}

/// The key file there, made where there is none, for this user alone. Durable when it returns.
pub fn read_or_make_key_file(path: &Path) -> Result<KeyFile, KeysError> {
    if let Some(key) = read_key_file(path)? {
        return Ok(key);
    }
    let key = KeyFile::make()?;
    let written = durable_file::replace(path, key.encode().as_bytes());
    written.map_err(|source| KeysError::Io { path: path.to_owned(), action: "written", source })?;
    Ok(key)
}
