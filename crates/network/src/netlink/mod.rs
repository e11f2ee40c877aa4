//! Blocking netlink: one socket, requests that are answered before the next one leaves.
//!
//! A socket belongs for ever to the network namespace it was opened in, whichever thread uses it later. The
//! whole crate rests on that: a socket opened inside a sandbox configures the sandbox from outside, and no
//! thread has to change its namespace. Start at [`Socket::execute`].

pub(crate) mod link;
pub(crate) mod message;
pub(crate) mod neighbour;
pub(crate) mod route;
pub(crate) mod tunnel;

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use message::{Batch, HEADER, attributes, flag, read_text, read_u32};
use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with},
};

/// Why the kernel did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not open a netlink socket")]
    Open(#[source] io::Error),
    #[error("could not talk to the kernel in order to {step}")]
    Transport { step: &'static str, source: io::Error },
    #[error("the kernel refused to {step}{}", explained(.detail))]
    Refused { step: &'static str, detail: String, source: io::Error },
    #[error("the kernel did not answer when asked to {step}")]
    Silent { step: &'static str },
}

impl Error {
    /// The error number with which the kernel refused, if it did.
    pub(crate) fn refusal(&self) -> Option<Errno> {
        match self {
            Error::Refused { source, .. } => Errno::from_io_error(source),
            Error::Open(_) | Error::Transport { .. } | Error::Silent { .. } => None,
        }
    }
}

fn explained(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(" ({detail})") }
}

/// What a netlink socket speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Links, addresses, routes: rtnetlink(7).
    Route,
    /// nf_tables and conntrack: nfnetlink.
    Netfilter,
}

/// Room for every answer to a large batch; the kernel drops what does not fit.
const RECEIVE_BUFFER: usize = 4 << 20;
/// A batch of a few thousand services leaves in one piece.
const SEND_BUFFER: usize = 16 << 20;
/// The kernel answers in datagrams of at most 32 KiB.
const DATAGRAM: usize = 32 << 10;
/// A listing that keeps being disturbed by changes is taken as it is after this many attempts.
const DUMP_ATTEMPTS: usize = 8;

/// A netlink socket in the namespace it was opened in.
pub(crate) struct Socket {
    fd: OwnedFd,
    next_sequence: u32,
    buffer: Box<[u8]>,
    /// How much of the buffer the last datagram filled.
    filled: usize,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open(protocol: Protocol) -> Result<Socket, Error> {
        let number = match protocol {
            Protocol::Route => None, // Number 0, NETLINK_ROUTE.
            Protocol::Netfilter => Some(rustix::net::netlink::NETFILTER),
        };
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, number)
            .map_err(|errno| Error::Open(errno.into()))?;
        // Reasons in words and short errors are a comfort: an older kernel without them still works.
        set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1);
        set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1);
        if protocol == Protocol::Netfilter {
            set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER as i32);
            set_option(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BUFFER as i32);
        }
        Ok(Socket { fd, next_sequence: 1, buffer: vec![0; DATAGRAM].into(), filled: 0 })
    }

    /// Sends all messages at once and waits until the kernel has handled the last one.
    ///
    /// The first refusal is returned. Whether the other messages took effect is up to the family: nf_tables
    /// undoes the whole batch, rtnetlink treats each message alone.
    pub(crate) fn execute(&mut self, batch: &mut Batch) -> Result<(), Error> {
        self.converse(batch, |_, _| {})
    }

    /// Like [`Socket::execute`], and hands every message of the answer (its kind and its body) to `receive`.
    pub(crate) fn converse(
        &mut self,
        batch: &mut Batch,
        mut receive: impl FnMut(u16, &[u8]),
    ) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let decisive = batch.acknowledge();
        let first = self.send(batch)?;
        // Requests are handled inside the system call that sends them, so all answers are waiting by now.
        let mut answers = Answers::to(first, batch.len(), decisive);
        while self.receive(RecvFlags::DONTWAIT, batch.step(0))? {
            answers.take(&self.buffer[..self.filled], &mut receive);
        }
        answers.verdict(batch)
    }

    /// Asks for a listing; `receive` gets each entry once. Entries may be given again when a change disturbs
    /// the listing: `restart` is called before that.
    pub(crate) fn dump<T: Default>(
        &mut self,
        step: &'static str,
        kind: u16,
        header: &[u8],
        body: impl Fn(&mut message::Attributes<'_>),
        mut receive: impl FnMut(&mut T, u16, &[u8]),
    ) -> Result<T, Error> {
        let mut batch = Batch::new();
        batch.add(step, kind, flag::DUMP, header, body);
        for attempt in 1.. {
            let first = self.send(&mut batch)?;
            let mut collected = T::default();
            let mut answers = Answers::to(first, 1, 0);
            while !answers.finished {
                if !self.receive(RecvFlags::empty(), step)? {
                    return Err(Error::Silent { step });
                }
                answers
                    .take(&self.buffer[..self.filled], &mut |kind, body| receive(&mut collected, kind, body));
            }
            let disturbed = answers.disturbed;
            answers.verdict(&batch)?;
            if !disturbed || attempt >= DUMP_ATTEMPTS {
                return Ok(collected);
            }
        }
        Err(Error::Silent { step })
    }

    fn send(&mut self, batch: &mut Batch) -> Result<u32, Error> {
        let step = batch.step(0);
        let first = self.next_sequence;
        self.next_sequence = self.next_sequence.wrapping_add(batch.len() as u32);
        let bytes = batch.number(first);
        // A socket that was never connected sends to port 0, which is the kernel.
        send(&self.fd, bytes, SendFlags::empty())
            .map_err(|errno| Error::Transport { step, source: errno.into() })?;
        Ok(first)
    }

    /// Fills the buffer with one datagram; false when none is waiting.
    fn receive(&mut self, flags: RecvFlags, step: &'static str) -> Result<bool, Error> {
        loop {
            match recv(&self.fd, &mut *self.buffer, flags) {
                Ok((length, _)) => {
                    self.filled = length;
                    return Ok(length > 0);
                }
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                // Answers were lost; the ones that matter come first, and a missing verdict is noticed.
                Err(Errno::NOBUFS) => {}
                Err(errno) => return Err(Error::Transport { step, source: errno.into() }),
            }
        }
    }
}

