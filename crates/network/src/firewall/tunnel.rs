//! What may come through the tunnel to other hosts, and who may send into it.
//!
//! What is wrapped is only looked at by its receiver, so both sides are watched: the wrapped packets must come from the
//! address of a peer, and what was in them must have a source that is routed into the tunnel and be for our sandboxes. Our
//! own sandboxes cannot make wrapped packets themselves: under the host's address they would be believed elsewhere.

use std::net::Ipv4Addr;

use super::{
    base::PEERS_ID,
    rule::{Rule, Want, state},
    table::{Element, SetShape, Table, Value},
    uapi::datatype::IPV4_ADDR,
};
use crate::{Overlay, Subnet, config::Names};

const PEERS: &str = "peers";

/// What the rules are made for.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) overlay: Overlay,
    /// None until they are told: those that an earlier process wrote stay.
    pub(crate) peers: Option<Vec<Ipv4Addr>>,
}

/// A wrapped packet of our network.
fn wrapped(overlay: &Overlay) -> Rule {
    Rule::new().tunnelled(Overlay::PORT, overlay.network)
}

pub(super) fn set(table: &mut Table<'_>, gate: &Gate) {
    table.set(&SetShape {
        name: PEERS,
        key_type: IPV4_ADDR,
        key_length: 4,
        data: None,
        id: PEERS_ID,
        anonymous: None,
    });
    if let Some(peers) = &gate.peers {
        fill(table, peers);
    }
}

/// Exactly these hosts.
pub(super) fn fill(table: &mut Table<'_>, peers: &[Ipv4Addr]) {
    table.flush_set(PEERS);
    let keys: Vec<[u8; 4]> = peers.iter().map(|peer| peer.octets()).collect();
    let elements: Vec<_> = keys.iter().map(|key| Element { key, value: Value::None }).collect();
    table.add_elements(PEERS, None, &elements);
}

/// Into `sanity`, which is before anything is translated or tracked.
pub(super) fn guard(table: &mut Table<'_>, names: &Names, subnet: Subnet, gate: &Gate) {
    let overlay = &gate.overlay;
    table.rule("sanity", wrapped(overlay).in_link(Want::Is, &names.bridge).drop());
    table.rule("sanity", wrapped(overlay).destination_is_local().source_not_in(PEERS).drop());
    let unwrapped = || Rule::new().in_link(Want::Is, &names.tunnel);
    table.rule("sanity", unwrapped().destination(Want::IsNot, subnet).drop());
    table.rule("sanity", unwrapped().source_is_not_routed_back().drop());
}

/// Into `incoming`: the tunnel's port is not to be published away.
pub(super) fn keep_port(table: &mut Table<'_>, gate: &Gate) {
    table.rule("incoming", wrapped(&gate.overlay).accept());
}

/// Into `refuse`: sandboxes elsewhere are answered by this host, and never connect to it.
pub(super) fn refuse(table: &mut Table<'_>, names: &Names) {
    let unwrapped = || Rule::new().in_link(Want::Is, &names.tunnel);
    table.rule("refuse", unwrapped().connection_state(state::ESTABLISHED | state::RELATED).accept());
    table.rule("refuse", unwrapped().drop());
}

/// Into `pass`: sandboxes reach each other by address wherever they are, others only through published ports.
pub(super) fn pass(table: &mut Table<'_>, names: &Names) {
    let inwards = Rule::new().out_link(Want::Is, &names.bridge);
    table.rule("pass", inwards.in_link(Want::Is, &names.tunnel).accept());
    let outwards = || Rule::new().out_link(Want::Is, &names.tunnel);
    table.rule("pass", outwards().connection_state(state::ESTABLISHED | state::RELATED).accept());
    table.rule("pass", outwards().in_link(Want::Is, &names.bridge).accept());
    table.rule("pass", outwards().destination_translated(Want::IsNot).drop());
}

/// Into `leave`: a sandbox elsewhere could not answer clients of ours past this host, and its host believes only
/// addresses of our subnet.
pub(super) fn leave(table: &mut Table<'_>, names: &Names, subnet: Subnet) {
    let outwards = Rule::new().out_link(Want::Is, &names.tunnel);
    table.rule("leave", outwards.source(Want::IsNot, subnet).translate_source(subnet.gateway()));
}
