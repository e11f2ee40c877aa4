//! The rules that always stand, whatever is published.
//!
//! One table `ip <name>`. Packets meet its chains in this order:
//!
//! | chain       | hook, priority       | what it is for |
//! |-------------|----------------------|----------------|
//! | `sanity`    | prerouting, raw      | sandboxes send from their subnets only, and never to 127.0.0.0/8 |
//! | `incoming`  | prerouting, dstnat   | published ports, reached from outside and from sandboxes |
//! | `local`     | output, dstnat       | published ports, reached from the host itself |
//! | `refuse`    | input, filter        | published ports without a backend answer at once |
//! | `pass`      | forward, filter      | sandboxes are reached by each other and through published ports only |
//! | `redirects` | output, filter       | the hairpin makes the kernel suggest shortcuts that do not work |
//! | `leave`     | postrouting, srcnat  | which connections need the host's address |
//!
//! With an overlay, [`super::tunnel`] adds to them what holds of the tunnel, and the set `peers`: the hosts at its other ends.
//! `services` maps protocol and port to the chain of the service; `refused` holds those without backends. Both
//! belong to [`super::services`].

use super::{
    rule::{Rule, Want, state},
    table::{FORWARD, Family, Hook, INPUT, OUTPUT, POSTROUTING, PREROUTING, SetShape, Table},
    tunnel::{self, Gate},
    uapi::datatype::{INET_PROTO, INET_SERVICE, VERDICT, pair},
};
use crate::{Protocol, Subnet, config::Names};

pub(super) const SERVICES: &str = "services";
pub(super) const REFUSED: &str = "refused";
/// Numbers of sets within one batch; anonymous ones start at `FIRST_FREE_SET_ID`.
const SERVICES_ID: u32 = 1;
const REFUSED_ID: u32 = 2;
pub(super) const PEERS_ID: u32 = 3;
pub(super) const FIRST_FREE_SET_ID: u32 = 4;

const RAW: i32 = -300;
const DESTINATION_NAT: i32 = -100;
const FILTER: i32 = 0;
const SOURCE_NAT: i32 = 100;
const SERVICE_KEY_LENGTH: u32 = 8;

/// What the standing rules are made for.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) subnet: Subnet,
    /// Subnets of before, in which sandboxes still stand.
    pub(crate) former: Vec<Subnet>,
    /// None on a host that is joined with no other.
    pub(crate) gate: Option<Gate>,
}

impl Ground {
    fn subnets(&self) -> impl Iterator<Item = Subnet> {
        [self.subnet].into_iter().chain(self.former.iter().copied())
    }
}

/// The table of a network, with its standing chains written anew; services are left as they are.
pub(super) fn standing<'a>(names: &'a Names, ground: &Ground) -> Table<'a> {
    let mut table = Table::new(&names.table, Family::Ipv4);
    table.create();
    sets(&mut table);
    if let Some(gate) = &ground.gate {
        tunnel::set(&mut table, gate);
    }
    before_routing(&mut table, names, ground);
    host(&mut table, names, ground);
    forwarding(&mut table, names, ground);
    after_routing(&mut table, names, ground);
    table
}

fn sets(table: &mut Table<'_>) {
    let service = pair(INET_PROTO, INET_SERVICE);
    let mut named = |name, data, id| {
        table.set(&SetShape {
            name,
            key_type: service,
            key_length: SERVICE_KEY_LENGTH,
            data,
            id,
            anonymous: None,
        });
    };
    named(SERVICES, Some((VERDICT, 0)), SERVICES_ID);
    named(REFUSED, None, REFUSED_ID);
}

