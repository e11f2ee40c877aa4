//! The launcher: a small process with one thread, forked before the agent has any other, that makes all the others.
//!
//! Forking a large threaded process is slow (its page tables are copied) and unsafe (locks held by threads that do not
//! exist in the child). The launcher is neither. It never waits for one container: each request is handed to a fork of
//! its own, which answers the caller directly. It ends when the agent does; what it started goes on.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, WaitOptions};

use crate::cgroup::Layout;
use crate::frame::{self, Body, Refusal, Reply, Request};
use crate::{exec, keeper, record, start, sys};

/// What every fork of the launcher knows from the beginning.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) state_dir: PathBuf,
    pub(crate) cgroup_parent: String,
    pub(crate) layout: Layout,
    pub(crate) boot: String,
    /// The sealed program that enters containers and stays with them.
    pub(crate) program: OwnedFd,
    /// Our own out-of-memory score, which containers shall not inherit.
    pub(crate) oom_score_adj: i32,
}

impl Context {
    pub(crate) fn new(state_dir: PathBuf, cgroup_parent: String, layout: Layout) -> io::Result<Context> {
        let score = fs::read_to_string("/proc/self/oom_score_adj")?;
        let oom_score_adj = score.trim().parse().map_err(io::Error::other)?;
        Ok(Context {
            state_dir,
            cgroup_parent,
            layout,
            boot: record::boot_id()?,
            program: keeper::program()?,
            oom_score_adj,
        })
    }
}

/// The launcher as its parent holds it.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) socket: OwnedFd,
    pub(crate) pid: Pid,
}

/// Forks the launcher. The caller must have a single thread.
pub(crate) fn fork(context: Arc<Context>) -> io::Result<Launcher> {
    let (ours, theirs) = frame::packet_pair()?;
    let parent = rustix::process::getpid();
    match sys::fork()? {
        Some(pid) => Ok(Launcher { socket: ours, pid }),
        None => {
            drop(ours);
            let ended = serve(&context, theirs, parent);
            sys::exit_now(i32::from(ended.is_err()))
        }
    }
}

/// Serves requests until the agent is gone.
fn serve(context: &Arc<Context>, socket: OwnedFd, parent: Pid) -> io::Result<()> {
    // A session of its own: what a terminal sends to the agent's group is not meant for us or for containers.
    rustix::process::setsid()?;
    sys::reset_signals();
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)?;
    if rustix::process::getppid() != Some(parent) {
        return Ok(()); // It died before it could be watched.
    }
    sys::close_inherited_on_exec()?;
    let children = child_signals()?;
    loop {
        let mut wait = [PollFd::new(&socket, PollFlags::IN), PollFd::new(&children, PollFlags::IN)];
        match rustix::event::poll(&mut wait, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        let (asked, ended) = (!wait[0].revents().is_empty(), !wait[1].revents().is_empty());
        if ended {
            reap(&children);
        }
        if asked {
            match take_request(&socket)? {
                Taken::HandedOn => {}
                Taken::CallerGone => return Ok(()),
                Taken::Ours { body, reply, stdio } => {
                    // Only the launcher itself holds this end, so that its end is the end of the socket.
                    drop((socket, children));
                    answer(context, body, &reply, stdio)
                }
            }
        }
    }
}

/// What became of a request.
enum Taken {
    HandedOn,
    CallerGone,
    /// We are the fork that it was handed to.
    Ours {
        body: OwnedFd,
        reply: OwnedFd,
        stdio: Vec<OwnedFd>,
    },
}

/// SIGCHLD as a descriptor.
fn child_signals() -> io::Result<OwnedFd> {
    use nix::sys::signal::{SigSet, Signal};
    use nix::sys::signalfd::{SfdFlags, SignalFd};
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.thread_block()?;
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    signals.as_fd().try_clone_to_owned()
}

/// Reaps forks and keepers; what they have to say they have said elsewhere.
fn reap(children: &OwnedFd) {
    let mut drained = [0u8; 128];
    while rustix::io::read(children, &mut drained).is_ok_and(|got| got > 0) {}
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

/// Hands one request to a fork.
fn take_request(socket: &OwnedFd) -> io::Result<Taken> {
    let (bytes, fds) = match frame::receive(socket.as_fd(), 16) {
        // Its caller sees that nobody answers; others may have more luck.
        Err(error) if error.raw_os_error() == Some(libc::EMFILE) => return Ok(Taken::HandedOn),
        other => other?,
    };
    if bytes.is_empty() {
        return Ok(Taken::CallerGone);
    }
    let mut fds = fds.into_iter();
    let (Some(body), Some(reply)) = (fds.next(), fds.next()) else { return Ok(Taken::HandedOn) };
    match sys::fork() {
        Ok(None) => Ok(Taken::Ours { body, reply, stdio: fds.collect() }),
        Ok(Some(_)) => Ok(Taken::HandedOn),
        Err(error) => {
            let failure =
                crate::failure::Failure::of(crate::failure::Step::Namespaces, "fork of the launcher", &error);
            // The caller may have given up; then nobody needs the answer.
            let _unheard = frame::send_reply(reply.as_fd(), &Reply::Failed(Refusal::Failure(failure)), &[]);
            Ok(Taken::HandedOn)
        }
    }
}

/// In the fork: does what is asked and never comes back.
fn answer(context: &Arc<Context>, body: OwnedFd, reply: &OwnedFd, stdio: Vec<OwnedFd>) -> ! {
    sys::unblock_signals();
    let bytes = frame::read_memory_file(body).unwrap_or_default();
    match Body::<Request>::decode(&bytes) {
        Ok(Body { request: Request::Start(plan), seccomp }) => {
            start::run(context, &plan, &seccomp, &bytes, reply)
        }
        Ok(Body { request: Request::Exec(plan), .. }) => exec::run(context, &plan, stdio, reply),
        Ok(Body { request: Request::Try(trial), .. }) => start::trial::run(&trial, reply),
        // Both sides are this crate, so this is a bug; ending without a reply is what tells the caller.
        Err(_) => sys::exit_now(1),
    }
}
