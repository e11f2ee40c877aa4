//! No sandbox speaks with another's address: a table `bridge <name>` that knows which port has which address.
//!
//! A replica that was granted raw sockets could otherwise answer for its neighbours, on IP or on ARP. The rules
//! know our ports by their link group. Kernels without nf_tables for bridges run without this guard.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{
    rule::{Rule, Want, interface_name},
    table::{Element, Family, Hook, PREROUTING, SetShape, Table, Value},
    uapi::datatype::{IFNAME, IPV4_ADDR, pair},
};
use crate::config::Names;

const PORTS: &str = "ports";
const CHAIN: &str = "guard";
const PORTS_ID: u32 = 1;
const KEY_LENGTH: u32 = 20;
const BEFORE_ALL: i32 = -300;
const ETHER_IPV4: u16 = 0x0800;
const ETHER_ARP: u16 = 0x0806;
/// Where the sender's address stands in the network header.
const IPV4_SOURCE: u32 = 12;
const ARP_SENDER: u32 = 14;

/// The table with exactly these ports and addresses.
pub(super) fn standing<'a>(names: &'a Names, admitted: &BTreeMap<String, Ipv4Addr>) -> Table<'a> {
    let mut table = Table::new(&names.table, Family::Bridge);
    table.create();
    table.set(&SetShape {
        name: PORTS,
        key_type: pair(IFNAME, IPV4_ADDR),
        key_length: KEY_LENGTH,
        data: None,
        id: PORTS_ID,
        anonymous: None,
    });
    table.flush_set(PORTS);
    let keys: Vec<_> = admitted.iter().map(|(port, address)| key(port, *address)).collect();
    let elements: Vec<_> = keys.iter().map(|key| Element { key, value: Value::None }).collect();
    table.add_elements(PORTS, None, &elements);

    table.base_chain(CHAIN, Hook { chain_type: "filter", number: PREROUTING, priority: BEFORE_ALL });
    table.rule(CHAIN, Rule::new().in_link_group(Want::IsNot, names.group).accept());
    let own = |ether_type, offset| Rule::new().ether_type(ether_type).link_and_address_in(offset, PORTS);
    table.rule(CHAIN, own(ETHER_IPV4, IPV4_SOURCE).accept());
    table.rule(CHAIN, own(ETHER_ARP, ARP_SENDER).accept());
    table.rule(CHAIN, Rule::new().drop());
    table
}

pub(super) fn admit<'a>(names: &'a Names, port: &str, address: Ipv4Addr) -> Table<'a> {
    let mut table = Table::new(&names.table, Family::Bridge);
    table.add_elements(PORTS, None, &[Element { key: &key(port, address), value: Value::None }]);
    table
}

pub(super) fn expel<'a>(names: &'a Names, port: &str, address: Ipv4Addr) -> Table<'a> {
    let mut table = Table::new(&names.table, Family::Bridge);
    table.delete_elements(PORTS, &[Element { key: &key(port, address), value: Value::None }]);
    table
}

fn key(port: &str, address: Ipv4Addr) -> [u8; KEY_LENGTH as usize] {
    let mut key = [0; KEY_LENGTH as usize];
    key[..16].copy_from_slice(&interface_name(port));
    key[16..].copy_from_slice(&address.octets());
    key
}