fn before_routing(table: &mut Table<'_>, names: &Names, ground: &Ground) {
    let hook = |chain_type, priority| Hook { chain_type, number: PREROUTING, priority };
    let from_bridge = || Rule::new().in_link(Want::Is, &names.bridge);

    table.base_chain("sanity", hook("filter", RAW));
    // route_localnet lets the host's 127.0.0.1 reach replicas; without this rule it would also let replicas
    // reach whatever listens on the host's 127.0.0.1 (the class of CVE-2020-8558). Answers to the host pass:
    // they are translated back to 127.0.0.1 only after this chain.
    table.rule("sanity", from_bridge().destination(Want::Is, Subnet::LOOPBACK).drop());
    let stranger = ground.subnets().fold(from_bridge(), |rule, subnet| rule.source(Want::IsNot, subnet));
    table.rule("sanity", stranger.drop());

    table.base_chain("incoming", hook("nat", DESTINATION_NAT));
    if let Some(gate) = &ground.gate {
        tunnel::guard(table, names, ground.subnet, gate);
        tunnel::keep_port(table, gate);
    }
    let incoming = Rule::new().destination(Want::IsNot, Subnet::LOOPBACK).destination_is_local();
    dispatch(table, "incoming", incoming);
}

fn host(table: &mut Table<'_>, names: &Names, ground: &Ground) {
    table.base_chain("local", Hook { chain_type: "nat", number: OUTPUT, priority: DESTINATION_NAT });
    dispatch(table, "local", Rule::new().destination_is_local());

    table.base_chain("refuse", Hook { chain_type: "filter", number: INPUT, priority: FILTER });
    let refused = |protocol| Rule::new().protocol(protocol).connection_state(state::NEW).service_in(REFUSED);
    table.rule("refuse", refused(Protocol::Tcp).reject_with_reset());
    table.rule("refuse", refused(Protocol::Udp).reject_as_unreachable());
    if ground.gate.is_some() {
        tunnel::refuse(table, names);
    }

    table.base_chain("redirects", Hook { chain_type: "filter", number: OUTPUT, priority: FILTER });
    table.rule("redirects", Rule::new().out_link(Want::Is, &names.bridge).icmp_redirect().drop());
}

/// Sends what is for a published port to the chain of its service.
///
/// The rule stands there twice: a lookup on one processor while another commits a switch may find neither the old
/// entry nor the new one, on kernels that do not look again by themselves. By the second lookup the switch is over.
/// Only the first packet of a flow pays.
fn dispatch(table: &mut Table<'_>, chain: &str, matching: Rule) {
    table.rule(chain, matching.clone().dispatch_service(SERVICES));
    table.rule(chain, matching.dispatch_service(SERVICES));
}

fn forwarding(table: &mut Table<'_>, names: &Names, ground: &Ground) {
    let bridge = names.bridge.as_str();
    table.base_chain("pass", Hook { chain_type: "filter", number: FORWARD, priority: FILTER });
    let inwards = || Rule::new().out_link(Want::Is, bridge);
    table.rule("pass", inwards().connection_state(state::ESTABLISHED | state::RELATED).accept());
    table.rule("pass", inwards().in_link(Want::Is, bridge).accept());
    if ground.gate.is_some() {
        tunnel::pass(table, names);
    }
    // What was not translated addresses a replica directly, past the published ports.
    table.rule("pass", inwards().destination_translated(Want::IsNot).drop());
}

fn after_routing(table: &mut Table<'_>, names: &Names, ground: &Ground) {
    let bridge = names.bridge.as_str();
    table.base_chain("leave", Hook { chain_type: "nat", number: POSTROUTING, priority: SOURCE_NAT });
    let inwards = || Rule::new().out_link(Want::Is, bridge);
    // A replica cannot answer 127.0.0.1, and would answer another replica past the translation.
    table.rule("leave", inwards().source(Want::Is, Subnet::LOOPBACK).masquerade());
    for subnet in ground.subnets() {
        let turned = inwards().source(Want::Is, subnet).destination_translated(Want::Is);
        table.rule("leave", turned.masquerade());
    }
    if ground.gate.is_some() {
        tunnel::leave(table, names, ground.subnet);
    }
    let outwards = || {
        let outwards = Rule::new().out_link(Want::IsNot, bridge);
        match ground.gate {
            Some(_) => outwards.out_link(Want::IsNot, &names.tunnel),
            None => outwards,
        }
    };
    for subnet in ground.subnets() {
        table.rule("leave", outwards().source(Want::Is, subnet).masquerade());
    }
}
