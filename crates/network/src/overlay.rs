//! The way to the sandboxes of other hosts, and theirs to ours: a tunnel to each, over the network that the hosts share.
//!
//! A packet for a sandbox elsewhere leaves its own through the bridge, is routed into the tunnel (`netlink/tunnel.rs`), and
//! comes out on the host whose subnet its address is of, which routes it over its bridge. So hosts are joined by routes,
//! not by one Ethernet: no broadcast crosses them, and nobody has to be asked where an address is. Of each peer there are
//! three entries: the route to its subnet by way of its gateway, the Ethernet address of that, and the host behind it.
//!
//! The tunnel is neither encrypted nor authenticated: the firewall lets in what carries the address of a peer
//! (`firewall/tunnel.rs`), and whoever can send under such an address can send to sandboxes. The network that the hosts
//! share must not be open to strangers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use rustix::io::Errno;

use crate::{
    Overlay, Peer, Subnet,
    config::Names,
    error::Error,
    host,
    netlink::{
        self, Socket, link,
        message::Batch,
        neighbour::{self, Entry, Kind},
        route,
        tunnel::{self, Tunnel},
    },
};

/// What VXLAN adds to a packet: the outer IP, UDP and VXLAN headers and the inner Ethernet header. Source: RFC 7348.
const OVERHEAD: u32 = 50;

/// Packets of this size fit where the link to other hosts cannot be found: that of the kernel, less the overhead.
const CAUTIOUS_MTU: u32 = 1_450;

/// Peers of which entries are written at once: the kernel takes so many messages in one go.
const AT_ONCE: usize = 200;

/// How large a sandbox's packets may be so that they still fit in wrapped, by the link that has the overlay's address.
pub(crate) fn mtu(socket: &mut Socket, overlay: &Overlay) -> Result<u32, Error> {
    let held = route::addresses(socket)?.into_iter().find(|held| held.address == overlay.address);
    let links = link::list(socket)?;
    let under = held.and_then(|held| links.into_iter().find(|link| link.index == held.link)?.mtu);
    Ok(under.map_or(CAUTIOUS_MTU, |mtu| mtu.saturating_sub(OVERHEAD)))
}

/// The peers that can be reached beside our own subnet and each other; for the rest, the reason.
pub(crate) fn usable(
    socket: &mut Socket,
    names: &Names,
    (own, overlay): (Subnet, &Overlay),
    peers: &[Peer],
) -> Result<(Vec<Peer>, Vec<Error>), Error> {
    let ours = host::own_links(socket, names)?;
    let routes = route::routes(socket)?;
    let elsewhere: Vec<Subnet> = routes
        .into_iter()
        .filter(|route| !route.link.is_some_and(|link| ours.contains(&link)))
        .map(|route| route.destination)
        .filter(|destination| destination.prefix() >= host::WIDEST_REAL_ROUTE)
        .collect();
    let (mut kept, mut left_out): (Vec<Peer>, Vec<Error>) = (Vec::new(), Vec::new());
    // Agents that share one network namespace, as on a machine of tests, share its routes too.
    for peer in peers.iter().filter(|peer| peer.address != overlay.address) {
        let taken = [own].into_iter().chain(kept.iter().map(|peer| peer.subnet)).chain(elsewhere.clone());
        match taken.into_iter().find(|taken| taken.overlaps(peer.subnet)) {
            Some(other) => left_out.push(Error::PeerOverlap { peer: *peer, other }),
            None => kept.push(*peer),
        }
    }
    Ok((kept, left_out))
}

/// Makes the tunnel and exactly the entries of these peers; without peers there is no tunnel.
pub(crate) fn connect(
    socket: &mut Socket,
    names: &Names,
    (own, overlay): (Subnet, &Overlay),
    mtu: Option<u32>,
    peers: &[Peer],
) -> Result<(), Error> {
    if peers.is_empty() {
        return remove(socket, names);
    }
    let link = ensure_tunnel(socket, names, overlay, mtu)?;
    let wanted = Entries::of(own, peers);
    let known = Entries::list(socket, link)?;
    forget(socket, link, &known, &wanted)?;
    for chunk in wanted.missing_in(&known).chunks(AT_ONCE) {
        let mut batch = Batch::new();
        for (subnet, gateway, forwarding) in chunk {
            neighbour::put(&mut batch, Kind::Forwarding, link, *forwarding);
            neighbour::put(&mut batch, Kind::Neighbour, link, *gateway);
            route::put_route(&mut batch, link, *subnet, own.gateway());
        }
        socket.execute(&mut batch)?;
    }
    Ok(())
}

/// Deletes the tunnel, and with it all that leads through it; fine if there is none.
pub(crate) fn remove(socket: &mut Socket, names: &Names) -> Result<(), Error> {
    let Some(found) = find_tunnel(socket, names)? else { return Ok(()) };
    let mut batch = Batch::new();
    link::delete(&mut batch, found.index);
    host::gone_is_fine(socket.execute(&mut batch))
}

