//! Starting a container, in the launcher's fork that will become its keeper.
//!
//! The order, and where to read on:
//!
//! 1. run directory, log, cgroups (here)
//! 2. clone3 into new namespaces; the child goes on in `child.rs`
//! 3. `prepare.rs`, while the child is busy with its own: the root filesystem and host paths as mounts that are attached
//!    nowhere yet, which `handout.rs` hands to the child
//! 4. the state file, so that whatever happens from here on somebody can find and end the container; then the plan for
//!    later execs, still without its name
//! 5. the child says that it is about to execute, then its channel closes: it runs (`sync.rs`)
//! 6. the plan gets its name, the caller is told, and this process becomes the keeper (`handover.rs`)
//!
//! Until step 6 every failure undoes all of it.
//!
//! # What it costs
//!
//! Counted with strace for the container of the tests (overlay, seven filesystems, seventeen masked and read-only paths,
//! two limits on v1), in calls: about 105 here and 290 in the child. Here, 20 are for groups, 25 for the run directory and
//! 10 for the overlay; what the child does not wait for is done while it is busy. In the child, 40 drop capabilities and
//! most others find and cover places, about five for each. Durations are measured by `examples/start.rs`. The plan is
//! decoded once; its bytes are kept as they came.

mod attributes;
pub(crate) mod child;
mod filesystems;
mod handout;
mod handover;
mod masks;
mod mounts;
mod overlay;
mod prepare;
pub(crate) mod process;
mod rootfs;
pub(crate) mod sync;
pub(crate) mod trial;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::pipe::PipeFlags;
use rustix::process::{Signal, WaitOptions};

use crate::cgroup::Groups;
use crate::failure::{At, Failure, Step};
use crate::frame::{self, Refusal, Reply};
use crate::launcher::Context;
use crate::plan::Plan;
use crate::record::{ProcessId, RECORD_BYTES, State};
use crate::sys::{self, Cloned};

/// Starts the container and becomes its keeper, or says why not and ends.
pub(crate) fn run(context: &Context, plan: &Plan, seccomp: &[u8], body: &[u8], reply: &OwnedFd) -> ! {
    let refusal = match Start::claim(context, plan) {
        Err(refusal) => refusal,
        Ok(mut start) => match start.launch(seccomp, body, reply) {
            Ok(handover) => handover.become_keeper(context),
            Err(failure) => {
                start.undo();
                Refusal::Failure(failure)
            }
        },
    };
    // The caller may have given up; then nobody needs the answer.
    let _unheard = frame::send_reply(reply.as_fd(), &Reply::Failed(refusal), &[]);
    sys::exit_now(1)
}

/// The root filesystem alone, as a start would mount it.
pub(crate) fn mount_rootfs(rootfs: &crate::Rootfs) -> Result<OwnedFd, Failure> {
    rootfs::mount(rootfs, None, (0, 0))
}

struct Start<'a> {
    context: &'a Context,
    plan: &'a Plan,
    run_dir: PathBuf,
    groups: Groups,
    child: Option<Cloned>,
}

impl<'a> Start<'a> {
    /// Making the run directory is what makes an id ours.
    fn claim(context: &'a Context, plan: &'a Plan) -> Result<Start<'a>, Refusal> {
        let groups = Groups::plan(&context.layout, &context.cgroup_parent, &plan.id, &plan.limits)?;
        let run_dir = context.state_dir.join(plan.id.as_str());
        match rustix::fs::mkdir(&run_dir, Mode::from_raw_mode(0o700)) {
            Err(rustix::io::Errno::EXIST) => return Err(Refusal::Exists),
            // Whoever emptied a tmpfs took the directory of all of them too.
            Err(rustix::io::Errno::NOENT) => {
                fs::create_dir_all(&run_dir).at(Step::RunDirectory, run_dir.display())?
            }
            other => other.at(Step::RunDirectory, run_dir.display())?,
        }
        Ok(Start { context, plan, run_dir, groups, child: None })
    }

    fn launch(
        &mut self,
        seccomp: &[u8],
        body: &[u8],
        reply: &OwnedFd,
    ) -> Result<handover::Handover, Failure> {
        let plan = self.plan;
        let mut state = self.write_state()?;
        let log_dir = open_log_dir(&plan.log.path)?;
        let Context { layout, cgroup_parent, .. } = self.context;
        if !layout.is_prepared(cgroup_parent) {
            layout.prepare(cgroup_parent)?;
        }
        self.groups.create(&plan.limits)?;
        let entrances = self.groups.entrances()?;
        let group = self.groups.unified_dir()?;
        let pipes = Pipes::new(plan)?;
        let (ours, theirs) = frame::packet_pair().at(Step::Namespaces, "socket pair")?;

        let home = enter_joined(plan)?;
        let flags = plan.namespaces.new & !child::MADE_INSIDE;
        let cloned = sys::clone3(flags, group.as_ref().map(AsFd::as_fd))
            .at(Step::Namespaces, format_args!("clone with flags {flags:#x}"))?;
        let Some(cloned) = cloned else {
            drop(ours);
            let groups = self.groups.clone();
            child::run(self.context, plan, seccomp, child::Given { sync: theirs, groups, entrances, pipes })
        };
        leave_joined(&home)?;
        drop((theirs, entrances, group));
        let child = self.child.insert(cloned);
        let pid = child.pid.as_raw_nonzero().get();
        handout::send(plan, pid, &ours)?;
        state.first = Some(ProcessId::of(pid).at(Step::Namespaces, "first process")?);
        state.write(&self.run_dir).at(Step::RunDirectory, self.run_dir.display())?;
        set_oom_score(self.context, plan, pid)?;
        // What the child does not wait for is written while it is busy.
        self.write_rest(body)?;
        sync::await_exec(&ours, &plan.process.argv[0])?;
        drop(ours);
        fs::rename(self.run_dir.join("plan.tmp"), self.run_dir.join("plan"))
            .at(Step::RunDirectory, self.run_dir.display())?;

        let started_ms = sys::unix_ms();
        let program_fds = handover::Handover::new(self, pipes, &log_dir, started_ms)?;
        let started = Reply::Started { pid, keeper: state.keeper.pid, started_ms };
        // Should the caller be gone, the container runs all the same: the next agent finds it in the state directory.
        let _unheard = frame::send_reply(reply.as_fd(), &started, &[]);
        Ok(program_fds)
    }

    fn write_state(&self) -> Result<State, Failure> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let write = || -> io::Result<State> {
            let state = State {
                version: State::VERSION,
                id: self.plan.id.clone(),
                boot: self.context.boot.clone(),
                keeper: ProcessId::of(own)?,
                first: None,
                groups: self.groups.clone(),
                log: self.plan.log.path.clone(),
                created_ms: sys::unix_ms(),
            };
            state.write(&self.run_dir)?;
            Ok(state)
        };
        write().at(Step::RunDirectory, self.run_dir.display())
    }

    fn write_rest(&self, body: &[u8]) -> Result<(), Failure> {
        // Without its name yet, see `record.rs`.
        let plan = fs::write(self.run_dir.join("plan.tmp"), body);
        // Reserves the room of the exit record, should the disk be full by then.
        let exit = || fs::write(self.run_dir.join("exit.tmp"), [b'\n'; RECORD_BYTES]);
        plan.and_then(|()| exit()).at(Step::RunDirectory, self.run_dir.display())
    }

    /// Takes back everything; what cannot be taken back is found by the next listing, because the state stays then.
    fn undo(&mut self) {
        if let Some(child) = &self.child {
            // It may be dead already, which is just as well.
            let _dead = rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL);
            let _reaped = rustix::process::waitpid(Some(child.pid), WaitOptions::empty());
        }
        if self.groups.kill().and_then(|()| self.groups.remove()).is_ok() {
            let _kept = fs::remove_dir_all(&self.run_dir);
        }
    }
}

