//! The handle that callers hold: every verb of the runtime is a method here.

mod errors;
mod exec;
mod watches;

pub use errors::{Error, ForkError, StartError};
pub use exec::{Exec, ExecStatus};
pub use watches::{ExitWatch, LauncherWatch};

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, WaitOptions};

use crate::cgroup::{Groups, Layout, Usage};
use crate::features;
use crate::frame::{self, Body, ExecPlan, Refusal, Reply, Request};
use crate::id::ContainerId;
use crate::launcher::{self, Context, Launcher};
use crate::plan::{Plan, ProcessPlan};
use crate::record::{ExitRecord, State};
use crate::request::{ExecRequest, ExecStdio, StartRequest, Trial};
use crate::seccomp;
use crate::sys;

/// Where a runtime keeps what it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// One directory per container, such as `/run/wharf/containers`. Best on a tmpfs: it means nothing after a boot.
    pub state_dir: PathBuf,
    /// The group below which every container gets its own, such as `wharf`: one name, no path.
    pub cgroup_parent: String,
}

/// A handle on the runtime. Clones share one launcher; calls may overlap freely and block only their caller.
#[derive(Clone, Debug)]
pub struct Runtime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    context: Arc<Context>,
    launcher: Mutex<Option<Launcher>>,
    seccomp: seccomp::Cache,
}

