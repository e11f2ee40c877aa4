//! The last step of a start: this process becomes the keeper, which keeps its pid and its child.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::{Pipes, Start};
use crate::cgroup::{Version, open_dir};
use crate::failure::{At, Failure, Step};
use crate::launcher::Context;
use crate::sys;

/// The keeper's arguments and the descriptors they name.
pub(super) struct Handover {
    argv: Vec<CString>,
    fds: Vec<OwnedFd>,
    null: OwnedFd,
}

impl Handover {
    /// The order of arguments is that of `keeper/keep.rs`.
    pub(super) fn new(
        start: &mut Start<'_>,
        pipes: Pipes,
        log_dir: &OwnedFd,
        started_ms: u64,
    ) -> Result<Handover, Failure> {
        let plan = start.plan;
        let child = start
            .child
            .as_ref()
            .ok_or_else(|| Failure::new(Step::Keeper, "first process", "there is none"))?;
        let mut fds = Vec::new();
        let mut give = |fd: OwnedFd| {
            let number = fd.as_raw_fd().to_string();
            fds.push(fd);
            number
        };
        let duplicate = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3).at(Step::Keeper, "descriptor");
        let memory = start.groups.memory();
        let memory_dir =
            memory.map(|(path, _)| open_dir(path).at(Step::Keeper, path.display())).transpose()?;
        let run_dir = open_dir(&start.run_dir).at(Step::Keeper, start.run_dir.display())?;
        let name = plan.log.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let deadline = plan.deadline.as_ref().map(|path| {
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .at(Step::Keeper, path.display())
        });
        let deadline = deadline.transpose()?;
        let version = if matches!(memory, Some((_, Version::V2))) { "v2" } else { "v1" };
        let texts = [
            "wharf-keeper".to_owned(),
            plan.id.to_string(),
            child.pid.as_raw_nonzero().to_string(),
            give(duplicate(&child.pidfd)?),
            give(pipes.stdout.0),
            give(pipes.stderr.0),
            pipes.report.map_or("-".to_owned(), |(read, _)| give(read)),
            give(run_dir),
            give(duplicate(log_dir)?),
            name,
            plan.log.max_bytes.to_string(),
            plan.log.max_files.to_string(),
            started_ms.to_string(),
            memory_dir.map_or("-".to_owned(), &mut give),
            version.to_owned(),
            deadline.map_or("-".to_owned(), &mut give),
        ];
        let argv: Result<Vec<CString>, _> = texts.into_iter().map(CString::new).collect();
        let argv = argv.map_err(|_| Failure::new(Step::Keeper, "arguments", "contain a null byte"))?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .at(Step::Keeper, "/dev/null")?;
        for fd in &fds {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).at(Step::Keeper, "descriptor")?;
        }
        Ok(Handover { argv, fds, null })
    }

    /// Executes the keeper. Should that fail, the container ends with us: nobody would read its output.
    pub(super) fn become_keeper(self, context: &Context) -> ! {
        let Handover { argv, fds, null } = self;
        // The agent's terminal or journal pipe must not stay open for as long as the container lives.
        let quiet = rustix::stdio::dup2_stdin(&null)
            .and_then(|()| rustix::stdio::dup2_stdout(&null))
            .and_then(|()| rustix::stdio::dup2_stderr(&null));
        if quiet.is_ok() {
            sys::execute(context.program.as_fd(), &argv, &[]);
        }
        if let Some(pidfd) = fds.first() {
            let _dead = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
        }
        sys::exit_now(1)
    }
}
