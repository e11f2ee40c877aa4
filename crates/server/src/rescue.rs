//! What is done to the files of a cluster while no server uses them, and what is left when a cluster is not.
//!
//! - [`backup`]: the file, sealed; how it is written while the cluster serves, and read.
//! - [`restore`]: a backup becomes the data directory of a cluster of one server.
//! - [`lock`]: what opens a server's data keys is changed.
//! - [`recover`]: the data directory of one server that is left becomes that of a cluster of it alone.
//!
//! A restored cluster keeps the id of the one that was backed up. Agents know the cluster by it, and by its authority, which
//! is in the backup too: they take up what they run with the restored server as with any other, and nothing is stopped only
//! because servers were lost. What must not come back is the servers of before, and they cannot: the restored server has a
//! new id, all others are removed in the state that it begins with, and the versions it writes leave room for what the lost
//! servers wrote after the backup. Whoever wants a copy to try things out keeps it where no agent reaches it.

pub mod backup;
mod recover;
mod restore;

use std::path::{Path, PathBuf};

use model::{ClusterId, Member};
use trust::{
    authority::AuthorityError, bundle::TrustTextError, folder::FolderError, identity::Identity,
    key::RequestError,
};

pub use recover::{Recovered, recover};
pub use restore::{Itself, Restored, restore};

use crate::{
    keys::{Keys, KeysError, Unlock},
    log::{self, HostDisk},
};

#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    #[error("there is no log in {}: name the data directory of a server, as its --data", .0.display())]
    NoLog(PathBuf),
    #[error(
        "{} holds the log of a server already; restore into an empty directory, and nothing can be lost by it", .0.display()
    )]
    Taken(PathBuf),
    #[error("{} is of cluster {found}, and the backup of cluster {expected}", dir.display())]
    OtherCluster { dir: PathBuf, found: ClusterId, expected: ClusterId },
    #[error("the log in {} cannot be used", dir.display())]
    Log { dir: PathBuf, source: log::OpenError },
    #[error("the log in {} cannot be written", dir.display())]
    Write { dir: PathBuf, source: log::LogError },
    #[error("the data keys in {} cannot be used", dir.display())]
    Keys { dir: PathBuf, source: KeysError },
    #[error("{} cannot be read or written", path.display())]
    Cluster { path: PathBuf, source: std::io::Error },
    #[error("the new server cannot be given a certificate")]
    Identity(#[from] IdentityError),
    #[error("the kernel gives no random numbers")]
    Random(#[source] std::io::Error),
    #[error("the state cannot be read; was it written by a newer version of wharf?")]
    State(#[from] manager::CodecError),
    #[error(transparent)]
    TooNew(#[from] manager::TooNew),
}

/// From now on `new` opens the data keys of the server whose data directory this is, which `now` opens. It must not run.
pub fn lock(dir: &Path, now: Unlock, new: Unlock) -> Result<(), RescueError> {
    let dir = Directory::open(dir.to_owned())?;
    let mut keys = dir.keys(dir.of_a_server()?, now)?;
    keys.lock_with(new).map_err(|source| RescueError::Keys { dir: dir.path, source })
}

/// Why the new server cannot prove who it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{} is of {known} already", dir.display())]
    Other { dir: PathBuf, known: Identity },
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("the authority in the backup cannot be used")]
    Authority(#[from] AuthorityError),
    #[error("the bundle in the backup cannot be used")]
    Bundle(#[from] TrustTextError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the kernel gives no random numbers")]
    Random(#[source] std::io::Error),
}

/// A data directory that no server uses meanwhile: it is locked.
struct Directory {
    path: PathBuf,
    disk: HostDisk,
}

impl Directory {
    fn open(path: PathBuf) -> Result<Directory, RescueError> {
        match HostDisk::open(&path) {
            Ok(disk) => Ok(Directory { path, disk }),
            Err(source) => Err(RescueError::Log { dir: path, source }),
        }
    }

    fn has_log(&self) -> Result<bool, RescueError> {
        log::is_there(&self.disk).map_err(self.log_failed())
    }

    /// Which cluster it is of; `drawn` where nothing says so yet.
    fn cluster(&self, drawn: ClusterId) -> Result<ClusterId, RescueError> {
        let path = self.path.join("cluster");
        crate::cluster::identify(&self.path, drawn).map_err(|source| RescueError::Cluster { path, source })
    }

    /// Which cluster it is of, with a log. A server that ever served has written both.
    fn of_a_server(&self) -> Result<ClusterId, RescueError> {
        if !self.has_log()? || !self.path.join("cluster").exists() {
            return Err(RescueError::NoLog(self.path.clone()));
        }
        self.cluster(ClusterId(0))
    }

    fn keys(&self, cluster: ClusterId, unlock: Unlock) -> Result<Keys, RescueError> {
        let is_encrypted = log::is_encrypted(&self.disk).map_err(self.log_failed())?;
        let keys = Keys::open(&self.path, cluster, unlock, is_encrypted);
        keys.map_err(|source| RescueError::Keys { dir: self.path.clone(), source })
    }

    fn log_failed(&self) -> impl Fn(log::OpenError) -> RescueError {
        let dir = self.path.clone();
        move |source| RescueError::Log { dir: dir.clone(), source }
    }
}

/// Those of the old cluster that are no members of the new one, by name.
fn names_of_gone(state: &store::State, stays: model::MemberId) -> Vec<String> {
    let gone =
        |member: &&std::sync::Arc<Member>| member.id != stays && member.part != model::MemberPart::Removed;
    let mut names: Vec<String> = state.members().filter(gone).map(|member| member.name.to_string()).collect();
    names.sort();
    names
}
