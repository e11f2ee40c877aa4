//! Which chains there are: ours, and those of other programs that matter to us.

use super::{
    table::{FORWARD, Family, header, kind},
    uapi::{attr, msg},
};
use crate::netlink::{
    Error, Socket,
    message::{find, read_text, read_u32},
};

/// A chain of any table, as far as we care.
struct Chain {
    family: u8,
    table: String,
    name: String,
    /// Hook number and policy of a base chain.
    base: Option<(u32, u32)>,
}

fn list(socket: &mut Socket, family: Family) -> Result<Vec<Chain>, Error> {
    let step = "list the firewall's chains";
    socket.dump(
        step,
        kind(msg::GETCHAIN),
        &header(family),
        |_| {},
        |chains: &mut Vec<Chain>, _, body| {
            chains.extend(parse_chain(body));
        },
    )
}

fn parse_chain(body: &[u8]) -> Option<Chain> {
    let attributes = body.get(4..)?;
    let number = |path: &[u16]| find(attributes, path).and_then(read_u32).map(u32::from_be_bytes);
    Some(Chain {
        family: *body.first()?,
        table: read_text(find(attributes, &[attr::CHAIN_TABLE])?),
        name: read_text(find(attributes, &[attr::CHAIN_NAME])?),
        base: number(&[attr::CHAIN_HOOK, attr::HOOK_HOOKNUM])
            .map(|hook| (hook, number(&[attr::CHAIN_POLICY]).unwrap_or(1))),
    })
}

/// The chains of a table that packets enter only from other chains: those of services.
pub(super) fn of_services(socket: &mut Socket, table: &str) -> Result<Vec<String>, Error> {
    let chains = list(socket, Family::Ipv4)?;
    Ok(chains
        .into_iter()
        .filter(|chain| chain.family == Family::Ipv4 as u8 && chain.table == table && chain.base.is_none())
        .map(|chain| chain.name)
        .collect())
}

/// Chains of other programs that drop forwarded packets unless a rule of theirs accepts: `table chain`.
pub(crate) fn dropping_forward_chains(socket: &mut Socket) -> Result<Vec<String>, Error> {
    const DROP: u32 = 0;
    let routed = [Family::Ipv4 as u8, Family::Inet as u8];
    let chains = list(socket, Family::Unspecified)?;
    Ok(chains
        .into_iter()
        .filter(|chain| routed.contains(&chain.family) && chain.base == Some((FORWARD, DROP)))
        .map(|chain| format!("{} {}", chain.table, chain.name))
        .collect())
}
