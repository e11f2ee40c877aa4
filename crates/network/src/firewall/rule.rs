//! One firewall rule, written as a chain of calls that reads like a line of nft(8).
//!
//! Every matcher loads what it looks at into register 1, compares, and lets the packet go on to the next
//! expression; a rule ends with a verdict. Byte order: packet contents and marks of nft are compared as the
//! bytes they are, numbers of the kernel (groups, states) in the machine's order.

use std::net::Ipv4Addr;

use super::uapi::{attr, reg};
use crate::{Protocol, Subnet, netlink::message::Attributes};

/// Whether a matcher wants equality or its opposite.
#[derive(Clone, Copy)]
pub(super) enum Want {
    Is,
    IsNot,
}

/// `ct state` bits, linux/netfilter/nf_tables.h and nf_conntrack_common.h.
pub(super) mod state {
    pub(crate) const ESTABLISHED: u32 = 1 << 1;
    pub(crate) const RELATED: u32 = 1 << 2;
    pub(crate) const NEW: u32 = 1 << 3;
}
/// `IPS_DST_NAT`: the connection's destination was translated.
const STATUS_DST_NAT: u32 = 1 << 5;
const IFNAME_SIZE: usize = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const LINK_HEADER: u32 = 0;

/// The expressions of one rule.
#[derive(Clone, Default)]
pub(super) struct Rule {
    expressions: Vec<u8>,
}

impl Rule {
    pub(super) fn new() -> Rule {
        Rule::default()
    }

    pub(super) fn encoded(&self) -> &[u8] {
        &self.expressions
    }

    /// `iifname "name"`
    pub(super) fn in_link(self, want: Want, name: &str) -> Rule {
        self.meta(6, reg::REG_1).compare(want, &interface_name(name))
    }

    /// `oifname "name"`
    pub(super) fn out_link(self, want: Want, name: &str) -> Rule {
        self.meta(7, reg::REG_1).compare(want, &interface_name(name))
    }

    /// `iifgroup number`
    pub(super) fn in_link_group(self, want: Want, group: u32) -> Rule {
        self.meta(21, reg::REG_1).compare(want, &group.to_ne_bytes())
    }

    /// `ip saddr subnet`
    pub(super) fn source(self, want: Want, subnet: Subnet) -> Rule {
        self.address_at(12, want, subnet)
    }

    /// `ip saddr != @set`
    pub(super) fn source_not_in(self, set: &str) -> Rule {
        const INVERTED: u32 = 1;
        self.payload(NETWORK_HEADER, 12, 4, reg::REG_1).expression("lookup", |lookup| {
            lookup.text(attr::LOOKUP_SET, set);
            lookup.be32(attr::LOOKUP_SREG, reg::REG_1);
            lookup.be32(attr::LOOKUP_FLAGS, INVERTED);
        })
    }

    /// `fib saddr . iif oif missing`: an answer would leave through another link.
    pub(super) fn source_is_not_routed_back(self) -> Rule {
        const SOURCE_AND_LINK: u32 = 1 << 0 | 1 << 3;
        self.expression("fib", |fib| {
            fib.be32(attr::FIB_DREG, reg::REG_1);
            fib.be32(attr::FIB_RESULT, 1); // the index of the link
            fib.be32(attr::FIB_FLAGS, SOURCE_AND_LINK);
        })
        .compare(Want::Is, &[0; 4])
    }

    /// `udp dport port @th,96,24 network`: a packet of VXLAN. Source of its header: RFC 7348, section 5.
    pub(super) fn tunnelled(self, port: u16, network: u32) -> Rule {
        const UDP: u8 = 17;
        self.meta(16, reg::REG_1)
            .compare(Want::Is, &[UDP])
            .payload(TRANSPORT_HEADER, 2, 2, reg::REG_1)
            .compare(Want::Is, &port.to_be_bytes())
            .payload(TRANSPORT_HEADER, 12, 3, reg::REG_1)
            .compare(Want::Is, &network.to_be_bytes()[1..])
    }

    /// `ip daddr subnet`
    pub(super) fn destination(self, want: Want, subnet: Subnet) -> Rule {
        self.address_at(16, want, subnet)
    }

    /// `fib daddr type local`: the destination is an address of this host.
    pub(super) fn destination_is_local(self) -> Rule {
        const LOCAL: u32 = 2; // RTN_LOCAL
        self.expression("fib", |fib| {
            fib.be32(attr::FIB_DREG, reg::REG_1);
            fib.be32(attr::FIB_RESULT, 3); // the type of the address
            fib.be32(attr::FIB_FLAGS, 2); // of the destination
        })
        .compare(Want::Is, &LOCAL.to_ne_bytes())
    }