fn find_tunnel(socket: &mut Socket, names: &Names) -> Result<Option<link::Link>, Error> {
    match link::list(socket)?.into_iter().find(|link| link.name == names.tunnel) {
        None => Ok(None),
        Some(link) if link.is_our_tunnel() => Ok(Some(link)),
        Some(link) => Err(Error::NameTaken { name: link.name }),
    }
}

fn ensure_tunnel(
    socket: &mut Socket,
    names: &Names,
    overlay: &Overlay,
    mtu: Option<u32>,
) -> Result<u32, Error> {
    let wanted = Tunnel { number: overlay.network, local: overlay.address, port: Overlay::PORT };
    let found = find_tunnel(socket, names)?;
    let found = match found {
        Some(link) if link.tunnel == Some(wanted) => link,
        // The host has another address now, or the network another number.
        other => {
            let mut batch = Batch::new();
            if let Some(outdated) = other {
                link::delete(&mut batch, outdated.index);
            }
            tunnel::add(&mut batch, &names.tunnel, wanted, mtu);
            socket.execute(&mut batch)?;
            find_tunnel(socket, names)?.ok_or_else(|| Error::LinkLost { name: names.tunnel.clone() })?
        }
    };
    let mut batch = Batch::new();
    if let Some(mtu) = mtu.filter(|mtu| found.mtu != Some(*mtu)) {
        link::set_mtu(&mut batch, found.index, mtu);
    }
    link::without_ipv6(&mut batch, found.index);
    link::bring_up(&mut batch, found.index);
    socket.execute(&mut batch)?;
    // As on the bridge: a connection to a published port of the host's own 127.0.0.1 may lead to another host.
    host::switch_on(format!("/proc/sys/net/ipv4/conf/{}/route_localnet", names.tunnel).into())?;
    Ok(found.index)
}

/// What the kernel knows, or should know, of the ways through the tunnel.
#[derive(Debug, Default)]
struct Entries {
    /// With the host's address that each has for its source.
    routes: BTreeMap<Subnet, Option<Ipv4Addr>>,
    neighbours: BTreeSet<Entry>,
    forwarding: BTreeSet<Entry>,
    /// By subnet: the gateway, and the end of the tunnel.
    peers: Vec<(Subnet, Entry, Entry)>,
}

impl Entries {
    fn of(own: Subnet, peers: &[Peer]) -> Entries {
        let mut entries = Entries::default();
        for peer in peers {
            let ethernet = tunnel::ethernet_address(peer.address);
            let gateway = Entry { address: peer.subnet.gateway(), ethernet };
            let forwarding = Entry { address: peer.address, ethernet };
            entries.routes.insert(peer.subnet, Some(own.gateway()));
            entries.neighbours.insert(gateway);
            entries.forwarding.insert(forwarding);
            entries.peers.push((peer.subnet, gateway, forwarding));
        }
        entries
    }

    fn list(socket: &mut Socket, link: u32) -> Result<Entries, netlink::Error> {
        let routes = route::routes(socket)?.into_iter().filter(|route| route.link == Some(link));
        Ok(Entries {
            routes: routes.map(|route| (route.destination, route.source)).collect(),
            neighbours: neighbour::list(socket, Kind::Neighbour, link)?.into_iter().collect(),
            forwarding: neighbour::list(socket, Kind::Forwarding, link)?.into_iter().collect(),
            peers: Vec::new(),
        })
    }

    fn missing_in(&self, known: &Entries) -> Vec<(Subnet, Entry, Entry)> {
        let is_known = |(subnet, gateway, forwarding): &&(Subnet, Entry, Entry)| {
            known.routes.get(subnet) == self.routes.get(subnet)
                && known.neighbours.contains(gateway)
                && known.forwarding.contains(forwarding)
        };
        self.peers.iter().filter(|peer| !is_known(peer)).copied().collect()
    }
}

/// Deletes what nobody wants. Entries of which only the value differs are replaced later.
fn forget(socket: &mut Socket, link: u32, known: &Entries, wanted: &Entries) -> Result<(), Error> {
    let mut outdated = Vec::new();
    let mut delete = |write: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::new();
        write(&mut batch);
        outdated.push(batch);
    };
    for subnet in known.routes.keys().filter(|subnet| !wanted.routes.contains_key(subnet)) {
        delete(&|batch| route::delete_route(batch, link, *subnet));
    }
    let gateways: BTreeSet<Ipv4Addr> = wanted.neighbours.iter().map(|entry| entry.address).collect();
    for entry in known.neighbours.iter().filter(|entry| !gateways.contains(&entry.address)) {
        delete(&|batch| neighbour::delete(batch, Kind::Neighbour, link, *entry));
    }
    let ends: BTreeSet<[u8; 6]> = wanted.forwarding.iter().map(|entry| entry.ethernet).collect();
    for entry in known.forwarding.iter().filter(|entry| !ends.contains(&entry.ethernet)) {
        delete(&|batch| neighbour::delete(batch, Kind::Forwarding, link, *entry));
    }
    for mut batch in outdated {
        match socket.execute(&mut batch) {
            // It went by itself: routes go with the address that is their source.
            Err(error) if matches!(error.refusal(), Some(Errno::SRCH | Errno::NOENT)) => {}
            other => other?,
        }
    }
    Ok(())
}
