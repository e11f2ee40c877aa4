//! UDP flows that know a backend no more, or not yet.
//!
//! Translation is decided by a flow's first packet and remembered by conntrack. That is right for TCP, where
//! connections end. A UDP flow lives as long as packets keep coming, so a client that never pauses would send to
//! a removed backend for ever: such flows are forgotten, and their next packet is decided anew.

use std::net::Ipv4Addr;

use rustix::io::Errno;

use crate::{
    Protocol, Subnet,
    firewall::services::{Service, Services},
    netlink::{
        Error, Socket,
        message::{Batch, find, read_u16, read_u32},
    },
};

/// linux/netfilter/nfnetlink_conntrack.h.
mod uapi {
    const SUBSYSTEM: u16 = 1 << 8; // NFNL_SUBSYS_CTNETLINK
    pub(super) const GET: u16 = SUBSYSTEM | 1;
    pub(super) const DELETE: u16 = SUBSYSTEM | 2;
    /// `struct nfgenmsg` with AF_INET.
    pub(super) const HEADER: [u8; 4] = [2, 0, 0, 0];
    pub(super) const TUPLE_ORIGINAL: u16 = 1;
    pub(super) const TUPLE_REPLY: u16 = 2;
    pub(super) const STATUS: u16 = 3;
    pub(super) const ID: u16 = 12;
    pub(super) const ZONE: u16 = 18;
    pub(super) const FILTER: u16 = 25;
    pub(super) const FILTER_ORIGINAL_FLAGS: u16 = 1;
    pub(super) const FILTER_BY_PROTOCOL: u32 = 1 << 3;
    pub(super) const TUPLE_IP: u16 = 1;
    pub(super) const TUPLE_PROTO: u16 = 2;
    pub(super) const IP_SOURCE: u16 = 1;
    pub(super) const IP_DESTINATION: u16 = 2;
    pub(super) const PROTO_NUMBER: u16 = 1;
    pub(super) const PROTO_SOURCE_PORT: u16 = 2;
    pub(super) const PROTO_DESTINATION_PORT: u16 = 3;
    /// `IPS_DST_NAT`
    pub(super) const STATUS_DST_NAT: u32 = 1 << 5;
}

/// A flow as conntrack remembers it.
struct Flow {
    protocol: u8,
    /// Whom the client addressed.
    destination: (Ipv4Addr, u16),
    /// Who answers: the backend, if the flow was translated.
    answerer: (Ipv4Addr, u16),
    translated: bool,
    /// Attributes that name it, as the kernel wrote them.
    identity: Vec<(u16, Vec<u8>)>,
}

/// Forgets the UDP flows that the services would not lead where they lead now. Returns how many.
pub(crate) fn settle(
    socket: &mut Socket,
    services: &Services,
    subnet: Subnet,
    host: &[Ipv4Addr],
) -> Result<usize, Error> {
    let outdated: Vec<Flow> = udp_flows(socket)?
        .into_iter()
        .filter(|flow| flow.protocol == Protocol::Udp.number() && is_outdated(flow, services, subnet, host))
        .collect();
    for flow in &outdated {
        let mut batch = Batch::new();
        let step = "forget the UDP flow of a removed backend";
        batch.add(step, uapi::DELETE, 0, &uapi::HEADER, |message| {
            for (kind, value) in &flow.identity {
                message.bytes(*kind, value);
            }
        });
        match socket.execute(&mut batch) {
            // It ended by itself.
            Err(error) if error.refusal() == Some(Errno::NOENT) => {}
            other => other?,
        }
    }
    Ok(outdated.len())
}

fn is_outdated(flow: &Flow, services: &Services, subnet: Subnet, host: &[Ipv4Addr]) -> bool {
    let (address, port) = flow.destination;
    let backends = services.get(&Service { protocol: Protocol::Udp, port });
    if flow.translated {
        let ours = subnet.contains(flow.answerer.0);
        ours && !backends.is_some_and(|backends| backends.contains(&flow.answerer))
    } else {
        // It reached the host itself before the port was published.
        let to_host = host.contains(&address) || Subnet::LOOPBACK.contains(address);
        to_host && backends.is_some_and(|backends| !backends.is_empty())
    }
}

fn udp_flows(socket: &mut Socket) -> Result<Vec<Flow>, Error> {
    let step = "list the UDP flows that conntrack knows";
    // Kernels before 5.8 ignore the filter and list everything.
    let only_udp = |message: &mut crate::netlink::message::Attributes<'_>| {
        message.nest(uapi::TUPLE_ORIGINAL, |tuple| {
            tuple.nest(uapi::TUPLE_PROTO, |proto| proto.u8(uapi::PROTO_NUMBER, Protocol::Udp.number()));
        });
        message.nest(uapi::FILTER, |filter| {
            filter.u32(uapi::FILTER_ORIGINAL_FLAGS, uapi::FILTER_BY_PROTOCOL);
        });
    };
    socket.dump(step, uapi::GET, &uapi::HEADER, only_udp, |flows: &mut Vec<Flow>, _, body| {
        flows.extend(parse(body));
    })
}

fn parse(body: &[u8]) -> Option<Flow> {
    let attributes = body.get(4..)?;
    let address =
        |tuple, end| find(attributes, &[tuple, uapi::TUPLE_IP, end]).and_then(read_u32).map(Ipv4Addr::from);
    let port = |tuple, end| {
        find(attributes, &[tuple, uapi::TUPLE_PROTO, end]).and_then(read_u16).map(u16::from_be_bytes)
    };
    let status = find(attributes, &[uapi::STATUS]).and_then(read_u32).map_or(0, u32::from_be_bytes);
    let identity = [uapi::TUPLE_ORIGINAL, uapi::ID, uapi::ZONE];
    Some(Flow {
        protocol: *find(attributes, &[uapi::TUPLE_ORIGINAL, uapi::TUPLE_PROTO, uapi::PROTO_NUMBER])?
            .first()?,
        destination: (
            address(uapi::TUPLE_ORIGINAL, uapi::IP_DESTINATION)?,
            port(uapi::TUPLE_ORIGINAL, uapi::PROTO_DESTINATION_PORT)?,
        ),
        answerer: (
            address(uapi::TUPLE_REPLY, uapi::IP_SOURCE)?,
            port(uapi::TUPLE_REPLY, uapi::PROTO_SOURCE_PORT)?,
        ),
        translated: status & uapi::STATUS_DST_NAT != 0,
        identity: identity
            .into_iter()
            .filter_map(|kind| Some((kind, find(attributes, &[kind])?.to_vec())))
            .collect(),
    })
}
