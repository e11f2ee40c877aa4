//! The host's side: the bridge with its addresses, and the two switches of the kernel it needs.

use std::{collections::BTreeSet, io, net::Ipv4Addr, path::PathBuf};

use rustix::io::Errno;

use crate::{
    Config, Subnet,
    config::Names,
    error::Error,
    netlink::{Socket, link, message::Batch, route},
};

/// Links that lead to half of all addresses are default routes in disguise (VPN clients make them).
pub(crate) const WIDEST_REAL_ROUTE: u8 = 2;

/// Makes the bridge, or takes over the one that is there. Also returns the subnets that it had before and in which sandboxes
/// still stand: they keep their gateway.
pub(crate) fn ensure_bridge(
    socket: &mut Socket,
    config: &Config,
    names: &Names,
    standing: &[Ipv4Addr],
) -> Result<(u32, Vec<Subnet>), Error> {
    refuse_overlap(socket, names, config.subnet)?;
    let former = former_subnets(socket, config, names, standing)?;
    Ok((repair_bridge(socket, config, names, &former)?, former))
}

/// The same, for one that was there before.
pub(crate) fn repair_bridge(
    socket: &mut Socket,
    config: &Config,
    names: &Names,
    former: &[Subnet],
) -> Result<u32, Error> {
    let index = match find_bridge(socket, names)? {
        Some(index) => index,
        None => create_bridge(socket, config, names)?,
    };
    give_addresses(socket, index, config, former)?;
    switch_on("/proc/sys/net/ipv4/ip_forward".into())?;
    // Lets connections from the host's 127.0.0.1 leave through the bridge, and only there.
    switch_on(format!("/proc/sys/net/ipv4/conf/{}/route_localnet", names.bridge).into())?;
    Ok(index)
}

fn former_subnets(
    socket: &mut Socket,
    config: &Config,
    names: &Names,
    standing: &[Ipv4Addr],
) -> Result<Vec<Subnet>, Error> {
    let Some(bridge) = find_bridge(socket, names)? else { return Ok(Vec::new()) };
    let held = route::addresses(socket)?.into_iter().filter(|held| held.link == bridge);
    let subnets = held.filter_map(|held| Subnet::containing(held.address, held.prefix));
    let is_lived_in = |subnet: &Subnet| standing.iter().any(|address| subnet.contains(*address));
    Ok(subnets.filter(|subnet| *subnet != config.subnet).filter(is_lived_in).collect())
}

pub(crate) fn find_bridge(socket: &mut Socket, names: &Names) -> Result<Option<u32>, Error> {
    match link::list(socket)?.into_iter().find(|link| link.name == names.bridge) {
        None => Ok(None),
        Some(link) if link.is_our_bridge() => Ok(Some(link.index)),
        // Taking it over would take its addresses from it, and teardown would remove it.
        Some(link) => Err(Error::NameTaken { name: link.name }),
    }
}

fn create_bridge(socket: &mut Socket, config: &Config, names: &Names) -> Result<u32, Error> {
    let mut batch = Batch::new();
    let ethernet = link::ethernet_address(config.subnet.gateway());
    link::add_bridge(&mut batch, &names.bridge, ethernet, config.mtu);
    socket.execute(&mut batch)?;
    find_bridge(socket, names)?.ok_or_else(|| Error::BridgeLost { name: names.bridge.clone() })
}

fn give_addresses(socket: &mut Socket, bridge: u32, config: &Config, former: &[Subnet]) -> Result<(), Error> {
    let held = route::addresses(socket)?;
    let on_bridge = held.iter().filter(|held| held.link == bridge);
    let wanted = || [config.subnet].into_iter().chain(former.iter().copied());
    let is_wanted = |address: Ipv4Addr, prefix: u8| {
        wanted().any(|subnet| (address, prefix) == (subnet.gateway(), subnet.prefix()))
    };
    let mut batch = Batch::new();
    for outdated in on_bridge.filter(|held| !is_wanted(held.address, held.prefix)) {
        route::delete_address(&mut batch, outdated);
    }
    for subnet in wanted() {
        route::add_address(&mut batch, bridge, subnet.gateway(), subnet);
    }
    if let Some(mtu) = config.mtu {
        link::set_mtu(&mut batch, bridge, mtu);
    }
    link::without_ipv6(&mut batch, bridge);
    link::bring_up(&mut batch, bridge);
    Ok(socket.execute(&mut batch)?)
}

/// The links that this network made for the host itself.
pub(crate) fn own_links(socket: &mut Socket, names: &Names) -> Result<BTreeSet<u32>, Error> {
    let is_ours = |link: &link::Link| link.name == names.bridge || link.name == names.tunnel;
    Ok(link::list(socket)?.into_iter().filter(is_ours).map(|link| link.index).collect())
}

/// A subnet that the host reaches elsewhere would be cut off by the bridge, or cut the bridge off.
fn refuse_overlap(socket: &mut Socket, names: &Names, subnet: Subnet) -> Result<(), Error> {
    let ours = own_links(socket, names)?;
    let foreign = route::routes(socket)?.into_iter().find(|route| {
        !route.link.is_some_and(|link| ours.contains(&link))
            && route.destination.prefix() >= WIDEST_REAL_ROUTE
            && route.destination.overlaps(subnet)
    });
    let Some(route) = foreign else { return Ok(()) };
    let links = link::list(socket)?;
    let name = links.into_iter().find(|link| Some(link.index) == route.link).map(|link| link.name);
    Err(Error::Overlap {
        subnet,
        other: route.destination,
        link: name.unwrap_or_else(|| "no link".to_string()),
    })
}

/// Deletes the cables of all sandboxes, whoever still lives in one, and the bridge.
pub(crate) fn remove_links(socket: &mut Socket, names: &Names) -> Result<(), Error> {
    let mut cables = Batch::new();
    link::delete_group(&mut cables, names.group);
    gone_is_fine(socket.execute(&mut cables))?;
    match find_bridge(socket, names) {
        Ok(Some(bridge)) => {
            let mut batch = Batch::new();
            link::delete(&mut batch, bridge);
            gone_is_fine(socket.execute(&mut batch))
        }
        Ok(None) | Err(Error::NameTaken { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

pub(crate) fn gone_is_fine(result: Result<(), crate::netlink::Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.refusal() == Some(Errno::NODEV) => Ok(()),
        other => Ok(other?),
    }
}

pub(crate) fn switch_on(path: PathBuf) -> Result<(), Error> {
    let set = || -> io::Result<()> {
        // Writing needs rights that reading does not: a prepared host may allow only the latter.
        if std::fs::read_to_string(&path)?.trim() == "1" {
            return Ok(());
        }
        std::fs::write(&path, "1")
    };
    set().map_err(|source| Error::Sysctl { path: path.clone(), value: "1", source })
}
