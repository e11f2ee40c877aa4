//! Descriptors to wait on: the end of a container, the end of the launcher.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys;

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
        sys::wait_readable(self.ended.as_fd(), timeout_ms)
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
        sys::wait_readable(self.socket.as_fd(), timeout_ms)
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
