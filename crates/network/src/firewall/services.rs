//! Published services in the firewall: each has a chain with one rule that hands connections out in turn.
//!
//! `services : protocol . port -> goto <chain>`, and in the chain `dnat to numgen inc mod N map {...}`. A change
//! replaces the rule of the services it touches, in the transaction that also changes the maps: a packet sees
//! all of it or nothing. Existing connections follow conntrack and never come here again.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

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
    fn chain(self) -> String {
        format!("{}-{}", self.protocol, self.port)
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

/// How a service stands in the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Absent,
    Refused,
    Served,
}

fn standing(services: &Services, service: Service) -> Standing {
    match services.get(&service) {
        None => Standing::Absent,
        Some(backends) if backends.is_empty() => Standing::Refused,
        Some(_) => Standing::Served,
    }
}

/// The services that are not the same in both.
pub(crate) fn changed(old: &Services, new: &Services) -> Vec<Service> {
    let gone_or_different = old.iter().filter(|(service, backends)| new.get(service) != Some(backends));
    let added = new.keys().filter(|service| !old.contains_key(service));
    gone_or_different.map(|(service, _)| *service).chain(added.copied()).collect()
}

/// Writes what turns `old` into `new`. `turn` rotates who comes first, so that frequent changes do not all
/// begin with the same backend.
pub(super) fn write_changes(table: &mut Table<'_>, old: &Services, new: &Services, turn: usize) {
    let mut writer = Writer::new(table, turn);
    for service in changed(old, new) {
        leave(writer.table, service, standing(old, service), standing(new, service));
        writer.enter(service, new, standing(old, service));
    }
    writer.finish();
}

/// Writes `new` over whatever services an earlier process left; `found` are the chains it left.
pub(super) fn rewrite(table: &mut Table<'_>, found: &[String], new: &Services, turn: usize) {
    table.flush_set(SERVICES);
    table.flush_set(REFUSED);
    for chain in found {
        table.delete_chain(chain);
    }
    let mut writer = Writer::new(table, turn);
    for service in new.keys() {
        writer.enter(*service, new, Standing::Absent);
    }
    writer.finish();
}

/// Takes a service out of where it is and will not be.
fn leave(table: &mut Table<'_>, service: Service, was: Standing, will_be: Standing) {
    if was == will_be {
        return;
    }
    let key = service.key();
    let element = [Element { key: &key, value: Value::None }];
    match was {
        Standing::Absent => {}
        Standing::Refused => table.delete_elements(REFUSED, &element),
        Standing::Served => {
            table.delete_elements(SERVICES, &element);
            table.delete_chain(&service.chain());
        }
    }
}

/// Collects map elements, so that many services take few messages.
struct Writer<'a, 'b> {
    table: &'a mut Table<'b>,
    turn: usize,
    next_set_id: u32,
    served: Vec<Service>,
    refused: Vec<Service>,
}

impl<'a, 'b> Writer<'a, 'b> {
    fn new(table: &'a mut Table<'b>, turn: usize) -> Writer<'a, 'b> {
        Writer { table, turn, next_set_id: FIRST_FREE_SET_ID, served: Vec::new(), refused: Vec::new() }
    }

    fn enter(&mut self, service: Service, new: &Services, was: Standing) {
        let will_be = standing(new, service);
        match (was, will_be) {
            (_, Standing::Absent) | (Standing::Refused, Standing::Refused) => return,
            (_, Standing::Refused) => self.refused.push(service),
            (Standing::Served, Standing::Served) => self.table.flush_chain(&service.chain()),
            (Standing::Absent | Standing::Refused, Standing::Served) => {
                self.table.chain(&service.chain());
                self.served.push(service);
            }
        }
        if let Some(backends) = new.get(&service)
            && !backends.is_empty()
        {
            self.turns(&service.chain(), backends);
        }
    }

    /// The one rule of a service's chain, with the map of its turns.
    fn turns(&mut self, chain: &str, backends: &[(Ipv4Addr, u16)]) {
        const MAP: &str = "__turns%d"; // The kernel fills in a number.
        let id = self.next_set_id;
        self.next_set_id += 1;
        let count = backends.len() as u32;
        self.table.set(&SetShape {
            name: MAP,
            key_type: INTEGER,
            key_length: 4,
            data: Some((pair(IPV4_ADDR, INET_SERVICE), 8)),
            id,
            anonymous: Some(count),
        });
        let numbered: Vec<_> = (0..count)
            .zip(backends.iter().cycle().skip(self.turn % backends.len()))
            .map(|(number, (address, port))| (number.to_ne_bytes(), backend_value(*address, *port)))
            .collect();
        let elements: Vec<_> =
            numbered.iter().map(|(key, value)| Element { key, value: Value::Bytes(value) }).collect();
        self.table.add_elements(MAP, Some(id), &elements);
        self.table.rule(chain, Rule::new().translate_in_turn(count, MAP, id));
    }

    fn finish(self) {
        let named: Vec<_> = self.served.iter().map(|service| (service.key(), service.chain())).collect();
        let elements: Vec<_> =
            named.iter().map(|(key, chain)| Element { key, value: Value::GoTo(chain) }).collect();
        self.table.add_elements(SERVICES, None, &elements);
        let keys: Vec<_> = self.refused.iter().map(|service| service.key()).collect();
        let elements: Vec<_> = keys.iter().map(|key| Element { key, value: Value::None }).collect();
        self.table.add_elements(REFUSED, None, &elements);
    }
}
