//! One more process in a running container, in a fork of the launcher.
//!
//! The fork stays outside, waits for the process and reports its end; the process itself enters the container's
//! namespaces, cgroups, capabilities and seccomp filter. It cannot be traced or looked into until it has executed.
//! When the caller lets go of its handle, the process is killed: nobody would ever learn of it again.

mod terminal;

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::LinuxNamespaceType;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Signal, WaitOptions};
use rustix::thread::{Gid, Uid};

use crate::failure::{At, Failure, Step};
use crate::frame::{self, Body, ExecPlan, Refusal, Reply, Request};
use crate::launcher::Context;
use crate::plan::{Plan, ProcessPlan};
use crate::record::State;
use crate::start::process::{self, Entry};
use crate::start::sync;
use crate::sys::{self, Cloned};

/// Runs the process to its end, telling the caller about start and end.
pub(crate) fn run(context: &Context, plan: &ExecPlan, stdio: Vec<OwnedFd>, reply: &OwnedFd) -> ! {
    match launch(context, plan, stdio) {
        Ok((child, terminal)) => {
            let pid = child.pid.as_raw_nonzero().get();
            let fds: Vec<_> = [&child.pidfd].into_iter().chain(&terminal).map(AsFd::as_fd).collect();
            let told = frame::send_reply(reply.as_fd(), &Reply::ExecStarted { pid }, &fds);
            drop(terminal);
            let status = attend(&child, reply, told.is_ok());
            let _unheard = frame::send_reply(reply.as_fd(), &Reply::ExecEnded { status }, &[]);
        }
        Err(refusal) => {
            // The caller may have given up; then nobody needs the answer.
            let _unheard = frame::send_reply(reply.as_fd(), &Reply::Failed(refusal), &[]);
        }
    }
    sys::exit_now(0)
}

/// Waits for the process, and kills it as soon as the caller is gone.
fn attend(child: &Cloned, reply: &OwnedFd, caller: bool) -> i32 {
    let mut caller = caller;
    loop {
        if !caller {
            // It may have ended already, which is what we want.
            let _dead = rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL);
        }
        let mut wait = vec![PollFd::new(&child.pidfd, PollFlags::IN)];
        if caller {
            wait.push(PollFd::new(reply, PollFlags::IN));
        }
        if rustix::event::poll(&mut wait, None).is_err() {
            continue; // Interrupted; every other error would be our bug, and the loop sees the same state again.
        }
        if !wait[0].revents().is_empty() {
            let ended = rustix::process::waitpid(Some(child.pid), WaitOptions::empty());
            return ended.ok().flatten().map_or(0, |(_, status)| status.as_raw());
        }
        caller = caller && wait[1].revents().is_empty();
    }
}

fn launch(
    context: &Context,
    plan: &ExecPlan,
    stdio: Vec<OwnedFd>,
) -> Result<(Cloned, Option<OwnedFd>), Refusal> {
    let run_dir = context.state_dir.join(plan.id.as_str());
    let state = State::read(&run_dir).at(Step::RunDirectory, run_dir.display())?;
    let Some(state) = state else { return Err(Refusal::NotRunning) };
    let first = state.first(&context.boot).at(Step::RunDirectory, run_dir.display())?;
    // Without a plan it is being started, and its first process may still see the host's files.
    let (Some(target), Some((container, seccomp))) = (first, read_plan(&run_dir)?) else {
        return Err(Refusal::NotRunning);
    };
    let inside = Inside { state, target, container, seccomp };
    inside.launch(context, plan, stdio).map_err(|failure| match inside.is_ending() {
        true => Refusal::NotRunning,
        false => Refusal::Failure(failure),
    })
}

/// The container that is entered.
struct Inside {
    state: State,
    /// Its first process.
    target: OwnedFd,
    container: Plan,
    seccomp: Vec<u8>,
}

impl Inside {
    fn launch(
        &self,
        context: &Context,
        plan: &ExecPlan,
        stdio: Vec<OwnedFd>,
    ) -> Result<(Cloned, Option<OwnedFd>), Failure> {
        let process = rights_of(&self.container, &plan.process);
        let entrances = self.state.groups.entrances()?;
        let group = self.state.groups.unified_dir()?;
        let (ours, theirs) = frame::packet_pair().at(Step::Namespaces, "socket pair")?;
        // Entered here, it holds for our children; the others hold at once, so the child enters them itself.
        join(&self.target, libc::CLONE_NEWPID)?;
        let cloned = sys::clone3(0, group.as_ref().map(AsFd::as_fd)).at(Step::Namespaces, "clone")?;
        let Some(child) = cloned else {
            drop(ours);
            let given = Given { entrances, stdio, channel: theirs };
            let Err(failure) = self.enter(context, plan.terminal, &process, &given);
            sync::tell_failure(&given.channel, &failure);
            sys::exit_now(1)
        };
        drop((theirs, stdio));
        match sync::await_exec(&ours, &process.argv[0]) {
            Ok(terminal) => Ok((child, terminal)),
            Err(failure) => {
                give_up(&child);
                Err(failure)
            }
        }
    }

