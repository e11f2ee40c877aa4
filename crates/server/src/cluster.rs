//! Which cluster this server is of: one line of text beside the log, drawn once.
//!
//! Agents remember it, and do not listen to a server of another cluster: an emptied or mixed-up data folder must not stop
//! what runs on every node. So no log is begun beside one that is there already: an empty cluster under that id would be one
//! that agents listen to. What was left half-way by the very first start has the file `beginning`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use model::ClusterId;

const FILE: &str = "cluster";
const BEGINNING: &str = "beginning";

#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    #[error(
        "{} is of cluster {cluster}, and its log is gone: a server that begins here would know nothing of what was declared,          under the id of a cluster that does. Nothing was changed. Bring the log back; or move the folder away and join \
         again, where other servers are left; or restore a backup into an empty folder; or, if nothing of the cluster is \
         left, remove {} and start anew", dir.display(), dir.join(FILE).display()
    )]
    LogGone { dir: PathBuf, cluster: String },
    #[error("the first start in {} cannot be noted", dir.display())]
    Io { dir: PathBuf, source: io::Error },
}

/// Before the first log of a folder is made.
pub(crate) fn begin(dir: &Path) -> Result<(), BeginError> {
    let failed = |source| BeginError::Io { dir: dir.to_owned(), source };
    if dir.join(BEGINNING).exists() {
        return Ok(());
    }
    match fs::read_to_string(dir.join(FILE)) {
        Ok(text) => Err(BeginError::LogGone { dir: dir.to_owned(), cluster: text.trim().to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            durable_file::replace(&dir.join(BEGINNING), "").map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The log is there.
pub(crate) fn begun(dir: &Path) -> Result<(), BeginError> {
    match dir.join(BEGINNING).exists() {
        true => durable_file::remove(&dir.join(BEGINNING))
            .map_err(|source| BeginError::Io { dir: dir.to_owned(), source }),
        false => Ok(()),
    }
}

/// The one in `dir`; `drawn` at the first start.
pub(crate) fn identify(dir: &Path, drawn: ClusterId) -> io::Result<ClusterId> {
    let path = dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            durable_file::replace(&path, format!("{drawn}\n"))?;
            Ok(drawn)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_drawn_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = ClusterId(7);
        assert_eq!(identify(dir.path(), first).unwrap(), first);
        assert_eq!(identify(dir.path(), ClusterId(8)).unwrap(), first);
        fs::write(dir.path().join("cluster"), "garbage").unwrap();
        assert!(identify(dir.path(), ClusterId(8)).unwrap_err().to_string().contains("garbage"));
    }
}
