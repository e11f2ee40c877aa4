//! Leaving nothing behind: of one replica, and of everything.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use model::{ReplicaId, ServiceKey};

use super::{Host, HostError, chain};
use crate::core::ContainerId;

/// How many removed replicas of a service keep their logs, so that `logs` can still tell why something failed.
const LOGS_KEPT: usize = 10;

type Anything = Box<dyn std::error::Error + Send + Sync>;

impl Host {
    /// Everything but the logs. May be repeated; its containers must have ended.
    pub(crate) fn clean(&self, replica: ReplicaId, service: Option<&ServiceKey>) -> Result<(), String> {
        self.clean_all(replica).map_err(|error| chain(&*error))?;
        if let Some(service) = service {
            self.forget_old_logs(service);
        }
        Ok(())
    }

    fn clean_all(&self, replica: ReplicaId) -> Result<(), Anything> {
        let name = replica.to_string();
        for container in self.runtime.list()? {
            if is_of(container.id.as_str(), replica) {
                // One that runs here was taken for ended; its end comes first, the next attempt removes it.
                match self.runtime.delete(&container.id) {
                    Err(error @ runtime::Error::Running(_)) => {
                        self.runtime.kill(&container.id)?;
                        return Err(error.into());
                    }
                    other => other?,
                }
            }
        }
        for snapshot in self.images.snapshots()? {
            if is_of(&snapshot, replica) {
                self.images.remove_snapshot(&snapshot)?;
            }
        }
        self.network.remove_sandbox(&name)?;
        remove_dir(&self.etc_dir(replica))?;
        let mut known = self.known();
        known.addresses.release(&name);
        known.sandboxes.remove(&replica);
        known.live.remove(&replica);
        Ok(())
    }

    /// Old logs are not worth failing for: what cannot be removed now is tried with the next replica.
    fn forget_old_logs(&self, service: &ServiceKey) {
        let dir = self.service_log_dir(service);
        let result = old_logs(&dir, |id| self.known().live.contains(&id))
            .and_then(|old| old.iter().try_for_each(|path| remove_dir(path)));
        if let Err(error) = result {
            tracing::warn!(dir = %dir.display(), %error, "old logs cannot be removed");
        }
    }

    /// After everything was stopped and cleaned: what belongs to no replica.
    pub(crate) fn teardown(&self) -> Result<(), HostError> {
        let failed = |error: Anything| HostError::Teardown(error);
        self.network.teardown().map_err(|error| failed(error.into()))?;
        self.runtime.teardown().map_err(|error| failed(error.into()))?;
        for dir in [self.config.replicas_dir(), self.config.netns_dir()] {
            remove_dir(&dir).map_err(|error| failed(error.into()))?;
        }
        Ok(())
    }
}

/// Whether a runtime's or a store's name is that of an attempt of this replica.
fn is_of(name: &str, replica: ReplicaId) -> bool {
    name.parse::<ContainerId>().is_ok_and(|id| id.replica == replica)
}

/// Folders of replicas that are gone, except the newest ones.
fn old_logs(dir: &Path, is_live: impl Fn(ReplicaId) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut gone: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in read_dir(dir)?.into_iter().flatten() {
        let entry = entry?;
        let id = entry.file_name().to_string_lossy().parse::<ReplicaId>();
        if id.is_ok_and(|id| !is_live(id)) {
            match entry.metadata() {
                Ok(metadata) => gone.push((metadata.modified()?, entry.path())),
                // Removed meanwhile, for another replica of the service.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    gone.sort();
    gone.truncate(gone.len().saturating_sub(LOGS_KEPT));
    Ok(gone.into_iter().map(|(_, path)| path).collect())
}

fn read_dir(dir: &Path) -> io::Result<Option<fs::ReadDir>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_logs_of_removed_replicas_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let start = SystemTime::UNIX_EPOCH;
        for id in 1..=14 {
            let path = dir.path().join(ReplicaId(id).to_string());
            fs::create_dir(&path).unwrap();
            let at = start + std::time::Duration::from_secs(id);
            fs::File::open(&path).unwrap().set_modified(at).unwrap();
        }
        fs::create_dir(dir.path().join("something-else")).unwrap();
        let old = old_logs(dir.path(), |id| id == ReplicaId(1)).unwrap();
        let names: Vec<_> = old.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, [2, 3, 4].map(|id| ReplicaId(id).to_string()));
        assert!(old_logs(&dir.path().join("missing"), |_| false).unwrap().is_empty());
    }
}
