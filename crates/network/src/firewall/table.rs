//! Messages about the objects of one nf_tables table: chains, rules, sets and their elements.
//!
//! A [`Table`] only collects messages; [`super::Firewall::commit`] makes them happen, all or none.

use super::{
    rule::Rule,
    uapi::{attr, msg},
};
use crate::netlink::message::{Attributes, Batch, flag};

const SUBSYSTEM: u16 = 10 << 8; // NFNL_SUBSYS_NFTABLES
/// Elements per message: the length of an attribute ends at 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 500;

pub(super) fn kind(message: u8) -> u16 {
    SUBSYSTEM | u16::from(message)
}

/// `struct nfgenmsg`.
pub(super) fn header(family: Family) -> [u8; 4] {
    [family as u8, 0, 0, 0]
}

/// `NFPROTO_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Unspecified = 0,
    Inet = 1,
    Ipv4 = 2,
    Bridge = 7,
}

/// Where a base chain sits: its type, its hook number (linux/netfilter.h) and its priority.
#[derive(Clone, Copy)]
pub(super) struct Hook {
    pub(super) chain_type: &'static str,
    pub(super) number: u32,
    pub(super) priority: i32,
}

pub(super) const PREROUTING: u32 = 0;
pub(super) const INPUT: u32 = 1;
pub(super) const FORWARD: u32 = 2;
pub(super) const OUTPUT: u32 = 3;
pub(super) const POSTROUTING: u32 = 4;

/// What a set holds.
pub(super) struct SetShape<'a> {
    pub(super) name: &'a str,
    pub(super) key_type: u32,
    pub(super) key_length: u32,
    /// The type and length of what a key maps to, if this is a map.
    pub(super) data: Option<(u32, u32)>,
    /// Number within the batch, how later messages refer to it.
    pub(super) id: u32,
    /// An anonymous set of this size: it belongs to the one rule that uses it and goes with it.
    pub(super) anonymous: Option<u32>,
}

/// One element: its key and, in a map, its value.
pub(super) struct Element<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: Value<'a>,
}

pub(super) enum Value<'a> {
    None,
    Bytes(&'a [u8]),
    GoTo(&'a str),
}

/// Messages about one table, in the order they take effect.
pub(super) struct Table<'a> {
    pub(super) name: &'a str,
    pub(super) family: Family,
    pub(super) batch: Batch,
}

impl<'a> Table<'a> {
    pub(super) fn new(name: &'a str, family: Family) -> Table<'a> {
        Table { name, family, batch: Batch::new() }
    }

    fn add(&mut self, step: &'static str, message: u8, flags: u16, body: impl FnOnce(&mut Attributes<'_>)) {
        self.batch.add(step, kind(message), flags, &header(self.family), body);
    }

    pub(super) fn create(&mut self) {
        let name = self.name;
        self.add("create the firewall table", msg::NEWTABLE, flag::CREATE, |m| {
            m.text(attr::TABLE_NAME, name)
        });
    }

    pub(super) fn delete(&mut self) {
        let name = self.name;
        self.add("delete the firewall table", msg::DELTABLE, 0, |m| m.text(attr::TABLE_NAME, name));
    }

    /// A chain that packets enter by themselves; emptied if it exists.
    pub(super) fn base_chain(&mut self, name: &str, hook: Hook) {
        let table = self.name;
        self.add("create a base chain of the firewall", msg::NEWCHAIN, flag::CREATE, |m| {
            m.text(attr::CHAIN_TABLE, table);
            m.text(attr::CHAIN_NAME, name);
            m.text(attr::CHAIN_TYPE, hook.chain_type);
            m.nest(attr::CHAIN_HOOK, |h| {
                h.be32(attr::HOOK_HOOKNUM, hook.number);
                h.bytes(attr::HOOK_PRIORITY, &hook.priority.to_be_bytes());
            });
        });
        self.flush_chain(name);
    }

    /// A chain that other chains go to.
    pub(super) fn chain(&mut self, name: &str) {
        let table = self.name;
        self.add("create a service's chain", msg::NEWCHAIN, flag::CREATE, |m| {
            m.text(attr::CHAIN_TABLE, table);
            m.text(attr::CHAIN_NAME, name);
        });
    }

    pub(super) fn flush_chain(&mut self, name: &str) {
        let table = self.name;
        self.add("empty a chain", msg::DELRULE, 0, |m| {
            m.text(attr::RULE_TABLE, table);
            m.text(attr::RULE_CHAIN, name);
        });
    }

