//! What travels between the runtime's handle, the launcher and its forks.
//!
//! A request is one packet of one byte on the launcher's socket; its descriptors are the body (a memory file), the
//! socket for replies, and, for an exec, stdio. Each request has a reply socket of its own, so any number can be in
//! flight without ids, and a fork that dies is an end of file for exactly the caller that waits for it.
//!
//! A body is the length of its JSON, the JSON, and a seccomp program as raw bytes. The same bytes are kept as the
//! container's `plan` file, from which an exec learns the container's rights.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::MemfdFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Trial;
use crate::failure::Failure;
use crate::id::ContainerId;
use crate::plan::{Plan, ProcessPlan};

/// Descriptors in one message; the kernel's own bound is 253.
const MAX_DESCRIPTORS: usize = 253;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Start(Box<Plan>),
    Exec(Box<ExecPlan>),
    Try(Trial),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecPlan {
    pub(crate) id: ContainerId,
    pub(crate) process: ProcessPlan,
    /// Rows and columns of a new terminal; without it, three descriptors come with the request.
    pub(crate) terminal: Option<(u16, u16)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Started {
        pid: i32,
        keeper: i32,
        started_ms: u64,
    },
    /// With the terminal's master, if one was asked for.
    ExecStarted {
        pid: i32,
    },
    /// The raw wait status.
    ExecEnded {
        status: i32,
    },
    Tried,
    Failed(Refusal),
}

/// Why the launcher's side did not do it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    Exists,
    NotRunning,
    Failure(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal::Failure(failure)
    }
}

/// A connected pair that keeps packets apart, closed on exec.
pub(crate) fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// A request and the seccomp program that goes with it.
#[derive(Debug)]
pub(crate) struct Body<T> {
    pub(crate) request: T,
    /// `sock_filter`s as they are in memory; empty without seccomp.
    pub(crate) seccomp: Vec<u8>,
}

impl<T: Serialize> Body<T> {
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec(&self.request)?;
        let mut bytes = Vec::with_capacity(4 + json.len() + self.seccomp.len());
        bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&json);
        bytes.extend_from_slice(&self.seccomp);
        Ok(bytes)
    }
}

impl<T: DeserializeOwned> Body<T> {
    pub(crate) fn decode(bytes: &[u8]) -> io::Result<Body<T>> {
        let torn = || io::Error::new(io::ErrorKind::InvalidData, "a request body is torn");
        let (len, rest) = bytes.split_first_chunk::<4>().ok_or_else(torn)?;
        let len = u32::from_le_bytes(*len) as usize;
        let (json, seccomp) = rest.split_at_checked(len).ok_or_else(torn)?;
        Ok(Body { request: serde_json::from_slice(json)?, seccomp: seccomp.to_vec() })
    }
}

/// Puts bytes into a memory file, so that a request may be of any length.
pub(crate) fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(c"wharf-request", MemfdFlags::CLOEXEC)?;
    crate::sys::write_all(fd.as_fd(), bytes)?;
    rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(0))?;
    Ok(fd)
}

pub(crate) fn read_memory_file(fd: OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::from(fd).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Sends one packet with descriptors.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fds.len()))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(drop).map_err(io::Error::from),
        }
    }
}

/// Receives one packet of at most `limit` bytes; an empty one means that the other side is gone. Fails with EMFILE when not
/// all of its descriptors could be received: then the packet is lost.
pub(crate) fn receive(socket: BorrowedFd<'_>, limit: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; limit];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            // A peer that died with our data unread says so; for us it is as gone as any other.
            Err(rustix::io::Errno::CONNRESET) => return Ok((Vec::new(), Vec::new())),
            other => break other?,
        }
    };
    // The room for descriptors is the most that can be sent, so it is our own table that was full.
    if got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(rustix::io::Errno::MFILE.into());
    }
    let rights = |message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    };
    let fds = ancillary.drain().filter_map(rights).flatten().collect();
    bytes.truncate(got.bytes);
    Ok((bytes, fds))
}

/// Replies are short: an error text with a path in it is the longest.
const REPLY_BYTES: usize = 64 * 1024;

pub(crate) fn send_reply(socket: BorrowedFd<'_>, reply: &Reply, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send(socket, &serde_json::to_vec(reply)?, fds)
}

/// `None` when the other side ended without a reply.
pub(crate) fn receive_reply(socket: BorrowedFd<'_>) -> io::Result<Option<(Reply, Vec<OwnedFd>)>> {
    let (bytes, fds) = receive(socket, REPLY_BYTES)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&bytes)?, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_back_as_it_went() -> io::Result<()> {
        let body = Body { request: vec!["a".to_owned(), "b".to_owned()], seccomp: vec![1, 2, 3] };
        let bytes = read_memory_file(memory_file(&body.encode()?)?)?;
        let back = Body::<Vec<String>>::decode(&bytes)?;
        assert_eq!((back.request, back.seccomp), (body.request, body.seccomp));
        for len in 0..bytes.len() - 3 {
            assert!(Body::<Vec<String>>::decode(&bytes[..len]).is_err(), "{len} bytes are torn");
        }
        Ok(())
    }

    #[test]
    fn descriptors_travel_and_a_lost_peer_is_empty() -> io::Result<()> {
        let (left, right) = packet_pair()?;
        send(left.as_fd(), b"x", &[left.as_fd(), right.as_fd()])?;
        let (bytes, fds) = receive(right.as_fd(), 16)?;
        assert_eq!((bytes.as_slice(), fds.len()), (&b"x"[..], 2));
        drop((left, fds));
        assert!(receive(right.as_fd(), 16)?.0.is_empty());
        Ok(())
    }

    /// In a process of its own, because the bound is the whole process's.
    #[test]
    fn descriptors_without_room_are_an_error() -> io::Result<()> {
        use rustix::process::{Resource, Rlimit, WaitOptions, getrlimit, setrlimit};
        let (left, right) = packet_pair()?;
        send(left.as_fd(), b"x", &[left.as_fd(), right.as_fd()])?;
        let Some(child) = crate::sys::fork()? else {
            let refused = || -> io::Result<bool> {
                let free = std::os::fd::AsRawFd::as_raw_fd(&right.try_clone()?) as u64;
                setrlimit(
                    Resource::Nofile,
                    Rlimit { current: Some(free + 1), ..getrlimit(Resource::Nofile) },
                )?;
                let outcome = receive(right.as_fd(), 16);
                Ok(outcome.is_err_and(|error| error.raw_os_error() == Some(libc::EMFILE)))
            };
            crate::sys::exit_now(i32::from(!refused().unwrap_or(false)))
        };
        let ended = rustix::process::waitpid(Some(child), WaitOptions::empty())?;
        assert_eq!(ended.and_then(|(_, status)| status.exit_status()), Some(0));
        Ok(())
    }
}
