//! The handle that callers hold: every verb of the runtime is a method of it.
//!
//! Here is what needs the launcher: starting containers, and processes in them. What is done with a container that is
//! there needs only its run directory and the kernel: `runtime/container.rs`.

mod container;
mod errors;
mod exec;
mod watches;

pub use container::{Container, Status};
pub use errors::{Error, ForkError, StartError};
pub use exec::{Exec, ExecStatus};
pub use watches::{ExitWatch, LauncherWatch};

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, WaitOptions};

use crate::cgroup::Layout;
use crate::features;
use crate::frame::{self, Body, ExecPlan, Refusal, Reply, Request};
use crate::id::ContainerId;
use crate::launcher::{self, Context, Launcher};
use crate::plan::{Plan, ProcessPlan};
use crate::request::{ExecRequest, ExecStdio, StartRequest, Trial};
use crate::seccomp;

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
        layout
            .prepare(&config.cgroup_parent)
            .map_err(|failure| ForkError::Cgroup(io::Error::other(failure)))?;
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
        let process = ProcessPlan::of_exec(request)?;
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

    /// Ends the launcher and removes the parent groups that are empty. Containers go on; no more can be started.
    pub fn teardown(&self) -> Result<(), Error> {
        self.inner.stop_launcher();
        let Context { layout, cgroup_parent, .. } = &*self.inner.context;
        layout
            .remove_parents(cgroup_parent)
            .map_err(|source| Error::Teardown { parent: cgroup_parent.clone(), source })
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
