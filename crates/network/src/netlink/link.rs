//! Links: the bridge, and veth pairs born with one end on the bridge and the other in a sandbox.
//!
//! Moving a finished interface into another namespace waits for RCU and costs 33 ms; an interface whose peer
//! is *made* in the other namespace costs under one. All host ends carry one link group, so that one message
//! removes them all (one RCU wait instead of one per link), and so that rules can name them.

use std::{net::Ipv4Addr, os::fd::BorrowedFd};

use super::{
    Error, Socket,
    message::{Attributes, Batch, find, flag, read_text, read_u32},
    tunnel::{self, Tunnel},
};

/// linux/rtnetlink.h and linux/if_link.h.
mod uapi {
    pub(super) const NEWLINK: u16 = 16;
    pub(super) const DELLINK: u16 = 17;
    pub(super) const GETLINK: u16 = 18;
    pub(super) const NEWNEIGH: u16 = 28;
    pub(super) const NEIGH_ETHERNET: u16 = 2;
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const IFNAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const MASTER: u16 = 10;
    pub(super) const LINKINFO: u16 = 18;
    pub(super) const AF_SPEC: u16 = 26;
    pub(super) const GROUP: u16 = 27;
    pub(super) const NET_NS_FD: u16 = 28;
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const INFO_DATA: u16 = 2;
    pub(super) const VETH_PEER: u16 = 1;
    pub(super) const BRIDGE_MCAST_SNOOPING: u16 = 23;
    pub(super) const INFO_SLAVE_KIND: u16 = 4;
    pub(super) const INFO_SLAVE_DATA: u16 = 5;
    pub(super) const BRIDGE_PORT_HAIRPIN: u16 = 4;
    pub(super) const AF_INET6: u16 = 10;
    pub(super) const ADDR_GEN_MODE: u16 = 8;
    pub(super) const ADDR_GEN_MODE_NONE: u8 = 1;
    pub(super) const UP: u32 = 1;
}

/// The loopback interface has this index in every namespace.
pub(crate) const LOOPBACK: u32 = 1;
/// The sandbox's interface is made with this index, so that nothing has to ask for it.
pub(crate) const SANDBOX_LINK: u32 = 2;
pub(crate) const SANDBOX_LINK_NAME: &str = "eth0";

/// An Ethernet address that follows from the IP address: whoever remembers a neighbour by its IP address stays
/// right when the address passes on to another sandbox, and the bridge's own address never changes.
pub(crate) fn ethernet_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [OURS[0], OURS[1], a, b, c, d]
}

/// How all Ethernet addresses begin that this crate gives; 0x02: locally administered, unicast.
const OURS: [u8; 2] = [0x02, 0x77];

/// `struct ifinfomsg`.
pub(super) fn header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// A link as the host shows it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: Option<String>,
    pub(crate) mtu: Option<u32>,
    /// If it is a tunnel.
    pub(crate) tunnel: Option<Tunnel>,
    ethernet: Vec<u8>,
}

impl Link {
    /// A bridge that this crate made, whichever process and for whichever subnet.
    pub(crate) fn is_our_bridge(&self) -> bool {
        self.kind.as_deref() == Some("bridge") && self.ethernet.starts_with(&OURS)
    }

    /// The same of a tunnel.
    pub(crate) fn is_our_tunnel(&self) -> bool {
        self.kind.as_deref() == Some("vxlan") && self.ethernet.starts_with(&tunnel::OURS)
    }
}

/// All links of the socket's namespace.
pub(crate) fn list(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    socket.dump(
        "list the links",
        uapi::GETLINK,
        &header(0, 0, 0),
        |_| {},
        |links: &mut Vec<Link>, _, body| {
            links.extend(parse(body));
        },
    )
}