    /// Whether the container ends, which fails an exec in many ways: no namespace to join, no process id to be had, killed
    /// half-way. It says so itself only when its last process was reaped.
    fn is_ending(&self) -> bool {
        const MOMENT_MS: u64 = 100;
        // That it cannot be known leaves the failure as it is.
        sys::wait_readable(self.target.as_fd(), MOMENT_MS).unwrap_or(false)
    }
}

fn give_up(child: &Cloned) {
    // It may have ended already, and its exit code says nothing that the failure has not said.
    let _dead = rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL);
    let _reaped = rustix::process::waitpid(Some(child.pid), WaitOptions::empty());
}

fn read_plan(run_dir: &Path) -> Result<Option<(Plan, Vec<u8>)>, Failure> {
    let path = run_dir.join("plan");
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.at(Step::RunDirectory, path.display())?,
    };
    let body = Body::<Request>::decode(&bytes).at(Step::RunDirectory, path.display())?;
    match body.request {
        Request::Start(plan) => Ok(Some((*plan, body.seccomp))),
        Request::Exec(_) | Request::Try(_) => {
            Err(Failure::new(Step::RunDirectory, path.display(), "is not a start request"))
        }
    }
}

/// Never more than the container itself has.
fn rights_of(container: &Plan, asked: &ProcessPlan) -> ProcessPlan {
    let own = &container.process;
    let bounding = asked.bounding & own.bounding;
    ProcessPlan {
        bounding,
        permitted: asked.permitted & own.permitted,
        effective: asked.effective & asked.permitted & own.permitted,
        rlimits: if asked.rlimits.is_empty() { own.rlimits.clone() } else { asked.rlimits.clone() },
        no_new_privileges: asked.no_new_privileges || own.no_new_privileges,
        ..asked.clone()
    }
}

fn join(target: &OwnedFd, flags: i32) -> Result<(), Failure> {
    // SAFETY: changes only this process, which has a single thread.
    sys::check(libc::c_long::from(unsafe { libc::setns(target.as_raw_fd(), flags) }))
        .map(drop)
        .at(Step::Namespaces, "of the container")
}

/// What the process inherits from the fork that waits for it.
struct Given {
    entrances: Vec<OwnedFd>,
    stdio: Vec<OwnedFd>,
    channel: OwnedFd,
}

impl Inside {
    /// In the new process: enters the container and becomes the program.
    fn enter(
        &self,
        context: &Context,
        terminal: Option<(u16, u16)>,
        process: &ProcessPlan,
        given: &Given,
    ) -> Result<Infallible, Failure> {
        sys::prctl(libc::PR_SET_DUMPABLE, 0).at(Step::Namespaces, "dumpable")?;
        sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)
            .at(Step::Namespaces, "parent death signal")?;
        let score = process.oom_score_adj.or(self.container.process.oom_score_adj).unwrap_or(0);
        if score != context.oom_score_adj {
            let subject = format_args!("oom_score_adj {score}");
            fs::write("/proc/self/oom_score_adj", score.to_string()).at(Step::Limits, subject)?;
        }
        for tasks in &given.entrances {
            let tasks = tasks.try_clone().at(Step::Cgroup, "descriptor")?;
            File::from(tasks).write_all(b"0").at(Step::Cgroup, "enter a v1 group")?;
        }
        rustix::process::setsid().at(Step::Namespaces, "session")?;
        let own_user = self.container.namespaces.makes(LinuxNamespaceType::User);
        let shared = libc::CLONE_NEWNS
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP;
        join(&self.target, shared | if own_user { libc::CLONE_NEWUSER } else { 0 })?;
        rustix::thread::set_thread_groups(&[]).at(Step::User, "groups")?;
        rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).at(Step::User, "root")?;
        rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).at(Step::User, "root")?;
        let stdio = match terminal {
            Some((rows, columns)) => terminal::open(&given.channel, rows, columns, process)?,
            None => plain_stdio(&given.stdio)?,
        };
        process::become_application(
            process,
            &self.seccomp,
            stdio,
            Entry::Direct,
            &context.program,
            &given.channel,
        )
    }
}

fn plain_stdio(given: &[OwnedFd]) -> Result<[OwnedFd; 3], Failure> {
    let duplicate = |index: usize| match given.get(index) {
        Some(fd) => fd.try_clone().at(Step::Exec, "stdio"),
        None => Err(Failure::new(Step::Exec, "stdio", "three descriptors are needed")),
    };
    Ok([duplicate(0)?, duplicate(1)?, duplicate(2)?])
}