/// A container that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Of the container's first process, as the host counts.
    pub pid: i32,
    pub keeper_pid: i32,
    pub started_ms: u64,
}

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
    /// Forks the launcher. Must be called before the process has a second thread.
    pub fn fork(config: Config) -> Result<Runtime, ForkError> {
        let threads = fs::read_dir("/proc/self/task").map_err(ForkError::Fork)?.count();
        if threads != 1 {
            return Err(ForkError::Threads(threads));
        }
        if config.cgroup_parent.parse::<ContainerId>().is_err() {
            return Err(ForkError::Parent(config.cgroup_parent));
        }
        fs::create_dir_all(&config.state_dir)
            .map_err(|source| ForkError::StateDir { path: config.state_dir.clone(), source })?;
        features::learn(&config.state_dir).map_err(ForkError::Kernel)?;
        let layout = Layout::detect().map_err(ForkError::Cgroup)?;
        layout.prepare(&config.cgroup_parent).map_err(ForkError::Cgroup)?;
        let context =
            Context::new(config.state_dir, config.cgroup_parent, layout).map_err(ForkError::Fork)?;
        let context = Arc::new(context);
        let launcher = launcher::fork(Arc::clone(&context)).map_err(ForkError::Fork)?;
        let inner =
            Inner { context, launcher: Mutex::new(Some(launcher)), seccomp: seccomp::Cache::default() };
        Ok(Runtime { inner: Arc::new(inner) })
    }

    /// Starts a container. Returns when its program has been executed, or with the step that failed.
    pub fn start(&self, request: &StartRequest) -> Result<Started, StartError> {
        let plan = Plan::of(request)?;
        let seccomp = match request.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) {
            Some(profile) => self.inner.seccomp.program(profile).map_err(StartError::Seccomp)?,
            None => Vec::new(),
        };
        let reply = self.send(Request::Start(Box::new(plan)), seccomp, &[])?;
        match frame::receive_reply(reply.as_fd())? {
            Some((Reply::Started { pid, keeper, started_ms }, _)) => {
                Ok(Started { pid, keeper_pid: keeper, started_ms })
            }
            Some((Reply::Failed(refusal), _)) => Err(StartError::refused(refusal, &request.id)),
            Some(_) | None => Err(self.lost()),
        }
    }

    /// Starts one more process in a running container. Dropping the result kills it.
    pub fn exec(&self, request: &ExecRequest) -> Result<Exec, StartError> {
        let mut process = ProcessPlan::of(&request.process, false)?;
        if request.process.capabilities().is_none() {
            // All; the launcher cuts them down to what the container has.
            (process.bounding, process.permitted, process.effective) = (u64::MAX, u64::MAX, u64::MAX);
        }
        let (terminal, fds): (_, Vec<BorrowedFd<'_>>) = match &request.stdio {
            ExecStdio::Tty(size) => (Some((size.rows, size.columns)), Vec::new()),
            ExecStdio::Fds { stdin, stdout, stderr } => {
                (None, vec![stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
            }
        };
        let plan = ExecPlan { id: request.id.clone(), process, terminal };
        let reply = self.send(Request::Exec(Box::new(plan)), Vec::new(), &fds)?;
        match frame::receive_reply(reply.as_fd())? {
            Some((Reply::ExecStarted { pid }, fds)) => Exec::new(pid, reply, fds).ok_or(StartError::Lost),
            Some((Reply::Failed(refusal), _)) => Err(StartError::refused(refusal, &request.id)),
            Some(_) | None => Err(self.lost()),
        }
    }

    /// Tries on this host what containers with user namespaces would need; the error says why they cannot have it.
    pub fn attempt(&self, trial: &Trial) -> Result<(), StartError> {
        let reply = self.send(Request::Try(trial.clone()), Vec::new(), &[])?;
        match frame::receive_reply(reply.as_fd())? {
            Some((Reply::Tried, _)) => Ok(()),
            Some((Reply::Failed(Refusal::Failure(failure)), _)) => Err(StartError::Failed(failure)),
            Some(_) | None => Err(self.lost()),
        }
    }

    /// A fork of the launcher ended without a reply: by itself, or because the launcher did.
    fn lost(&self) -> StartError {
        /// Its descriptors are not closed all at once.
        const MOMENT_MS: u64 = 100;
        match self.watch_launcher().and_then(|watch| watch.wait(MOMENT_MS)) {
            Ok(false) => StartError::Lost,
            Ok(true) | Err(_) => StartError::NoLauncher,
        }
    }

    /// A descriptor that becomes readable when the launcher is gone. Then nothing can be started any more; whoever owns this
    /// runtime should end, and let the next one adopt what runs.
    pub fn watch_launcher(&self) -> io::Result<LauncherWatch> {
        let launcher = self.inner.launcher.lock().map_err(|_| io::Error::other("a caller panicked"))?;
        let launcher = launcher.as_ref().ok_or_else(|| io::Error::other("the launcher was ended"))?;
        Ok(LauncherWatch::of(launcher.socket.try_clone()?))
    }

    fn send(
        &self,
        request: Request,
        seccomp: Vec<u8>,
        fds: &[BorrowedFd<'_>],
    ) -> Result<OwnedFd, StartError> {
        let body = frame::memory_file(&Body { request, seccomp }.encode()?)?;
        let (ours, theirs) = frame::packet_pair()?;
        // Duplicated under the lock and used outside of it, so that callers only queue in the kernel.
        let socket = match self.inner.launcher.lock() {
            Ok(launcher) => launcher.as_ref().map(|launcher| launcher.socket.try_clone()).transpose()?,
            Err(_) => None,
        };
        let socket = socket.ok_or(StartError::NoLauncher)?;
        let all: Vec<BorrowedFd<'_>> =
            [body.as_fd(), theirs.as_fd()].into_iter().chain(fds.iter().copied()).collect();
        frame::send(socket.as_fd(), b"r", &all).map_err(|error| match error.raw_os_error() {
            Some(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN) => StartError::NoLauncher,
            _ => StartError::Io(error),
        })?;
        Ok(ours)
    }

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
        if let Some(record) = ExitRecord::read(&self.run_dir(id)).map_err(|source| Error::of(id, source))? {
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

    /// The container's first process as the host counts; `None` when it does not run.
    pub fn pid(&self, id: &ContainerId) -> Result<Option<i32>, Error> {
        let state = self.known(id)?;
        Ok(self.first(id, &state)?.and(state.first).map(|first| first.pid))
    }

    /// All processes of the container, as the host counts.
    pub fn processes(&self, id: &ContainerId) -> Result<Vec<i32>, Error> {
        self.known(id)?.groups.processes().map_err(|source| Error::of(id, source))
    }

    /// Ends the launcher and removes the parent groups that are empty. Containers go on; no more can be started.
    pub fn teardown(&self) -> Result<(), Error> {
        self.inner.stop_launcher();
        let Context { layout, cgroup_parent, .. } = &*self.inner.context;
        layout
            .remove_parents(cgroup_parent)
            .map_err(|source| Error::Teardown { parent: cgroup_parent.clone(), source })
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
        match &state.first {
            Some(first) if state.boot == self.inner.context.boot => {
                first.open().map_err(|source| Error::of(id, source))
            }
            _ => Ok(None),
        }
    }

    fn keeper(&self, id: &ContainerId, state: &State) -> Result<Option<OwnedFd>, Error> {
        if state.boot != self.inner.context.boot {
            return Ok(None);
        }
        state.keeper.open().map_err(|source| Error::of(id, source))
    }

    fn state_error(&self, source: io::Error) -> Error {
        Error::StateDir { path: self.inner.context.state_dir.clone(), source }
    }
}

impl Inner {
    fn stop_launcher(&self) {
        let Ok(mut launcher) = self.launcher.lock() else { return };
        if let Some(Launcher { socket, pid }) = launcher.take() {
            // An end of file is its order to end; clones of the socket in flight must not delay it.
            let _closed = rustix::net::shutdown(&socket, rustix::net::Shutdown::Both);
            reap(pid);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop_launcher();
    }
}

fn reap(pid: Pid) {
    while let Err(rustix::io::Errno::INTR) = rustix::process::waitpid(Some(pid), WaitOptions::empty()) {}
}
