//! What the agent remembers over its own death: one entry per replica. A redb database.
//!
//! A commit is one fsync, whatever is in it: the loop collects what waits while a commit runs into the next one
//! (see [`crate::journal`]), so that many replicas starting at once cost few.

mod entry;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use model::{ReplicaId, Timestamp};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::core::{Change, Record};

pub use entry::EntryError;

const REPLICAS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("replicas");

#[derive(Debug)]
pub(crate) struct Ledger {
    database: Database,
    path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("cannot use the ledger {}; containers go on without the agent", path.display())]
    Database { path: PathBuf, source: Box<redb::Error> },
    #[error("the ledger {} is damaged; containers go on without the agent", path.display())]
    Damaged { path: PathBuf },
    #[error("the damaged ledger {} cannot be set aside; move it away", path.display())]
    SetAside { path: PathBuf, source: io::Error },
    #[error("the ledger {} has an entry for replica {replica} that this version cannot read", path.display())]
    Entry { path: PathBuf, replica: ReplicaId, source: EntryError },
}

impl LedgerError {
    /// Whether the file will never be what it was. What a newer version wrote is whole, and what a disk refuses may be.
    fn is_damage(&self) -> bool {
        match self {
            LedgerError::Damaged { .. } => true,
            LedgerError::Database { source, .. } => match &**source {
                redb::Error::Corrupted(_) => true,
                redb::Error::Io(error) => {
                    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
                }
                _ => false,
            },
            LedgerError::Entry { source, .. } => !matches!(source, EntryError::Newer(_)),
            LedgerError::SetAside { .. } => false,
        }
    }
}

impl Ledger {
    /// With what it holds; none if nothing is remembered, because there was no ledger or only a damaged one. That one is
    /// kept beside the new one, with the time in its name.
    pub(crate) fn recall(path: &Path, now: Timestamp) -> Result<(Ledger, Option<Vec<Record>>), LedgerError> {
        if fs::metadata(path).map_or(0, |metadata| metadata.len()) == 0 {
            return Ok((Ledger::open(path)?, None));
        }
        let recalled = Ledger::open(path).and_then(|ledger| {
            let records = ledger.records()?;
            Ok((ledger, Some(records)))
        });
        match recalled {
            Err(damage) if damage.is_damage() => {
                let aside = path.with_extension(format!("damaged-{}", now.0));
                let failed = |source| LedgerError::SetAside { path: path.to_owned(), source };
                fs::rename(path, &aside).map_err(failed)?;
                let error = crate::host::chain(&damage);
                tracing::error!(error, aside = %aside.display(), "the damaged ledger is set aside, a new one begun");
                Ok((Ledger::open(path)?, None))
            }
            other => other,
        }
    }

    fn open(path: &Path) -> Result<Ledger, LedgerError> {
        let database = attempt(path, || Ok(Database::create(path)?))?;
        let ledger = Ledger { database, path: path.to_owned() };
        // Tables exist from the first moment on, so that reading an empty ledger is no special case.
        ledger.write(|_| Ok(()))?;
        Ok(ledger)
    }

    fn records(&self) -> Result<Vec<Record>, LedgerError> {
        let entries = self.attempt(|| {
            let table = self.database.begin_read()?.open_table(REPLICAS)?;
            let mut entries = Vec::new();
            for entry in table.iter()? {
                let (replica, bytes) = entry?;
                entries.push((ReplicaId(replica.value()), bytes.value().to_vec()));
            }
            Ok(entries)
        })?;
        let decode = |(replica, bytes): (ReplicaId, Vec<u8>)| {
            let failed = |source| LedgerError::Entry { path: self.path.clone(), replica, source };
            entry::decode(&bytes).map_err(failed)
        };
        entries.into_iter().map(decode).collect()
    }

