//! The tunnel to other hosts: a VXLAN device, which wraps Ethernet frames into UDP packets (RFC 7348).
//!
//! The kernel finds nothing out by itself: it learns no addresses and asks nobody. Where a frame goes is written down
//! entry by entry, in [`super::neighbour`].

use std::net::Ipv4Addr;

use super::{
    link,
    message::{Attributes, Batch, find, flag, read_u16, read_u32},
};

/// linux/if_link.h.
mod uapi {
    pub(super) const NEWLINK: u16 = 16;
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const IFNAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const LINKINFO: u16 = 18;
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const INFO_DATA: u16 = 2;
    pub(super) const VXLAN_ID: u16 = 1;
    pub(super) const VXLAN_LOCAL: u16 = 4;
    pub(super) const VXLAN_LEARNING: u16 = 7;
    pub(super) const VXLAN_PORT: u16 = 15;
}

/// What makes one tunnel another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tunnel {
    /// The number of the network, 24 bits.
    pub(crate) number: u32,
    /// The address of this host that packets are sent from.
    pub(crate) local: Ipv4Addr,
    pub(crate) port: u16,
}

/// The Ethernet address of the tunnel's end on the host of this address: whoever knows a host knows it.
pub(crate) fn ethernet_address(host: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = host.octets();
    [OURS[0], OURS[1], a, b, c, d]
}

/// How the Ethernet addresses of tunnels begin, of which this crate made them; 0x02: locally administered, unicast.
pub(crate) const OURS: [u8; 2] = [0x02, 0x78];

/// Makes the device, down. Fails with EEXIST if the name is taken, or the network's number at this port.
pub(crate) fn add(batch: &mut Batch, name: &str, tunnel: Tunnel, mtu: Option<u32>) {
    let flags = flag::CREATE | flag::EXCLUSIVE;
    batch.add("create the tunnel to other hosts", uapi::NEWLINK, flags, &link::header(0, 0, 0), |link| {
        link.text(uapi::IFNAME, name);
        link.bytes(uapi::ADDRESS, &ethernet_address(tunnel.local));
        if let Some(mtu) = mtu {
            link.u32(uapi::MTU, mtu);
        }
        link.nest(uapi::LINKINFO, |info| {
            info.text(uapi::INFO_KIND, "vxlan");
            info.nest(uapi::INFO_DATA, |data| write(data, tunnel));
        });
    });
}

fn write(data: &mut Attributes<'_>, tunnel: Tunnel) {
    data.u32(uapi::VXLAN_ID, tunnel.number);
    data.bytes(uapi::VXLAN_LOCAL, &tunnel.local.octets());
    data.u8(uapi::VXLAN_LEARNING, 0);
    data.bytes(uapi::VXLAN_PORT, &tunnel.port.to_be_bytes());
}

/// What a listing says of a link, if it is a tunnel.
pub(super) fn parse(attributes: &[u8]) -> Option<Tunnel> {
    let value = |kind| find(attributes, &[uapi::LINKINFO, uapi::INFO_DATA, kind]);
    Some(Tunnel {
        number: value(uapi::VXLAN_ID).and_then(read_u32).map(u32::from_ne_bytes)?,
        local: value(uapi::VXLAN_LOCAL).and_then(read_u32).map(Ipv4Addr::from)?,
        port: value(uapi::VXLAN_PORT).and_then(read_u16).map(u16::from_be_bytes)?,
    })
}