    pub(super) fn delete_chain(&mut self, name: &str) {
        let table = self.name;
        self.flush_chain(name);
        self.add("delete a service's chain", msg::DELCHAIN, 0, |m| {
            m.text(attr::CHAIN_TABLE, table);
            m.text(attr::CHAIN_NAME, name);
        });
    }

    pub(super) fn rule(&mut self, chain: &str, rule: Rule) {
        let table = self.name;
        self.add("add a rule", msg::NEWRULE, flag::CREATE | flag::APPEND, |m| {
            m.text(attr::RULE_TABLE, table);
            m.text(attr::RULE_CHAIN, chain);
            m.nest(attr::RULE_EXPRESSIONS, |list| list.raw(rule.encoded()));
        });
    }

    pub(super) fn set(&mut self, shape: &SetShape<'_>) {
        const ANONYMOUS: u32 = 0x1;
        const CONSTANT: u32 = 0x2;
        const MAP: u32 = 0x8;
        let table = self.name;
        let lifetime = if shape.anonymous.is_some() { ANONYMOUS | CONSTANT } else { 0 };
        let mapping = if shape.data.is_some() { MAP } else { 0 };
        self.add("create a firewall set", msg::NEWSET, flag::CREATE, |m| {
            m.text(attr::SET_TABLE, table);
            m.text(attr::SET_NAME, shape.name);
            m.be32(attr::SET_FLAGS, lifetime | mapping);
            m.be32(attr::SET_KEY_TYPE, shape.key_type);
            m.be32(attr::SET_KEY_LEN, shape.key_length);
            if let Some((data_type, length)) = shape.data {
                m.be32(attr::SET_DATA_TYPE, data_type);
                m.be32(attr::SET_DATA_LEN, length);
            }
            m.be32(attr::SET_ID, shape.id);
            if let Some(size) = shape.anonymous {
                m.nest(attr::SET_DESC, |desc| desc.be32(attr::SET_DESC_SIZE, size));
                // A note for nft(8): the keys are numbers in this machine's byte order.
                let [a, b, c, d] = 1u32.to_ne_bytes();
                m.bytes(attr::SET_USERDATA, &[0, 4, a, b, c, d]);
            }
        });
    }

    /// `set_id` is needed for anonymous sets, whose name is not known yet.
    pub(super) fn add_elements(&mut self, set: &str, set_id: Option<u32>, elements: &[Element<'_>]) {
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let table = self.name;
            self.add("add to a firewall set", msg::NEWSETELEM, flag::CREATE, |m| {
                element_list(m, table, set, set_id, chunk);
            });
        }
    }

    pub(super) fn delete_elements(&mut self, set: &str, elements: &[Element<'_>]) {
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let table = self.name;
            self.add("delete from a firewall set", msg::DELSETELEM, 0, |m| {
                element_list(m, table, set, None, chunk);
            });
        }
    }

    pub(super) fn flush_set(&mut self, set: &str) {
        let table = self.name;
        self.add("empty a firewall set", msg::DELSETELEM, 0, |m| {
            m.text(attr::ELEM_LIST_TABLE, table);
            m.text(attr::ELEM_LIST_SET, set);
        });
    }
}

fn element_list(
    m: &mut Attributes<'_>,
    table: &str,
    set: &str,
    set_id: Option<u32>,
    elements: &[Element<'_>],
) {
    m.text(attr::ELEM_LIST_TABLE, table);
    m.text(attr::ELEM_LIST_SET, set);
    if let Some(id) = set_id {
        m.be32(attr::ELEM_LIST_SET_ID, id);
    }
    m.nest(attr::ELEM_LIST_ELEMENTS, |list| {
        for element in elements {
            list.nest(attr::LIST_ELEM, |e| {
                e.nest(attr::ELEM_KEY, |key| key.bytes(attr::DATA_VALUE, element.key));
                element_value(e, &element.value);
            });
        }
    });
}

fn element_value(e: &mut Attributes<'_>, value: &Value<'_>) {
    const GOTO: i32 = -4;
    match value {
        Value::None => {}
        Value::Bytes(bytes) => e.nest(attr::ELEM_DATA, |data| data.bytes(attr::DATA_VALUE, bytes)),
        Value::GoTo(chain) => e.nest(attr::ELEM_DATA, |data| {
            data.nest(attr::DATA_VERDICT, |verdict| {
                verdict.bytes(attr::VERDICT_CODE, &GOTO.to_be_bytes());
                verdict.text(attr::VERDICT_CHAIN, chain);
            });
        }),
    }
}