fn parse(body: &[u8]) -> Option<Link> {
    let attributes = body.get(16..)?;
    Some(Link {
        index: u32::from_ne_bytes(read_u32(body.get(4..)?)?),
        name: read_text(find(attributes, &[uapi::IFNAME])?),
        kind: find(attributes, &[uapi::LINKINFO, uapi::INFO_KIND]).map(read_text),
        mtu: find(attributes, &[uapi::MTU]).and_then(read_u32).map(u32::from_ne_bytes),
        tunnel: tunnel::parse(attributes),
        ethernet: find(attributes, &[uapi::ADDRESS]).unwrap_or_default().to_vec(),
    })
}

/// Makes the bridge, down and without an address. Fails with EEXIST if the name is taken.
pub(crate) fn add_bridge(batch: &mut Batch, name: &str, ethernet: [u8; 6], mtu: Option<u32>) {
    let flags = flag::CREATE | flag::EXCLUSIVE;
    batch.add("create the bridge", uapi::NEWLINK, flags, &header(0, 0, 0), |link| {
        link.text(uapi::IFNAME, name);
        link.bytes(uapi::ADDRESS, &ethernet);
        if let Some(mtu) = mtu {
            link.u32(uapi::MTU, mtu);
        }
        link.nest(uapi::LINKINFO, |info| {
            info.text(uapi::INFO_KIND, "bridge");
            // No multicast routers live behind the ports; snooping would only keep timers per port.
            info.nest(uapi::INFO_DATA, |data| data.u8(uapi::BRIDGE_MCAST_SNOOPING, 0));
        });
    });
}

pub(crate) fn bring_up(batch: &mut Batch, index: u32) {
    batch.add("bring the link up", uapi::NEWLINK, 0, &header(index, uapi::UP, uapi::UP), |_| {});
}

/// Keeps a link, not up yet, from giving itself an IPv6 address: the sandboxes' network is IPv4.
pub(crate) fn without_ipv6(batch: &mut Batch, index: u32) {
    let step = "keep IPv6 addresses off the link";
    batch.add(step, uapi::NEWLINK, 0, &header(index, 0, 0), no_link_local);
}

/// How many bytes a packet may have.
pub(crate) fn set_mtu(batch: &mut Batch, index: u32, mtu: u32) {
    batch.add("set the size of packets", uapi::NEWLINK, 0, &header(index, 0, 0), |link| {
        link.u32(uapi::MTU, mtu);
    });
}

pub(crate) fn set_ethernet_address(batch: &mut Batch, index: u32, ethernet: [u8; 6]) {
    batch.add("set the link's Ethernet address", uapi::NEWLINK, 0, &header(index, 0, 0), |link| {
        link.bytes(uapi::ADDRESS, &ethernet);
    });
}

fn no_link_local(link: &mut Attributes<'_>) {
    link.nest(uapi::AF_SPEC, |families| {
        families.nest(uapi::AF_INET6, |inet6| inet6.u8(uapi::ADDR_GEN_MODE, uapi::ADDR_GEN_MODE_NONE));
    });
}

/// What a sandbox's cable is made of.
pub(crate) struct Cable<'a> {
    /// Name of the host's end.
    pub(crate) port: &'a str,
    pub(crate) bridge: u32,
    pub(crate) group: u32,
    pub(crate) mtu: Option<u32>,
    /// Where the other end is born.
    pub(crate) sandbox: BorrowedFd<'a>,
}

