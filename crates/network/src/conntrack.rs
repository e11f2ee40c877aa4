//! Flows that lead elsewhere than the services do now.
//!
//! Translation is decided by a flow's first packet and remembered by conntrack. A UDP flow lives as long as packets
//! keep coming, so a client that never pauses would send to a removed backend for ever. A TCP connection ends, and
//! goes on as it began until then; but one that a reset ended is remembered for ten more seconds, and a new
//! connection from the same port of the client takes over how that one was translated. A client that was refused
//! while nothing stood behind a port would be refused again. Such flows are forgotten, and what follows is decided anew.

use std::{collections::BTreeSet, net::Ipv4Addr};

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
    pub(super) const PROTOCOL_INFO: u16 = 4;
    pub(super) const ID: u16 = 12;
    pub(super) const ZONE: u16 = 18;
    pub(super) const FILTER: u16 = 25;
    pub(super) const FILTER_ORIGINAL_FLAGS: u16 = 1;
    pub(super) const FILTER_BY_PROTOCOL: u32 = 1 << 3;
    pub(super) const FILTER_BY_DESTINATION_PORT: u32 = 1 << 5;
    pub(super) const TUPLE_IP: u16 = 1;
    pub(super) const TUPLE_PROTO: u16 = 2;
    pub(super) const IP_SOURCE: u16 = 1;
    pub(super) const IP_DESTINATION: u16 = 2;
    pub(super) const PROTO_NUMBER: u16 = 1;
    pub(super) const PROTO_SOURCE_PORT: u16 = 2;
    pub(super) const PROTO_DESTINATION_PORT: u16 = 3;
    pub(super) const INFO_TCP: u16 = 1;
    pub(super) const TCP_STATE: u16 = 1;
    /// `TCP_CONNTRACK_CLOSE`: it was reset.
    pub(super) const TCP_CLOSE: u8 = 8;
    /// `IPS_DST_NAT`
    pub(super) const STATUS_DST_NAT: u32 = 1 << 5;
}

/// Flows that may have to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Service(Service),
    All(Protocol),
}

impl Scope {
    fn protocol(self) -> Protocol {
        match self {
            Scope::Service(Service { protocol, .. }) | Scope::All(protocol) => protocol,
        }
    }
}

/// A flow as conntrack remembers it.
struct Flow {
    protocol: u8,
    /// By a reset, and only remembered. UDP flows have no end.
    ended: bool,
    /// Whom the client addressed.
    destination: (Ipv4Addr, u16),
    /// Who answers: the backend, if the flow was translated.
    answerer: (Ipv4Addr, u16),
    translated: bool,
    /// Attributes that name it, as the kernel wrote them.
    identity: Vec<(u16, Vec<u8>)>,
}

/// Forgets the flows in `scopes` that the services would not lead where they lead now. Returns how many. `sandboxes`: where
/// those may be that services ever led to, here and on other hosts.
pub(crate) fn settle(
    socket: &mut Socket,
    scopes: &BTreeSet<Scope>,
    services: &Services,
    sandboxes: &BTreeSet<Subnet>,
    host: &[Ipv4Addr],
) -> Result<usize, Error> {
    let mut forgotten = 0;
    for scope in scopes {
        let protocol = scope.protocol();
        for flow in flows(socket, *scope)? {
            let is_meant = flow.protocol == protocol.number() && (protocol == Protocol::Udp || flow.ended);
            if is_meant && is_outdated(&flow, protocol, services, sandboxes, host) {
                forget(socket, &flow)?;
                forgotten += 1;
            }
        }
    }
    Ok(forgotten)
}

fn forget(socket: &mut Socket, flow: &Flow) -> Result<(), Error> {
    let mut batch = Batch::new();
    batch.add("forget an outdated flow", uapi::DELETE, 0, &uapi::HEADER, |message| {
        for (kind, value) in &flow.identity {
            message.bytes(*kind, value);
        }
    });
    match socket.execute(&mut batch) {
        // It ended by itself.
        Err(error) if error.refusal() == Some(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn is_outdated(
    flow: &Flow,
    protocol: Protocol,
    services: &Services,
    sandboxes: &BTreeSet<Subnet>,
    host: &[Ipv4Addr],
) -> bool {
    let (address, port) = flow.destination;
    let backends = services.get(&Service { protocol, port });
    if flow.translated {
        let ours = sandboxes.iter().any(|subnet| subnet.contains(flow.answerer.0));
        ours && !backends.is_some_and(|backends| backends.contains(&flow.answerer))
    } else {
        // It reached the host itself before the port was published.
        let to_host = host.contains(&address) || Subnet::LOOPBACK.contains(address);
        to_host && backends.is_some_and(|backends| !backends.is_empty())
    }
}

fn flows(socket: &mut Socket, scope: Scope) -> Result<Vec<Flow>, Error> {
    let step = "list the flows that conntrack knows";
    let (port, filtered) = match scope {
        Scope::Service(service) => {
            (Some(service.port), uapi::FILTER_BY_PROTOCOL | uapi::FILTER_BY_DESTINATION_PORT)
        }
        Scope::All(_) => (None, uapi::FILTER_BY_PROTOCOL),
    };
    // Kernels before 5.8 ignore the filter and list everything.
    let only = |message: &mut crate::netlink::message::Attributes<'_>| {
        message.nest(uapi::TUPLE_ORIGINAL, |tuple| {
            tuple.nest(uapi::TUPLE_PROTO, |proto| {
                proto.u8(uapi::PROTO_NUMBER, scope.protocol().number());
                if let Some(port) = port {
                    proto.bytes(uapi::PROTO_DESTINATION_PORT, &port.to_be_bytes());
                }
            });
        });
        message.nest(uapi::FILTER, |filter| filter.u32(uapi::FILTER_ORIGINAL_FLAGS, filtered));
    };
    socket.dump(step, uapi::GET, &uapi::HEADER, only, |flows: &mut Vec<Flow>, _, body| {
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
    let tcp_state = find(attributes, &[uapi::PROTOCOL_INFO, uapi::INFO_TCP, uapi::TCP_STATE]);
    let identity = [uapi::TUPLE_ORIGINAL, uapi::ID, uapi::ZONE];
    Some(Flow {
        protocol: *find(attributes, &[uapi::TUPLE_ORIGINAL, uapi::TUPLE_PROTO, uapi::PROTO_NUMBER])?
            .first()?,
        ended: tcp_state.and_then(<[u8]>::first) == Some(&uapi::TCP_CLOSE),
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
