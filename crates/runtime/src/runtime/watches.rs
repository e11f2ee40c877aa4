//! Descriptors to wait on: the end of a container, the end of the launcher.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};

/// Readable (poll, epoll) when the container has ended.
#[derive(Debug)]
pub struct ExitWatch {
    ended: OwnedFd,
}

impl ExitWatch {
    pub(super) fn of(ended: OwnedFd) -> ExitWatch {
        ExitWatch { ended }
    }

    /// One that is readable already.
    pub(super) fn of_ended() -> io::Result<ExitWatch> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        drop(write);
        Ok(ExitWatch { ended: read })
    }

    /// Whether the container has ended, waiting for it at most `timeout_ms`.
    pub fn wait(&self, timeout_ms: u64) -> io::Result<bool> {
        is_readable(&self.ended, timeout_ms)
    }
}

fn is_readable(fd: &OwnedFd, timeout_ms: u64) -> io::Result<bool> {
    let timeout =
        Timespec { tv_sec: (timeout_ms / 1000) as i64, tv_nsec: (timeout_ms % 1000 * 1_000_000) as _ };
    match rustix::event::poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
        Err(rustix::io::Errno::INTR) => Ok(false),
        other => Ok(other? > 0),
    }
}

/// Readable (poll, epoll) when the launcher is gone.
#[derive(Debug)]
pub struct LauncherWatch {
    /// The launcher never says anything here, so this is the end of the other side.
    socket: OwnedFd,
}

impl LauncherWatch {
    pub(super) fn of(socket: OwnedFd) -> LauncherWatch {
        LauncherWatch { socket }
    }

    /// Whether the launcher is gone, waiting for that at most `timeout_ms`.
    pub fn wait(&self, timeout_ms: u64) -> io::Result<bool> {
        is_readable(&self.socket, timeout_ms)
    }
}

impl AsFd for LauncherWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsFd for ExitWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}
