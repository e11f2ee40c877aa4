//! What can go wrong, in words for the person who reads it.

use std::io;
use std::path::PathBuf;

use crate::failure::Failure;
use crate::frame::Refusal;
use crate::id::ContainerId;
use crate::plan::PlanError;
use crate::seccomp::SeccompError;

/// The runtime could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    #[error(
        "the runtime must be forked before any thread exists, but the process has {0}; call it first in main"
    )]
    Threads(usize),
    #[error("{0:?} cannot name a parent cgroup: use a-z, 0-9, `.` and `-`")]
    Parent(String),
    #[error("cannot make the state directory {path}", path = path.display())]
    StateDir { path: PathBuf, source: io::Error },
    #[error("cannot set up cgroups; `wharf doctor` says what this host lacks")]
    Cgroup(#[source] io::Error),
    #[error("cannot find out what this kernel can do")]
    Kernel(#[source] io::Error),
    #[error("cannot fork the launcher")]
    Fork(#[source] io::Error),
}

/// A container, or a process in one, was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Seccomp(SeccompError),
    #[error("container {0} exists already; delete it first")]
    Exists(ContainerId),
    #[error("container {0} is not running")]
    NotRunning(ContainerId),
    #[error(transparent)]
    Failed(Failure),
    #[error("the launcher is gone; restart the agent (containers go on meanwhile)")]
    NoLauncher,
    #[error("the process that was to start it died; its cause may be in the kernel's log (out of memory?)")]
    Lost,
    #[error("cannot talk to the launcher")]
    Io(#[from] io::Error),
}

impl StartError {
    pub(super) fn refused(refusal: Refusal, id: &ContainerId) -> StartError {
        match refusal {
            Refusal::Exists => StartError::Exists(id.clone()),
            Refusal::NotRunning => StartError::NotRunning(id.clone()),
            Refusal::Failure(failure) => StartError::Failed(failure),
        }
    }
}

/// Something about an existing container did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no container {0}")]
    Unknown(ContainerId),
    #[error("container {0} is still running; kill it before it is deleted")]
    Running(ContainerId),
    #[error("container {0} is not running")]
    NotRunning(ContainerId),
    #[error("{signal} is no signal that can be sent to container {id}")]
    Signal { id: ContainerId, signal: i32 },
    #[error("container {id}")]
    Container { id: ContainerId, source: io::Error },
    #[error("cannot read the state directory {path}", path = path.display())]
    StateDir { path: PathBuf, source: io::Error },
    #[error("cannot remove the parent cgroup {parent}")]
    Teardown { parent: String, source: io::Error },
}

impl Error {
    pub(super) fn of(id: &ContainerId, source: io::Error) -> Error {
        Error::Container { id: id.clone(), source }
    }
}