    /// `meta l4proto protocol`
    pub(super) fn protocol(self, protocol: Protocol) -> Rule {
        self.meta(16, reg::REG_1).compare(Want::Is, &[protocol.number()])
    }

    /// `icmp type redirect`
    pub(super) fn icmp_redirect(self) -> Rule {
        const ICMP: u8 = 1;
        const REDIRECT: u8 = 5;
        self.meta(16, reg::REG_1)
            .compare(Want::Is, &[ICMP])
            .payload(TRANSPORT_HEADER, 0, 1, reg::REG_1)
            .compare(Want::Is, &[REDIRECT])
    }

    /// `ether type number`
    pub(super) fn ether_type(self, number: u16) -> Rule {
        self.payload(LINK_HEADER, 12, 2, reg::REG_1).compare(Want::Is, &number.to_be_bytes())
    }

    /// `ct state any of these`
    pub(super) fn connection_state(self, states: u32) -> Rule {
        const STATE: u32 = 0;
        self.connection_bits(STATE, states).compare(Want::IsNot, &[0; 4])
    }

    /// `ct status dnat`, or not.
    pub(super) fn destination_translated(self, want: Want) -> Rule {
        const STATUS: u32 = 2;
        let opposite = match want {
            Want::Is => Want::IsNot,
            Want::IsNot => Want::Is,
        };
        self.connection_bits(STATUS, STATUS_DST_NAT).compare(opposite, &[0; 4])
    }

    /// `meta l4proto . th dport @set`
    pub(super) fn service_in(self, set: &str) -> Rule {
        self.load_service().lookup(set, None, None)
    }

    /// `meta l4proto . th dport vmap @map`
    pub(super) fn dispatch_service(self, map: &str) -> Rule {
        self.load_service().lookup(map, None, Some(reg::VERDICT))
    }

    /// `iifname . (four bytes of the network header) @set`
    pub(super) fn link_and_address_in(self, address_offset: u32, set: &str) -> Rule {
        self.meta(6, reg::REG_1)
            .payload(NETWORK_HEADER, address_offset, 4, reg::REG_2)
            .lookup(set, None, None)
    }

    /// `dnat ip to numgen inc mod count map @turns`: strict turns through an anonymous map of this batch.
    pub(super) fn translate_in_turn(self, count: u32, map: &str, map_id: u32) -> Rule {
        const INCREMENTAL: u32 = 0;
        const TO_DESTINATION: u32 = 1;
        const IPV4: u32 = 2;
        self.expression("numgen", |turn| {
            turn.be32(attr::NG_DREG, reg::REG_1);
            turn.be32(attr::NG_MODULUS, count);
            turn.be32(attr::NG_TYPE, INCREMENTAL);
        })
        .lookup(map, Some(map_id), Some(reg::REG_1))
        .expression("nat", |nat| {
            nat.be32(attr::NAT_TYPE, TO_DESTINATION);
            nat.be32(attr::NAT_FAMILY, IPV4);
            nat.be32(attr::NAT_REG_ADDR_MIN, reg::REG_1);
            nat.be32(attr::NAT_REG_PROTO_MIN, reg::REG32_01);
        })
    }

    /// `masquerade fully-random`: two connections racing for one source port would lose a packet otherwise.
    pub(super) fn masquerade(self) -> Rule {
        const FULLY_RANDOM: u32 = 1 << 4;
        self.expression("masq", |masquerade| masquerade.be32(attr::MASQ_FLAGS, FULLY_RANDOM))
    }

    /// `snat ip to address fully-random`, for the reason that [`Rule::masquerade`] has.
    pub(super) fn translate_source(self, address: Ipv4Addr) -> Rule {
        const TO_SOURCE: u32 = 0;
        const IPV4: u32 = 2;
        const FULLY_RANDOM: u32 = 1 << 4;
        self.expression("immediate", |immediate| {
            immediate.be32(attr::IMMEDIATE_DREG, reg::REG_1);
            immediate.nest(attr::IMMEDIATE_DATA, |data| data.bytes(attr::DATA_VALUE, &address.octets()));
        })
        .expression("nat", |nat| {
            nat.be32(attr::NAT_TYPE, TO_SOURCE);
            nat.be32(attr::NAT_FAMILY, IPV4);
            nat.be32(attr::NAT_REG_ADDR_MIN, reg::REG_1);
            nat.be32(attr::NAT_FLAGS, FULLY_RANDOM);
        })
    }

    /// `reject with tcp reset`
    pub(super) fn reject_with_reset(self) -> Rule {
        self.reject(1, 0)
    }

    /// `reject with icmp port-unreachable`
    pub(super) fn reject_as_unreachable(self) -> Rule {
        self.reject(0, 3)
    }

    pub(super) fn drop(self) -> Rule {
        self.verdict(0)
    }

    pub(super) fn accept(self) -> Rule {
        self.verdict(1)
    }

