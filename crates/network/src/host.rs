//! The host's side: the bridge with its address, and the two switches of the kernel it needs.

use std::{io, path::PathBuf};

use rustix::io::Errno;

use crate::{
    Config, Subnet,
    config::Names,
    error::Error,
    netlink::{Socket, link, message::Batch, route},
};

/// Links that lead to half of all addresses are default routes in disguise (VPN clients make them).
const WIDEST_REAL_ROUTE: u8 = 2;

/// Makes the bridge, or takes over the one that is there; returns its index.
pub(crate) fn ensure_bridge(socket: &mut Socket, config: &Config, names: &Names) -> Result<u32, Error> {
    let existing = find_bridge(socket, names)?;
    refuse_overlap(socket, config.subnet, existing)?;
    repair_bridge(socket, config, names)
}

/// The same, for one that was there before.
pub(crate) fn repair_bridge(socket: &mut Socket, config: &Config, names: &Names) -> Result<u32, Error> {
    let index = match find_bridge(socket, names)? {
        Some(index) => index,
        None => create_bridge(socket, config, names)?,
    };
    give_address(socket, index, config.subnet)?;
    switch_on("/proc/sys/net/ipv4/ip_forward".into())?;
    // Lets connections from the host's 127.0.0.1 leave through the bridge, and only there.
    switch_on(format!("/proc/sys/net/ipv4/conf/{}/route_localnet", names.bridge).into())?;
    Ok(index)
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

fn give_address(socket: &mut Socket, bridge: u32, subnet: Subnet) -> Result<(), Error> {
    let held = route::addresses(socket)?;
    let on_bridge = held.iter().filter(|held| held.link == bridge);
    let mut batch = Batch::new();
    for outdated in
        on_bridge.filter(|held| (held.address, held.prefix) != (subnet.gateway(), subnet.prefix()))
    {
        route::delete_address(&mut batch, outdated);
    }
    route::add_address(&mut batch, bridge, subnet.gateway(), subnet);
    link::without_ipv6(&mut batch, bridge);
    link::bring_up(&mut batch, bridge);
    Ok(socket.execute(&mut batch)?)
}

/// A subnet that the host reaches elsewhere would be cut off by the bridge, or cut the bridge off.
fn refuse_overlap(socket: &mut Socket, subnet: Subnet, bridge: Option<u32>) -> Result<(), Error> {
    let foreign = route::routes(socket)?.into_iter().find(|route| {
        route.link != bridge
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

fn gone_is_fine(result: Result<(), crate::netlink::Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.refusal() == Some(Errno::NODEV) => Ok(()),
        other => Ok(other?),
    }
}

fn switch_on(path: PathBuf) -> Result<(), Error> {
    let set = || -> io::Result<()> {
        // Writing needs rights that reading does not: a prepared host may allow only the latter.
        if std::fs::read_to_string(&path)?.trim() == "1" {
            return Ok(());
        }
        std::fs::write(&path, "1")
    };
    set().map_err(|source| Error::Sysctl { path: path.clone(), value: "1", source })
}
