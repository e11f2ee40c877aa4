//! Who is behind a link: the Ethernet address of an IP address, and the host behind an Ethernet address.
//!
//! Two tables of the kernel with one kind of message. Entries made here stay until they are deleted.

use std::net::Ipv4Addr;

use super::{
    Error, Socket,
    message::{Batch, find, flag, read_u32},
};

/// linux/neighbour.h and linux/rtnetlink.h.
mod uapi {
    pub(super) const NEWNEIGH: u16 = 28;
    pub(super) const DELNEIGH: u16 = 29;
    pub(super) const GETNEIGH: u16 = 30;
    pub(super) const DESTINATION: u16 = 1;
    pub(super) const ETHERNET: u16 = 2;
    pub(super) const PERMANENT: u16 = 0x80;
    /// The entry is the link's own, not that of a bridge over it.
    pub(super) const SELF: u8 = 0x02;
    pub(super) const AF_INET: u8 = 2;
    pub(super) const AF_BRIDGE: u8 = 7;
}

/// Which of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The Ethernet address to send to for an IP address.
    Neighbour,
    /// The host to which a tunnel sends what is for an Ethernet address.
    Forwarding,
}

impl Kind {
    fn family(self) -> u8 {
        match self {
            Kind::Neighbour => uapi::AF_INET,
            Kind::Forwarding => uapi::AF_BRIDGE,
        }
    }

    /// `struct ndmsg`.
    fn header(self, link: u32, state: u16) -> [u8; 12] {
        let flags = match self {
            Kind::Neighbour => 0,
            Kind::Forwarding => uapi::SELF,
        };
        let mut bytes = [self.family(), 0, 0, 0, 0, 0, 0, 0, 0, 0, flags, 0];
        bytes[4..8].copy_from_slice(&link.to_ne_bytes());
        bytes[8..10].copy_from_slice(&state.to_ne_bytes());
        bytes
    }
}

/// An entry of either table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) address: Ipv4Addr,
    pub(crate) ethernet: [u8; 6],
}

/// Replaces what is known of the entry's key: the IP address of a neighbour, the Ethernet address in the other table.
pub(crate) fn put(batch: &mut Batch, kind: Kind, link: u32, entry: Entry) {
    let step = match kind {
        Kind::Neighbour => "tell the Ethernet address of another host's tunnel",
        Kind::Forwarding => "tell where another host's tunnel ends",
    };
    let flags = flag::CREATE | flag::REPLACE;
    batch.add(step, uapi::NEWNEIGH, flags, &kind.header(link, uapi::PERMANENT), |message| {
        message.bytes(uapi::DESTINATION, &entry.address.octets());
        message.bytes(uapi::ETHERNET, &entry.ethernet);
    });
}

pub(crate) fn delete(batch: &mut Batch, kind: Kind, link: u32, entry: Entry) {
    let header = kind.header(link, 0);
    batch.add("forget another host's tunnel", uapi::DELNEIGH, 0, &header, |message| {
        message.bytes(uapi::DESTINATION, &entry.address.octets());
        if kind == Kind::Forwarding {
            message.bytes(uapi::ETHERNET, &entry.ethernet);
        }
    });
}

/// The entries of a link, those that the kernel found out by itself left out.
pub(crate) fn list(socket: &mut Socket, kind: Kind, link: u32) -> Result<Vec<Entry>, Error> {
    socket.dump(
        "list the other hosts' tunnels",
        uapi::GETNEIGH,
        &kind.header(0, 0),
        |_| {},
        |entries: &mut Vec<Entry>, _, body| {
            entries.extend(parse(body, kind, link));
        },
    )
}

fn parse(body: &[u8], kind: Kind, link: u32) -> Option<Entry> {
    let found = u32::from_ne_bytes(read_u32(body.get(4..)?)?);
    let state = u16::from_ne_bytes([*body.get(8)?, *body.get(9)?]);
    if *body.first()? != kind.family() || found != link || state & uapi::PERMANENT == 0 {
        return None;
    }
    let attributes = body.get(12..)?;
    Some(Entry {
        address: read_u32(find(attributes, &[uapi::DESTINATION])?)?.into(),
        ethernet: find(attributes, &[uapi::ETHERNET])?.try_into().ok()?,
    })
}
