//! The handle on a process that was started in a running container.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::Signal;
use rustix::termios::Winsize;

use crate::frame::{self, Reply};
use crate::request::TerminalSize;

/// A running process. Dropping the handle kills it.
#[derive(Debug)]
pub struct Exec {
    /// As the host counts.
    pub pid: i32,
    /// The master side, if a terminal was asked for.
    pub tty: Option<OwnedFd>,
    process: OwnedFd,
    reply: OwnedFd,
    status: Option<ExecStatus>,
}

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecStatus {
    Code(i32),
    Signal(i32),
}

impl Exec {
    /// Descriptors as the launcher sends them: the process, then the terminal.
    pub(super) fn new(pid: i32, reply: OwnedFd, fds: Vec<OwnedFd>) -> Option<Exec> {
        let mut fds = fds.into_iter();
        let process = fds.next()?;
        Some(Exec { pid, tty: fds.next(), process, reply, status: None })
    }

    /// Waits for the end. Does not block once the handle is readable.
    pub fn status(&mut self) -> io::Result<ExecStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let status = match frame::receive_reply(self.reply.as_fd())? {
            Some((Reply::ExecEnded { status }, _)) => decode(status),
            // The process that waits for it died, and took it along.
            Some(_) | None => ExecStatus::Signal(libc::SIGKILL),
        };
        self.status = Some(status);
        Ok(status)
    }

    /// Sends SIGKILL. A process that has ended is no error.
    pub fn kill(&self) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.process, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the terminal its new size; without a terminal this does nothing.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        let Some(tty) = &self.tty else { return Ok(()) };
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(tty, size)?)
    }
}

/// Readable when the process has ended.
impl AsFd for Exec {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reply.as_fd()
    }
}

/// From a raw wait status; only endings arrive here, never stops. Source: wait(2).
fn decode(raw: i32) -> ExecStatus {
    if libc::WIFSIGNALED(raw) {
        ExecStatus::Signal(libc::WTERMSIG(raw))
    } else {
        ExecStatus::Code(libc::WEXITSTATUS(raw))
    }
}
