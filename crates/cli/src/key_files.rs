//! Keys and passphrases that the command line names files for.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use server::keys::{self, Unlock};
use trust::seal::{KeyFile, Passphrase};
use zeroize::Zeroizing;

use crate::{
    args::{BackupKey, DataKeys},
    exit::Failure,
};

impl DataKeys {
    pub fn unlock(self) -> Result<Unlock, Failure> {
        match (self.passphrase_file, self.key_file) {
            (Some(path), _) => Ok(Unlock::Passphrase(Arc::new(read_passphrase(&path)?))),
            (None, Some(path)) => Ok(Unlock::KeyFile(path)),
            (None, None) => Ok(Unlock::Beside),
        }
    }
}

/// What locks a backup, or opens it.
pub enum Lock {
    KeyFile { path: PathBuf, key: KeyFile },
    Passphrase(Passphrase),
}

impl BackupKey {
    /// For a new backup: a key file is made where there is none.
    pub fn lock(self, backup: &Path) -> Result<Lock, Failure> {
        self.with(backup, |path| keys::read_or_make_key_file(path).map(Some))
    }

    pub fn open(self, backup: &Path) -> Result<Lock, Failure> {
        self.with(backup, keys::read_key_file)
    }

    fn with(
        self,
        backup: &Path,
        read: impl FnOnce(&Path) -> Result<Option<KeyFile>, keys::KeysError>,
    ) -> Result<Lock, Failure> {
        if let Some(path) = self.backup_passphrase_file {
            return Ok(Lock::Passphrase(read_passphrase(&path)?));
        }
        let path = self.backup_key.unwrap_or_else(|| beside(backup));
        let failed = |error| Failure::new("the key of the backup cannot be used").caused_by(error);
        match read(&path).map_err(failed)? {
            Some(key) => Ok(Lock::KeyFile { path, key }),
            None => Err(Failure::new(format!("there is no key file {}", path.display()))
                .help("name the one that the backup was made with: --backup-key")),
        }
    }
}

fn beside(backup: &Path) -> PathBuf {
    let mut name = backup.as_os_str().to_owned();
    name.push(".key");
    name.into()
}

/// Read once, so that the file may be a pipe.
fn read_passphrase(path: &Path) -> Result<Passphrase, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!("the passphrase cannot be read from {}", path.display())).caused_by(error)
    };
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
    let line = text.lines().next().unwrap_or_default();
    Ok(Passphrase::new(Zeroizing::new(line.to_owned())))
}