/// Makes a veth pair: the host's end up and on the bridge, the other end (still down) in the sandbox.
///
/// The host's end sends back to where a packet came from ("hairpin"): where br_netfilter is loaded, a replica
/// that meets itself behind a published port is bridged, not routed. It has no IPv6 address, whose duplicate
/// detection would hear its own question that way and give up.
pub(crate) fn add_cable(batch: &mut Batch, cable: &Cable<'_>) {
    use std::os::fd::AsRawFd;
    let flags = flag::CREATE | flag::EXCLUSIVE;
    let by_name = header(0, 0, 0);
    batch.add("create the sandbox's link", uapi::NEWLINK, flags, &by_name, |link| {
        link.text(uapi::IFNAME, cable.port);
        link.u32(uapi::MASTER, cable.bridge);
        link.u32(uapi::GROUP, cable.group);
        if let Some(mtu) = cable.mtu {
            link.u32(uapi::MTU, mtu);
        }
        link.nest(uapi::LINKINFO, |info| {
            info.text(uapi::INFO_KIND, "veth");
            info.nest(uapi::INFO_DATA, |data| {
                data.nest(uapi::VETH_PEER, |peer| {
                    peer.raw(&header(SANDBOX_LINK, 0, 0));
                    peer.text(uapi::IFNAME, SANDBOX_LINK_NAME);
                    peer.u32(uapi::NET_NS_FD, cable.sandbox.as_raw_fd() as u32);
                    if let Some(mtu) = cable.mtu {
                        peer.u32(uapi::MTU, mtu);
                    }
                });
            });
        });
    });
    set_up_port(batch, cable.port);
    batch.add(
        "bring the sandbox's bridge port up",
        uapi::NEWLINK,
        0,
        &header(0, uapi::UP, uapi::UP),
        |link| {
            link.text(uapi::IFNAME, cable.port);
        },
    );
}

/// Puts the host's end of a cable onto a bridge.
pub(crate) fn set_bridge(batch: &mut Batch, port: &str, bridge: u32) {
    batch.add("put the sandbox's link on the bridge", uapi::NEWLINK, 0, &header(0, 0, 0), |link| {
        link.text(uapi::IFNAME, port);
        link.u32(uapi::MASTER, bridge);
    });
    set_up_port(batch, port);
}

fn set_up_port(batch: &mut Batch, port: &str) {
    batch.add("set up the sandbox's bridge port", uapi::NEWLINK, 0, &header(0, 0, 0), |link| {
        link.text(uapi::IFNAME, port);
        no_link_local(link);
        link.nest(uapi::LINKINFO, |info| {
            info.text(uapi::INFO_SLAVE_KIND, "bridge");
            info.nest(uapi::INFO_SLAVE_DATA, |port| port.u8(uapi::BRIDGE_PORT_HAIRPIN, 1));
        });
    });
}

/// Waits until a link that came up carries packets, and returns its index. The kernel tells the bridge and the
/// queues of a new carrier some time later, and drops the first packets until then; a look at the link makes
/// it tell them now.
pub(crate) fn await_carrier(socket: &mut Socket, name: &str) -> Result<Option<u32>, Error> {
    let mut batch = Batch::new();
    batch.add("look at the link", uapi::GETLINK, 0, &header(0, 0, 0), |link| link.text(uapi::IFNAME, name));
    let mut index = None;
    socket.converse(&mut batch, |_, body| index = index.or(parse(body).map(|link| link.index)))?;
    Ok(index)
}

/// Tells the bridge behind which port an Ethernet address lives, and to believe nobody else who claims it. So
/// an address that passes on to a new sandbox is found there at once.
pub(crate) fn fix_port(batch: &mut Batch, port: u32, ethernet: [u8; 6]) {
    // struct ndmsg: AF_BRIDGE, padding, the port, NUD_NOARP (static), NTF_MASTER and NTF_STICKY, no type.
    let mut header = [7, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0x04 | 0x40, 0];
    header[4..8].copy_from_slice(&port.to_ne_bytes());
    let flags = flag::CREATE | flag::REPLACE;
    batch.add("tell the bridge the sandbox's Ethernet address", uapi::NEWNEIGH, flags, &header, |entry| {
        entry.bytes(uapi::NEIGH_ETHERNET, &ethernet);
    });
}

pub(crate) fn delete(batch: &mut Batch, index: u32) {
    batch.add("delete the link", uapi::DELLINK, 0, &header(index, 0, 0), |_| {});
}

/// Deletes every link of a group at once. Fails with ENODEV when there is none.
pub(crate) fn delete_group(batch: &mut Batch, group: u32) {
    batch.add("delete the sandboxes' links", uapi::DELLINK, 0, &header(0, 0, 0), |link| {
        link.u32(uapi::GROUP, group);
    });
}
