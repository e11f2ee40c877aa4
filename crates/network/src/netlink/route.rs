//! Addresses and routes.

use std::net::Ipv4Addr;

use super::{
    Error, Socket,
    message::{Batch, find, flag, read_u32},
};
use crate::Subnet;

/// linux/rtnetlink.h and linux/if_addr.h.
mod uapi {
    pub(super) const NEWADDR: u16 = 20;
    pub(super) const DELADDR: u16 = 21;
    pub(super) const GETADDR: u16 = 22;
    pub(super) const NEWROUTE: u16 = 24;
    pub(super) const DELROUTE: u16 = 25;
    pub(super) const GETROUTE: u16 = 26;
    pub(super) const IFA_LOCAL: u16 = 2;
    pub(super) const IFA_BROADCAST: u16 = 4;
    pub(super) const IFA_ADDRESS: u16 = 1;
    pub(super) const RTA_DST: u16 = 1;
    pub(super) const RTA_OIF: u16 = 4;
    pub(super) const RTA_GATEWAY: u16 = 5;
    pub(super) const RTA_PREFSRC: u16 = 7;
    pub(super) const AF_INET: u8 = 2;
    pub(super) const TABLE_MAIN: u8 = 254;
    pub(super) const PROTOCOL_STATIC: u8 = 4;
    pub(super) const TYPE_UNICAST: u8 = 1;
    pub(super) const TYPE_BROADCAST: u8 = 3;
    /// The gateway is reached over the link whatever addresses that has.
    pub(super) const ONLINK: u32 = 4;
}

/// `struct ifaddrmsg`.
fn address_header(index: u32, prefix: u8) -> [u8; 8] {
    let mut bytes = [uapi::AF_INET, prefix, 0, 0, 0, 0, 0, 0];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes
}

/// Gives a link an address in `subnet`; nothing changes if it has it already.
pub(crate) fn add_address(batch: &mut Batch, index: u32, address: Ipv4Addr, subnet: Subnet) {
    let flags = flag::CREATE | flag::REPLACE;
    let header = address_header(index, subnet.prefix());
    batch.add("give the link its address", uapi::NEWADDR, flags, &header, |message| {
        message.bytes(uapi::IFA_LOCAL, &address.octets());
        message.bytes(uapi::IFA_ADDRESS, &address.octets());
        message.bytes(uapi::IFA_BROADCAST, &subnet.broadcast().octets());
    });
}

pub(crate) fn delete_address(batch: &mut Batch, held: &HeldAddress) {
    let header = address_header(held.link, held.prefix);
    batch.add("take an outdated address off the bridge", uapi::DELADDR, 0, &header, |message| {
        message.bytes(uapi::IFA_LOCAL, &held.address.octets());
    });
}

/// `struct rtmsg` of a unicast route in the main table.
fn route_header(prefix: u8, flags: u32) -> [u8; 12] {
    // Family, destination and source length, tos, table, protocol, scope, type, flags.
    let (table, protocol) = (uapi::TABLE_MAIN, uapi::PROTOCOL_STATIC);
    let mut bytes = [uapi::AF_INET, prefix, 0, 0, table, protocol, 0, uapi::TYPE_UNICAST, 0, 0, 0, 0];
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

/// Sends what is for `subnet` to its gateway over the link, by default from `source`, an address of this host.
pub(crate) fn put_route(batch: &mut Batch, index: u32, subnet: Subnet, source: Ipv4Addr) {
    let flags = flag::CREATE | flag::REPLACE;
    let header = route_header(subnet.prefix(), uapi::ONLINK);
    batch.add("set the route to another host's sandboxes", uapi::NEWROUTE, flags, &header, |route| {
        route.bytes(uapi::RTA_DST, &subnet.network().octets());
        route.bytes(uapi::RTA_GATEWAY, &subnet.gateway().octets());
        route.bytes(uapi::RTA_PREFSRC, &source.octets());
        route.u32(uapi::RTA_OIF, index);
    });
}

pub(crate) fn delete_route(batch: &mut Batch, index: u32, subnet: Subnet) {
    let header = route_header(subnet.prefix(), 0);
    batch.add("delete the route to another host's sandboxes", uapi::DELROUTE, 0, &header, |route| {
        route.bytes(uapi::RTA_DST, &subnet.network().octets());
        route.u32(uapi::RTA_OIF, index);
    });
}

/// Sends everything that is not on the link itself through `gateway`.
pub(crate) fn add_default_route(batch: &mut Batch, index: u32, gateway: Ipv4Addr) {
    let flags = flag::CREATE | flag::REPLACE;
    batch.add("set the sandbox's default route", uapi::NEWROUTE, flags, &route_header(0, 0), |route| {
        route.bytes(uapi::RTA_GATEWAY, &gateway.octets());
        route.u32(uapi::RTA_OIF, index);
    });
}

/// An IPv4 address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeldAddress {
    pub(crate) link: u32,
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
}

pub(crate) fn addresses(socket: &mut Socket) -> Result<Vec<HeldAddress>, Error> {
    let header = address_header(0, 0);
    let step = "list the addresses";
    socket.dump(
        step,
        uapi::GETADDR,
        &header,
        |_| {},
        |held: &mut Vec<HeldAddress>, _, body| {
            held.extend(parse_address(body));
        },
    )
}

fn parse_address(body: &[u8]) -> Option<HeldAddress> {
    if *body.first()? != uapi::AF_INET {
        return None;
    }
    let attributes = body.get(8..)?;
    Some(HeldAddress {
        link: u32::from_ne_bytes(read_u32(body.get(4..)?)?),
        address: read_u32(find(attributes, &[uapi::IFA_LOCAL])?)?.into(),
        prefix: *body.get(1)?,
    })
}

/// A route of the host to some destination, the default route left out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) destination: Subnet,
    pub(crate) link: Option<u32>,
    /// From where the host sends by default.
    pub(crate) source: Option<Ipv4Addr>,
}

pub(crate) fn routes(socket: &mut Socket) -> Result<Vec<Route>, Error> {
    let mut header = [0; 12];
    header[0] = uapi::AF_INET;
    socket.dump(
        "list the routes",
        uapi::GETROUTE,
        &header,
        |_| {},
        |routes: &mut Vec<Route>, _, body| {
            routes.extend(parse_route(body));
        },
    )
}

fn parse_route(body: &[u8]) -> Option<Route> {
    let (prefix, kind) = (*body.get(1)?, *body.get(7)?);
    // Broadcast routes belong to a connected route, which is listed itself.
    if kind == uapi::TYPE_BROADCAST || prefix == 0 {
        return None;
    }
    let attributes = body.get(12..)?;
    let destination: Ipv4Addr = read_u32(find(attributes, &[uapi::RTA_DST])?)?.into();
    Some(Route {
        destination: Subnet::containing(destination, prefix)?,
        link: find(attributes, &[uapi::RTA_OIF]).and_then(read_u32).map(u32::from_ne_bytes),
        source: find(attributes, &[uapi::RTA_PREFSRC]).and_then(read_u32).map(Ipv4Addr::from),
    })
}
