//! One more process in a running container, in a fork of the launcher.
//!
//! The fork stays outside, waits for the process and reports its end; the process itself enters the container's
//! namespaces, cgroups, capabilities and seccomp filter. It cannot be traced or looked into until it has executed.
//! When the caller lets go of its handle, the process is killed: nobody would ever learn of it again.

mod terminal;

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::LinuxNamespaceType;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, WaitOptions};
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
pub(crate) fn run(context: &Context, plan: &ExecPlan, _: &[u8], stdio: Vec<OwnedFd>, reply: &OwnedFd) -> ! {
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
    let Some((state, target)) = find(&run_dir)? else { return Err(Refusal::NotRunning) };
    let (container, seccomp) = read_plan(&run_dir)?;
    let process = rights_of(&container, &plan.process);
    let entrances = state.groups.entrances()?;
    let group = state.groups.unified_dir()?;
    let (ours, theirs) = frame::packet_pair().at(Step::Namespaces, "socket pair")?;
    // Entered here, it holds for our children; the others hold at once, so the child enters them itself.
    join(&target, libc::CLONE_NEWPID)?;
    match sys::clone3(0, group.as_ref().map(AsFd::as_fd)).at(Step::Namespaces, "clone")? {
        Some(child) => {
            drop((theirs, stdio));
            match sync::await_exec(&ours, &process.argv[0]) {
                Ok(terminal) => Ok((child, terminal)),
                Err(failure) => {
                    reap(child.pid);
                    Err(Refusal::Failure(failure))
                }
            }
        }
        None => {
            drop(ours);
            let given = Given { target, entrances, stdio, channel: theirs };
            let Err(failure) = enter(context, plan, &container, &process, &seccomp, &given);
            sync::tell_failure(&given.channel, &failure);
            sys::exit_now(1)
        }
    }
}

fn reap(pid: Pid) {
    // Its exit code says nothing that the failure has not said.
    let _reaped = rustix::process::waitpid(Some(pid), WaitOptions::empty());
}

/// The container's state and a descriptor of its first process, if it runs.
fn find(run_dir: &Path) -> Result<Option<(State, OwnedFd)>, Failure> {
    let state = State::read(run_dir).at(Step::RunDirectory, run_dir.display())?;
    let Some(state) = state else { return Ok(None) };
    let first = state
        .first
        .as_ref()
        .map(|first| first.open())
        .transpose()
        .at(Step::RunDirectory, run_dir.display())?;
    Ok(first.flatten().map(|pidfd| (state, pidfd)))
}

fn read_plan(run_dir: &Path) -> Result<(Plan, Vec<u8>), Failure> {
    let path = run_dir.join("plan");
    let body = fs::read(&path)
        .and_then(|bytes| Body::<Request>::decode(&bytes))
        .at(Step::RunDirectory, path.display())?;
    match body.request {
        Request::Start(plan) => Ok((*plan, body.seccomp)),
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
    target: OwnedFd,
    entrances: Vec<OwnedFd>,
    stdio: Vec<OwnedFd>,
    channel: OwnedFd,
}

/// In the new process: enters the container and becomes the program.
fn enter(
    context: &Context,
    plan: &ExecPlan,
    container: &Plan,
    process: &ProcessPlan,
    seccomp: &[u8],
    given: &Given,
) -> Result<Infallible, Failure> {
    sys::prctl(libc::PR_SET_DUMPABLE, 0).at(Step::Namespaces, "dumpable")?;
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64).at(Step::Namespaces, "parent death signal")?;
    let score = process.oom_score_adj.or(container.process.oom_score_adj).unwrap_or(0);
    if score != context.oom_score_adj {
        let subject = format_args!("oom_score_adj {score}");
        fs::write("/proc/self/oom_score_adj", score.to_string()).at(Step::Limits, subject)?;
    }
    for tasks in &given.entrances {
        let tasks = tasks.try_clone().at(Step::Cgroup, "descriptor")?;
        File::from(tasks).write_all(b"0").at(Step::Cgroup, "enter a v1 group")?;
    }
    rustix::process::setsid().at(Step::Namespaces, "session")?;
    let own_user = container.namespaces.makes(LinuxNamespaceType::User);
    let shared = libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    join(&given.target, shared | if own_user { libc::CLONE_NEWUSER } else { 0 })?;
    rustix::thread::set_thread_groups(&[]).at(Step::User, "groups")?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).at(Step::User, "root")?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).at(Step::User, "root")?;
    let stdio = match plan.terminal {
        Some((rows, columns)) => terminal::open(&given.channel, rows, columns, process)?,
        None => plain_stdio(&given.stdio)?,
    };
    process::become_application(process, seccomp, stdio, Entry::Direct, &context.program, &given.channel)
}

fn plain_stdio(given: &[OwnedFd]) -> Result<[OwnedFd; 3], Failure> {
    let duplicate = |index: usize| match given.get(index) {
        Some(fd) => fd.try_clone().at(Step::Exec, "stdio"),
        None => Err(Failure::new(Step::Exec, "stdio", "three descriptors are needed")),
    };
    Ok([duplicate(0)?, duplicate(1)?, duplicate(2)?])
}