    fn address_at(self, offset: u32, want: Want, subnet: Subnet) -> Rule {
        self.payload(NETWORK_HEADER, offset, 4, reg::REG_1)
            .bitwise(&subnet.mask().octets())
            .compare(want, &subnet.network().octets())
    }

    fn load_service(self) -> Rule {
        self.meta(16, reg::REG_1).payload(TRANSPORT_HEADER, 2, 2, reg::REG32_01)
    }

    fn connection_bits(self, key: u32, bits: u32) -> Rule {
        self.expression("ct", |ct| {
            ct.be32(attr::CT_KEY, key);
            ct.be32(attr::CT_DREG, reg::REG_1);
        })
        .bitwise(&bits.to_ne_bytes())
    }

    fn meta(self, key: u32, register: u32) -> Rule {
        self.expression("meta", |meta| {
            meta.be32(attr::META_KEY, key);
            meta.be32(attr::META_DREG, register);
        })
    }

    fn payload(self, base: u32, offset: u32, length: u32, register: u32) -> Rule {
        self.expression("payload", |payload| {
            payload.be32(attr::PAYLOAD_DREG, register);
            payload.be32(attr::PAYLOAD_BASE, base);
            payload.be32(attr::PAYLOAD_OFFSET, offset);
            payload.be32(attr::PAYLOAD_LEN, length);
        })
    }

    fn bitwise(self, mask: &[u8; 4]) -> Rule {
        self.expression("bitwise", |bitwise| {
            bitwise.be32(attr::BITWISE_SREG, reg::REG_1);
            bitwise.be32(attr::BITWISE_DREG, reg::REG_1);
            bitwise.be32(attr::BITWISE_LEN, 4);
            bitwise.nest(attr::BITWISE_MASK, |data| data.bytes(attr::DATA_VALUE, mask));
            bitwise.nest(attr::BITWISE_XOR, |data| data.bytes(attr::DATA_VALUE, &[0; 4]));
        })
    }

    fn compare(self, want: Want, value: &[u8]) -> Rule {
        let operation = match want {
            Want::Is => 0,
            Want::IsNot => 1,
        };
        self.expression("cmp", |compare| {
            compare.be32(attr::CMP_SREG, reg::REG_1);
            compare.be32(attr::CMP_OP, operation);
            compare.nest(attr::CMP_DATA, |data| data.bytes(attr::DATA_VALUE, value));
        })
    }

    fn lookup(self, set: &str, id: Option<u32>, destination: Option<u32>) -> Rule {
        self.expression("lookup", |lookup| {
            lookup.text(attr::LOOKUP_SET, set);
            lookup.be32(attr::LOOKUP_SREG, reg::REG_1);
            if let Some(register) = destination {
                lookup.be32(attr::LOOKUP_DREG, register);
            }
            if let Some(id) = id {
                lookup.be32(attr::LOOKUP_SET_ID, id);
            }
        })
    }

    fn reject(self, kind: u32, code: u8) -> Rule {
        self.expression("reject", |reject| {
            reject.be32(attr::REJECT_TYPE, kind);
            reject.u8(attr::REJECT_ICMP_CODE, code);
        })
    }

    fn verdict(self, code: u32) -> Rule {
        self.expression("immediate", |immediate| {
            immediate.be32(attr::IMMEDIATE_DREG, reg::VERDICT);
            immediate.nest(attr::IMMEDIATE_DATA, |data| {
                data.nest(attr::DATA_VERDICT, |verdict| verdict.be32(attr::VERDICT_CODE, code));
            });
        })
    }

    fn expression(mut self, name: &str, data: impl FnOnce(&mut Attributes<'_>)) -> Rule {
        let encoded = Attributes::collect(|list| {
            list.nest(attr::LIST_ELEM, |element| {
                element.text(attr::EXPR_NAME, name);
                element.nest(attr::EXPR_DATA, data);
            });
        });
        self.expressions.extend_from_slice(&encoded);
        self
    }
}

pub(super) fn interface_name(name: &str) -> [u8; IFNAME_SIZE] {
    let mut bytes = [0; IFNAME_SIZE];
    let length = name.len().min(IFNAME_SIZE - 1);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

/// How a service is written in sets and maps: protocol and port, each padded to four bytes.
pub(super) fn service_key(protocol: Protocol, port: u16) -> [u8; 8] {
    let [high, low] = port.to_be_bytes();
    [protocol.number(), 0, 0, 0, high, low, 0, 0]
}

/// How a backend is written in a map of turns.
pub(super) fn backend_value(address: Ipv4Addr, port: u16) -> [u8; 8] {
    let [a, b, c, d] = address.octets();
    let [high, low] = port.to_be_bytes();
    [a, b, c, d, high, low, 0, 0]
}