    /// Durable when it returns.
    pub(crate) fn save(&self, changes: &[Change]) -> Result<(), LedgerError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(REPLICAS)?;
            for change in changes {
                match change {
                    Change::Put(record) => {
                        table.insert(record.id().0, entry::encode(record).as_slice())?;
                    }
                    Change::Forget(replica) => {
                        table.remove(replica.0)?;
                    }
                }
            }
            Ok(())
        })
    }

    fn write(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), LedgerError> {
        self.attempt(|| {
            let mut transaction = self.database.begin_write()?;
            // A kill in the middle must not cost a scan of the whole file at the next start.
            transaction.set_quick_repair(true);
            transaction.open_table(REPLICAS)?;
            change(&transaction)?;
            transaction.commit()?;
            Ok(())
        })
    }

    fn attempt<T>(&self, what: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, LedgerError> {
        attempt(&self.path, what)
    }
}

/// A damaged file makes redb panic as well as fail.
fn attempt<T>(path: &Path, what: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, LedgerError> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(what)) {
        Ok(result) => {
            result.map_err(|source| LedgerError::Database { path: path.to_owned(), source: Box::new(source) })
        }
        Err(_) => Err(LedgerError::Damaged { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Phase, Timestamp};

    use super::*;
    use crate::core::Stage;

    #[test]
    fn what_was_saved_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.records().unwrap(), []);
        let (mut one, two) = (entry::tests::record(1), entry::tests::record(2));
        ledger.save(&[Change::Put(Box::new(one.clone())), Change::Put(Box::new(two.clone()))]).unwrap();
        one.phase = Phase::Stopping;
        one.containers[0].stage = Stage::BackingOff { until: Timestamp(99) };
        ledger.save(&[Change::Put(Box::new(one.clone())), Change::Forget(two.id())]).unwrap();
        drop(ledger);
        let again = Ledger::open(&path).unwrap();
        assert_eq!(again.records().unwrap(), [one]);
    }

    #[test]
    fn a_ledger_that_is_in_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let first = Arc::new(Ledger::open(&path).unwrap());
        let refused = Ledger::open(&path).unwrap_err().to_string();
        assert!(refused.contains("cannot use the ledger"), "{refused}");
        drop(first);
    }

    #[test]
    fn a_damaged_ledger_is_set_aside_and_one_of_a_newer_version_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let ledger = Ledger::open(&path).unwrap();
        ledger.save(&[Change::Put(Box::new(entry::tests::record(1)))]).unwrap();
        drop(ledger);
        let whole = std::fs::read(&path).unwrap();
        for (from, to) in [(0, 100), (4096, 16384), (0, whole.len())] {
            let mut bytes = whole.clone();
            bytes.truncate(whole.len().max(to));
            bytes[from..to].fill(0xa5);
            std::fs::write(&path, &bytes).unwrap();
            // It may be whole all the same: redb has two roots.
            let now = Timestamp(to as u64);
            let (ledger, records) = Ledger::recall(&path, now).unwrap();
            let aside = folder.path().join(format!("ledger.damaged-{}", now.0));
            assert_eq!(aside.exists(), records.is_none(), "{from}..{to}");
            if let Some(records) = records {
                assert_eq!(records, [entry::tests::record(1)]);
            }
            ledger.save(&[Change::Forget(ReplicaId(1))]).unwrap();
        }
        assert!(folder.path().join(format!("ledger.damaged-{}", whole.len())).exists());
        // Cut short, as by a full disk, or empty.
        for length in [whole.len() / 2, 100] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(Ledger::recall(&path, Timestamp(1)).unwrap().1.is_none(), "{length}");
        }
        std::fs::write(&path, b"").unwrap();
        assert!(Ledger::recall(&path, Timestamp(1)).unwrap().1.is_none());
        let entry = |bytes: &[u8]| {
            let ledger = Ledger::open(&path).unwrap();
            ledger.write(|change| Ok(change.open_table(REPLICAS)?.insert(1, bytes).map(drop)?)).unwrap();
            drop(ledger);
            Ledger::recall(&path, Timestamp(2))
        };
        // Version 99.
        let newer = entry(&[8, 99]).unwrap_err().to_string();
        assert!(newer.contains("this version cannot read"), "{newer}");
        assert!(path.exists() && entry(&[0xff]).unwrap().1.is_none());
    }
}
