//! Published services in the firewall: each has a chain with one rule that hands connections out in turn.
//!
//! `services : protocol . port -> goto <chain>`, and in the chain `dnat to numgen inc mod N map {...}`. A chain
//! never changes. A change of backends makes new chains, which no packet reaches yet; then one transaction
//! switches the maps to them; much later the old chains go ([`Retired`]).
//!
//! Why not replace the rule in its chain, which is one transaction too? A packet picks the generation of rules
//! when it enters a base chain, but the generation of set elements at each lookup. One that is on its way
//! through the old rule while the transaction commits would find the old rule's map empty, stay untranslated and
//! be refused. That happens: a few times per hundred thousand connections under load. With chains that stand
//! before and after the switch, either answer of the lookup leads to a whole rule.

use std::{
    collections::BTreeMap,
    fmt,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{
    base::{FIRST_FREE_SET_ID, REFUSED, SERVICES},
    rule::{Rule, backend_value, service_key},
    table::{Element, SetShape, Table, Value},
    uapi::datatype::{INET_SERVICE, INTEGER, IPV4_ADDR, pair},
};
use crate::Protocol;

/// A published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Service {
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

impl Service {
    /// A chain's name, unique by the firewall's generation it is made in.
    fn chain(self, generation: u32) -> String {
        format!("{}-{}.{generation}", self.protocol, self.port)
    }

    fn key(self) -> [u8; 8] {
        service_key(self.protocol, self.port)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.port, self.protocol)
    }
}

/// Each published port and where it leads; backends are sorted and occur once.
pub(crate) type Services = BTreeMap<Service, Vec<(Ipv4Addr, u16)>>;

/// The services that are not the same in both.
pub(crate) fn changed(old: &Services, new: &Services) -> Vec<Service> {
    let gone_or_different = old.iter().filter(|(service, backends)| new.get(service) != Some(backends));
    let added = new.keys().filter(|service| !old.contains_key(service));
    gone_or_different.map(|(service, _)| *service).chain(added.copied()).collect()
}

/// What the kernel holds: the services, and the chain of each that has backends.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) services: Services,
    pub(super) chains: BTreeMap<Service, String>,
}

/// Chains that nothing leads to any more, and since when.
#[derive(Debug, Default)]
pub(super) struct Retired(Vec<(Instant, String)>);

/// No packet is on its way through a chain for so long.
const REST: Duration = Duration::from_millis(200);

impl Retired {
    pub(super) fn add(&mut self, now: Instant, chains: impl IntoIterator<Item = String>) {
        self.0.extend(chains.into_iter().map(|chain| (now, chain)));
    }

    /// Writes the end of those that have rested, and returns who stays.
    pub(super) fn write_end(&self, table: &mut Table<'_>, now: Instant) -> Retired {
        let (rested, resting): (Vec<_>, Vec<_>) =
            self.0.iter().cloned().partition(|(since, _)| now.duration_since(*since) > REST);
        for (_, chain) in &rested {
            table.delete_chain(chain);
        }
        Retired(resting)
    }
}

/// Writes a chain for each of these services that has backends: the first transaction, which no packet notices.
/// `turn` rotates who comes first, so that frequent changes do not all begin with the same backend.
pub(super) fn write_chains(
    table: &mut Table<'_>,
    changed: &[Service],
    new: &Services,
    generation: u32,
    turn: usize,
) -> BTreeMap<Service, String> {
    let mut chains = BTreeMap::new();
    let backends = |service| new.get(service).filter(|backends| !backends.is_empty());
    let served = changed.iter().filter_map(|service| Some((*service, backends(service)?)));
    for ((service, backends), set_id) in served.zip(FIRST_FREE_SET_ID..) {
        let chain = service.chain(generation);
        table.chain(&chain);
        write_turns(table, &chain, backends, set_id, turn);
        chains.insert(service, chain);
    }
    chains
}

/// The one rule of a service's chain, with the map of its turns.
fn write_turns(table: &mut Table<'_>, chain: &str, backends: &[(Ipv4Addr, u16)], set_id: u32, turn: usize) {
    const MAP: &str = "__turns%d"; // The kernel fills in a number.
    let count = backends.len() as u32;
    table.set(&SetShape {
        name: MAP,
        key_type: INTEGER,
        key_length: 4,
        data: Some((pair(IPV4_ADDR, INET_SERVICE), 8)),
        id: set_id,
        anonymous: Some(count),
    });
    let rotated = backends.iter().cycle().skip(turn % backends.len());
    let numbered: Vec<_> = (0..count)
        .zip(rotated)
        .map(|(number, (address, port))| (number.to_ne_bytes(), backend_value(*address, *port)))
        .collect();
    let elements: Vec<_> =
        numbered.iter().map(|(key, value)| Element { key, value: Value::Bytes(value) }).collect();
    table.add_elements(MAP, Some(set_id), &elements);
    table.rule(chain, Rule::new().translate_in_turn(count, MAP, set_id));
}

/// Writes the switch of these services from where they are to where they shall be: the second transaction.
pub(super) fn write_switch(
    table: &mut Table<'_>,
    changed: &[Service],
    held: &Held,
    new: &Services,
    chains: &BTreeMap<Service, String>,
) {
    let (was_served, was_refused): (Vec<_>, Vec<_>) = changed
        .iter()
        .copied()
        .filter(|service| held.services.contains_key(service))
        .partition(|service| held.chains.contains_key(service));
    delete(table, SERVICES, &was_served);
    delete(table, REFUSED, &was_refused);
    write_entries(table, changed, new, chains);
}

/// Writes the switch from whatever an earlier process, or a failure, left.
pub(super) fn write_switch_from_unknown(
    table: &mut Table<'_>,
    new: &Services,
    chains: &BTreeMap<Service, String>,
) {
    table.flush_set(SERVICES);
    table.flush_set(REFUSED);
    let all: Vec<_> = new.keys().copied().collect();
    write_entries(table, &all, new, chains);
}

fn write_entries(
    table: &mut Table<'_>,
    changed: &[Service],
    new: &Services,
    chains: &BTreeMap<Service, String>,
) {
    let keyed = |services: Vec<Service>| services.into_iter().map(|service| (service.key(), service));
    let (served, refused): (Vec<_>, Vec<_>) = changed
        .iter()
        .copied()
        .filter(|service| new.contains_key(service))
        .partition(|service| chains.contains_key(service));
    let served: Vec<_> = keyed(served).collect();
    let elements: Vec<_> = served
        .iter()
        .filter_map(|(key, service)| Some(Element { key, value: Value::GoTo(chains.get(service)?) }))
        .collect();
    table.add_elements(SERVICES, None, &elements);
    let refused: Vec<_> = keyed(refused).collect();
    let elements: Vec<_> = refused.iter().map(|(key, _)| Element { key, value: Value::None }).collect();
    table.add_elements(REFUSED, None, &elements);
}

fn delete(table: &mut Table<'_>, set: &str, services: &[Service]) {
    let keys: Vec<_> = services.iter().map(|service| service.key()).collect();
    let elements: Vec<_> = keys.iter().map(|key| Element { key, value: Value::None }).collect();
    table.delete_elements(set, &elements);
}