/// The application's output; what it writes is ours to read.
struct Pipes {
    stdout: (OwnedFd, OwnedFd),
    stderr: (OwnedFd, OwnedFd),
    /// On which init tells how the application ended.
    report: Option<(OwnedFd, OwnedFd)>,
}

impl Pipes {
    fn new(plan: &Plan) -> Result<Pipes, Failure> {
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).at(Step::Log, "pipe");
        let pipes =
            Pipes { stdout: pipe()?, stderr: pipe()?, report: if plan.init { Some(pipe()?) } else { None } };
        let (uid, gid) = handout::on_host(plan, plan.process.uid, plan.process.gid);
        for (read, write) in [&pipes.stdout, &pipes.stderr] {
            rustix::fs::fcntl_setfl(read, OFlags::NONBLOCK).at(Step::Log, "pipe")?;
            // The user may open /dev/stdout anew, which checks the owner of the pipe.
            rustix::fs::fchown(write, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .at(Step::Log, "pipe")?;
        }
        if let Some((read, _)) = &pipes.report {
            rustix::fs::fcntl_setfl(read, OFlags::NONBLOCK).at(Step::Log, "pipe")?;
        }
        Ok(pipes)
    }
}

fn open_log_dir(log: &Path) -> Result<OwnedFd, Failure> {
    let dir = log.parent().unwrap_or(Path::new("/"));
    crate::cgroup::open_dir(dir).at(Step::Log, dir.display())
}

/// Enters the namespaces that the container shall share, so that the clone inherits them, and remembers our own.
fn enter_joined(plan: &Plan) -> Result<Vec<OwnedFd>, Failure> {
    let mut home = Vec::new();
    for (flag, path) in &plan.namespaces.join {
        let own = if *flag == LinuxNamespaceType::Network as u64 {
            "/proc/self/ns/net"
        } else if *flag == LinuxNamespaceType::Ipc as u64 {
            "/proc/self/ns/ipc"
        } else {
            "/proc/self/ns/uts"
        };
        home.push(open_namespace(Path::new(own))?);
        enter(&open_namespace(path)?, *flag).at(Step::Namespaces, path.display())?;
    }
    Ok(home)
}

fn open_namespace(path: &Path) -> Result<OwnedFd, Failure> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .at(Step::Namespaces, path.display())
}

fn leave_joined(home: &[OwnedFd]) -> Result<(), Failure> {
    home.iter()
        .try_for_each(|namespace| enter(namespace, 0).at(Step::Namespaces, "return from the joined ones"))
}

/// setns(2); a flag of zero accepts whatever kind the descriptor is.
fn enter(namespace: &OwnedFd, flag: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: changes only this process, which has a single thread.
    sys::check(libc::c_long::from(unsafe { libc::setns(namespace.as_raw_fd(), flag as i32) }))?;
    Ok(())
}

/// From outside, where /proc is the host's own and nothing in the image can stand in its place.
fn set_oom_score(context: &Context, plan: &Plan, pid: i32) -> Result<(), Failure> {
    let wanted = plan.process.oom_score_adj.unwrap_or(0);
    if wanted == context.oom_score_adj {
        return Ok(());
    }
    let path = format!("/proc/{pid}/oom_score_adj");
    fs::write(&path, wanted.to_string()).at(Step::Limits, format_args!("oom_score_adj {wanted}"))
}