impl std::os::fd::AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;
const EXPLANATION: u16 = 1;

/// What came back for one batch so far.
struct Answers {
    first: u32,
    count: usize,
    decisive: usize,
    refusal: Option<(usize, Errno, String)>,
    finished: bool,
    disturbed: bool,
}

impl Answers {
    fn to(first: u32, count: usize, decisive: usize) -> Answers {
        Answers { first, count, decisive, refusal: None, finished: false, disturbed: false }
    }

    fn take(&mut self, mut datagram: &[u8], receive: &mut impl FnMut(u16, &[u8])) {
        while let Some(header) = datagram.get(..HEADER) {
            let length = read_u32(header).map_or(0, u32::from_ne_bytes) as usize;
            let Some(body) = datagram.get(HEADER..length) else { return };
            let kind = u16::from_ne_bytes([header[4], header[5]]);
            let flags = u16::from_ne_bytes([header[6], header[7]]);
            let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
            let index = sequence.wrapping_sub(self.first) as usize;
            // Answers to an earlier request that was given up are not ours.
            if index < self.count {
                self.disturbed |= flags & flag::DUMP_INTERRUPTED != 0;
                self.message(kind, flags, index, body, receive);
            }
            datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        index: usize,
        body: &[u8],
        receive: &mut impl FnMut(u16, &[u8]),
    ) {
        match kind {
            KIND_ERROR | KIND_DONE => {
                let code = read_u32(body).map_or(0, i32::from_ne_bytes);
                if code != 0 && self.refusal.is_none() {
                    let errno = Errno::from_raw_os_error(-code);
                    self.refusal = Some((index, errno, explanation(kind, flags, body)));
                }
                self.finished |= kind == KIND_DONE || code != 0 || index == self.decisive;
            }
            _ => receive(kind, body),
        }
    }

    fn verdict(self, batch: &Batch) -> Result<(), Error> {
        match self.refusal {
            Some((index, errno, detail)) => {
                Err(Error::Refused { step: batch.step(index), detail, source: errno.into() })
            }
            None if self.finished => Ok(()),
            None => Err(Error::Silent { step: batch.step(batch.len().saturating_sub(1)) }),
        }
    }
}

/// The kernel's reason in words ("extended acknowledgement"), or nothing.
fn explanation(kind: u16, flags: u16, body: &[u8]) -> String {
    if kind != KIND_ERROR || flags & flag::ACK_ATTRIBUTES == 0 {
        return String::new();
    }
    let repeated = if flags & flag::CAPPED != 0 {
        HEADER
    } else {
        body.get(4..8).and_then(read_u32).map_or(HEADER, |length| u32::from_ne_bytes(length) as usize)
    };
    let words = body.get(4 + repeated.next_multiple_of(4)..).unwrap_or_default();
    attributes(words)
        .find(|(kind, _)| *kind == EXPLANATION)
        .map(|(_, text)| read_text(text))
        .unwrap_or_default()
}

fn set_option(fd: &OwnedFd, level: i32, name: i32, value: i32) {
    // SAFETY: the option's value is a live i32 and its size is passed along; the kernel only reads it.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(&value).cast(),
            size_of::<i32>() as libc::socklen_t,
        );
    }
}
