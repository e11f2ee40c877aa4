//! The channel from the container's first process back to the launcher's fork, during setup only.
//!
//! Packets: 1 and JSON, a failure of setup; 2 and an errno, exec failed (init says it too, from its child); 3, setup is
//! done and exec comes next; 4, with the master of a new terminal. Both ends close on exec, so a channel that ends after 3 means that the application runs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::failure::{At, Failure, Step};
use crate::frame;

const FAILED: u8 = 1;
/// Also in `keeper/init.rs`.
const EXEC_FAILED: u8 = 2;
const READY: u8 = 3;
const TERMINAL: u8 = 4;

const PACKET_BYTES: usize = 64 * 1024;

pub(crate) fn tell_failure(channel: &OwnedFd, failure: &Failure) {
    let mut packet = vec![FAILED];
    if serde_json::to_writer(&mut packet, failure).is_ok() {
        // With the channel gone there is nobody left to tell.
        let _unheard = frame::send(channel.as_fd(), &packet, &[]);
    }
}

pub(crate) fn tell_ready(channel: &OwnedFd) -> Result<(), Failure> {
    frame::send(channel.as_fd(), &[READY], &[]).at(Step::Exec, "setup channel")
}

pub(crate) fn hand_over_terminal(channel: &OwnedFd, master: &OwnedFd) -> Result<(), Failure> {
    frame::send(channel.as_fd(), &[TERMINAL], &[master.as_fd()]).at(Step::Terminal, "setup channel")
}

/// Waits until the application runs, or returns why it does not. Gives the terminal's master, if one was made.
pub(crate) fn await_exec(channel: &OwnedFd, program: &str) -> Result<Option<OwnedFd>, Failure> {
    let mut ready = false;
    let mut terminal = None;
    loop {
        let (packet, fds) = frame::receive(channel.as_fd(), PACKET_BYTES).at(Step::Exec, "setup channel")?;
        match packet.split_first() {
            Some((&READY, _)) => ready = true,
            Some((&TERMINAL, _)) => terminal = fds.into_iter().next(),
            Some((&FAILED, json)) => return Err(decode_failure(json)),
            Some((&EXEC_FAILED, errno)) => return Err(exec_failure(program, errno)),
            Some(_) => {
                return Err(Failure::new(Step::Exec, program, "an unknown packet on the setup channel"));
            }
            None if ready => return Ok(terminal),
            None => {
                let reason = "the process ended during setup (killed, perhaps by too small a memory limit)";
                return Err(Failure::new(Step::Exec, program, reason));
            }
        }
    }
}

fn decode_failure(json: &[u8]) -> Failure {
    serde_json::from_slice(json)
        .unwrap_or_else(|error| Failure::new(Step::Exec, "setup", io::Error::other(error)))
}

fn exec_failure(program: &str, errno: &[u8]) -> Failure {
    let errno = <[u8; 4]>::try_from(errno).map_or(libc::EINVAL, i32::from_le_bytes);
    explain(program, errno)
}

/// The reason why a program in an image does not execute, in words that say what to look at.
pub(crate) fn explain(program: &str, errno: i32) -> Failure {
    let mut failure = Failure::errno(Step::Exec, program, errno);
    match errno {
        // The file itself was found before, so it is what the file asks for that is missing.
        libc::ENOENT => {
            failure.reason = "its interpreter or dynamic loader does not exist in the image".to_owned()
        }
        libc::ENOEXEC => {
            failure.reason =
                "no program for this machine (wrong architecture, or a script without #!)".to_owned()
        }
        _ => {}
    }
    failure
}
