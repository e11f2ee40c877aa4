//! What is done with a container that is there, whoever started it: find it, watch it, end it, remove it.
//!
//! Everything is read from its run directory and asked of the kernel each time; nothing is remembered in between.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::process::Signal;

use super::{Error, ExitWatch, Runtime};
use crate::cgroup::{Groups, OomWatch, Usage};
use crate::id::ContainerId;
use crate::launcher::Context;
use crate::record::{ExitRecord, State};
use crate::sys;

/// A container as its run directory and the kernel tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: ContainerId,
    pub status: Status,
    pub created_ms: u64,
    pub log: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Running {
        pid: i32,
    },
    Exited(ExitRecord),
    /// Its keeper is gone and left no record, or its start was never finished. What is left of it can be deleted.
    Broken,
}

impl Runtime {
    /// Every container in the state directory, also those that an earlier caller started.
    pub fn list(&self) -> Result<Vec<Container>, Error> {
        let mut found = Vec::new();
        let entries = match fs::read_dir(&self.inner.context.state_dir) {
            // Somebody removed it; what runs is still found by its groups.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other.map_err(|source| self.state_error(source))?),
        };
        for entry in entries.into_iter().flatten() {
            let entry = entry.map_err(|source| self.state_error(source))?;
            // Anything else in there is not ours, and not our business.
            let Ok(id) = entry.file_name().to_string_lossy().parse::<ContainerId>() else { continue };
            if let Some(container) = self.find(&id)? {
                found.push(container);
            }
        }
        let Context { layout, cgroup_parent, .. } = &*self.inner.context;
        for id in layout.containers(cgroup_parent).map_err(|source| self.state_error(source))? {
            if !self.run_dir(&id).is_dir() {
                found.extend(self.find(&id)?);
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// One container; `None` when there is none of that name.
    pub fn find(&self, id: &ContainerId) -> Result<Option<Container>, Error> {
        // Without its directory nothing is known of it but that it runs: somebody emptied the state directory.
        if !self.run_dir(id).is_dir() && !self.groups_by_name(id).exist() {
            return Ok(None);
        }
        let Some(state) = self.state(id)? else {
            let log = PathBuf::new();
            return Ok(Some(Container { id: id.clone(), status: Status::Broken, created_ms: 0, log }));
        };
        Ok(Some(Container {
            id: id.clone(),
            status: self.status(id, &state)?,
            created_ms: state.created_ms,
            log: state.log,
        }))
    }

    fn status(&self, id: &ContainerId, state: &State) -> Result<Status, Error> {
        // The keeper first: it may write its record and end between our two looks, never the other way round.
        let keeper = self.keeper(id, state)?;
        let record = ExitRecord::read(&self.run_dir(id), state.created_ms);
        if let Some(record) = record.map_err(|source| Error::of(id, source))? {
            return Ok(Status::Exited(record));
        }
        match (keeper, &state.first) {
            (Some(_), Some(first)) => Ok(Status::Running { pid: first.pid }),
            // Being started right now.
            (Some(keeper), None) => {
                drop(keeper);
                Ok(Status::Running { pid: 0 })
            }
            (None, _) => Ok(Status::Broken),
        }
    }

    /// A descriptor that becomes readable when the container has ended and its record is complete.
    pub fn watch(&self, id: &ContainerId) -> Result<ExitWatch, Error> {
        let state = self.known(id)?;
        match self.keeper(id, &state)? {
            Some(keeper) => Ok(ExitWatch::of(keeper)),
            None => ExitWatch::of_ended().map_err(|source| Error::of(id, source)),
        }
    }

    /// How the container ended; `None` while it runs. A keeper that died without a record gives an unknown ending, and
    /// whatever was left of the container is killed.
    pub fn exit_record(&self, id: &ContainerId) -> Result<Option<ExitRecord>, Error> {
        let Some(state) = self.state(id)? else {
            if !self.groups_by_name(id).exist() {
                return Err(Error::Unknown(id.clone()));
            }
            self.kill(id)?;
            // Since when it ran is lost too.
            return Ok(Some(ExitRecord::unknown(sys::unix_ms())));
        };
        match self.status(id, &state)? {
            Status::Running { .. } => Ok(None),
            Status::Exited(record) => Ok(Some(record)),
            Status::Broken => {
                self.kill(id)?;
                Ok(Some(ExitRecord::unknown(state.created_ms)))
            }
        }
    }

    /// Sends a signal to the application; with init, init passes it on.
    pub fn signal(&self, id: &ContainerId, signal: i32) -> Result<(), Error> {
        let number =
            Signal::from_named_raw(signal).ok_or_else(|| Error::Signal { id: id.clone(), signal })?;
        let state = self.known(id)?;
        match self.first(id, &state)? {
            None => Err(Error::NotRunning(id.clone())),
            Some(first) => match rustix::process::pidfd_send_signal(first, number) {
                Err(rustix::io::Errno::SRCH) => Err(Error::NotRunning(id.clone())),
                other => other.map_err(|source| Error::of(id, source.into())),
            },
        }
    }

    /// Kills everything in the container. Nothing to kill is no error.
    pub fn kill(&self, id: &ContainerId) -> Result<(), Error> {
        let Some(state) = self.state(id)? else {
            let groups = self.groups_by_name(id);
            return match groups.exist() {
                true => groups.kill_everywhere().map_err(|source| Error::of(id, source)),
                false => Err(Error::Unknown(id.clone())),
            };
        };
        if let Some(first) = self.first(id, &state)? {
            // The end of a PID namespace's first process is the end of all of them.
            match rustix::process::pidfd_send_signal(first, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(Error::of(id, error.into())),
            }
        }
        // Only after a boot do the groups belong to somebody else, and then there is nothing to kill.
        if state.boot != self.inner.context.boot {
            return Ok(());
        }
        state.groups.kill().map_err(|source| Error::of(id, source))
    }

    /// Removes what a container that has ended leaves behind, except its log. A container that is gone is no error.
    pub fn delete(&self, id: &ContainerId) -> Result<(), Error> {
        let run_dir = self.run_dir(id);
        if let Some(state) = self.state(id)? {
            if matches!(self.status(id, &state)?, Status::Running { .. }) {
                return Err(Error::Running(id.clone()));
            }
            self.kill(id)?;
            state.groups.remove().map_err(|source| Error::of(id, source))?;
        } else {
            let groups = self.groups_by_name(id);
            groups
                .kill_everywhere()
                .and_then(|()| groups.remove())
                .map_err(|source| Error::of(id, source))?;
        }
        match fs::remove_dir_all(&run_dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::of(id, error)),
            _ => Ok(()),
        }
    }

    /// What the container uses now.
    pub fn usage(&self, id: &ContainerId) -> Result<Usage, Error> {
        Ok(self.known(id)?.groups.usage())
    }

    /// Tells of processes that the kernel kills for want of memory while the container goes on. `None` when its memory is
    /// not counted, or it is being deleted.
    pub fn watch_oom(&self, id: &ContainerId) -> Result<Option<OomWatch>, Error> {
        self.known(id)?.groups.watch_oom().map_err(|source| Error::of(id, source))
    }

    /// The container's first process as the host counts; `None` when it does not run.
    pub fn pid(&self, id: &ContainerId) -> Result<Option<i32>, Error> {
        let state = self.known(id)?;
        Ok(self.first(id, &state)?.and(state.first).map(|first| first.pid))
    }

    /// All processes of the container, as the host counts.
    pub fn processes(&self, id: &ContainerId) -> Result<Vec<i32>, Error> {
        self.known(id)?.groups.processes().map_err(|source| Error::of(id, source))
    }

    fn run_dir(&self, id: &ContainerId) -> PathBuf {
        self.inner.context.state_dir.join(id.as_str())
    }

    /// For a container whose state is lost: every group that it can have.
    fn groups_by_name(&self, id: &ContainerId) -> Groups {
        Groups::by_name(&self.inner.context.layout, &self.inner.context.cgroup_parent, id)
    }

    fn state(&self, id: &ContainerId) -> Result<Option<State>, Error> {
        State::read(&self.run_dir(id)).map_err(|source| Error::of(id, source))
    }

    fn known(&self, id: &ContainerId) -> Result<State, Error> {
        self.state(id)?.ok_or_else(|| Error::Unknown(id.clone()))
    }

    fn first(&self, id: &ContainerId, state: &State) -> Result<Option<OwnedFd>, Error> {
        state.first(&self.inner.context.boot).map_err(|source| Error::of(id, source))
    }

    fn keeper(&self, id: &ContainerId, state: &State) -> Result<Option<OwnedFd>, Error> {
        state.keeper(&self.inner.context.boot).map_err(|source| Error::of(id, source))
    }

    fn state_error(&self, source: io::Error) -> Error {
        Error::StateDir { path: self.inner.context.state_dir.clone(), source }
    }
}
