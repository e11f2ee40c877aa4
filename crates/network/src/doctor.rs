//! Whether this host can carry the network, found out by doing it.
//!
//! Each check makes the real thing with the code that makes it later, in a network namespace that is thrown away.

use crate::{
    Config, Overlay, Protocol, Subnet,
    config::Names,
    conntrack,
    firewall::{
        self, Firewall, Ground,
        services::{Service, Services},
        tunnel::Gate,
    },
    namespace::{Namespace, in_new_namespace},
    netlink::{
        self, Socket,
        link::{self, Cable},
        message::Batch,
        tunnel::{self, Tunnel},
    },
};
use std::{collections::BTreeMap, net::Ipv4Addr, os::fd::AsFd};

/// One thing the network needs, and whether this host has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub status: Status,
    /// What was seen.
    pub detail: String,
    /// What does not work as long as it is so; empty if all is well.
    pub cost: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok,
    Warning,
    Missing,
}

impl Check {
    fn of(name: &'static str, cost: &'static str, outcome: Result<String, String>) -> Check {
        match outcome {
            Ok(detail) => Check { name, status: Status::Ok, detail, cost: "" },
            Err(detail) => Check { name, status: Status::Missing, detail, cost },
        }
    }

    /// The same, for what can be done without.
    fn optional(self) -> Check {
        let status = if self.status == Status::Missing { Status::Warning } else { self.status };
        Check { status, ..self }
    }
}

const NO_SANDBOXES: &str = "no replica can have a network";
const NO_PORTS: &str = "no port can be published, and replicas cannot reach the outside";

const NO_OVERLAY: &str = "replicas of other hosts are not reached, by address or through published ports";

/// Tries everything in a network namespace that is thrown away; the host itself is only looked at.
pub fn doctor() -> Vec<Check> {
    let mut checks = match in_new_namespace("wharf-doctor", throw_away) {
        Ok(checks) => checks,
        Err(error) => vec![Check::of("netns", NO_SANDBOXES, Err(chain(&error)))],
    };
    checks.push(ip_forward());
    checks.extend(foreign_firewalls());
    checks
}

fn throw_away() -> Vec<Check> {
    let mut checks = vec![Check::of("netns", NO_SANDBOXES, Ok("made and entered".to_string()))];
    let config = Config::new("doctor", EXAMPLE, "/nonexistent");
    let names = match config.names() {
        Ok(names) => names,
        Err(error) => return vec![Check::of("bridge", NO_SANDBOXES, Err(chain(&error)))],
    };
    checks.push(Check::of("bridge", NO_SANDBOXES, bridge(&names).map_err(|error| chain(&error))));
    checks.push(Check::of("veth", NO_SANDBOXES, veth(&names)));
    checks.push(Check::of("vxlan", NO_OVERLAY, vxlan(&names).map_err(|error| chain(&error))).optional());
    checks.extend(tables(&names));
    checks
}

/// Only ever used inside the namespace that is thrown away: the addresses of RFC 5737 for documentation.
const EXAMPLE: Subnet = Subnet::DOCUMENTATION;

fn bridge(names: &Names) -> Result<String, netlink::Error> {
    let mut socket = Socket::open(netlink::Protocol::Route)?;
    let mut batch = Batch::new();
    link::add_bridge(&mut batch, &names.bridge, link::ethernet_address(EXAMPLE.gateway()), None);
    socket.execute(&mut batch)?;
    Ok("made".to_string())
}

fn veth(names: &Names) -> Result<String, String> {
    let other = Namespace::create().map_err(|error| chain(&error))?;
    let mut socket = Socket::open(netlink::Protocol::Route).map_err(|error| chain(&error))?;
    let links = link::list(&mut socket).map_err(|error| chain(&error))?;
    let bridge =
        links.iter().find(|link| link.name == names.bridge).ok_or("there is no bridge to connect to")?;
    let mut batch = Batch::new();
    link::add_cable(
        &mut batch,
        &Cable {
            port: "doctor1",
            bridge: bridge.index,
            group: names.group,
            mtu: None,
            sandbox: other.as_fd(),
        },
    );
    socket.execute(&mut batch).map_err(|error| chain(&error))?;
    Ok("laid from the bridge into another namespace".to_string())
}

fn vxlan(names: &Names) -> Result<String, netlink::Error> {
    let mut socket = Socket::open(netlink::Protocol::Route)?;
    let mut batch = Batch::new();
    let example = Tunnel { number: 1, local: EXAMPLE.gateway(), port: Overlay::PORT };
    tunnel::add(&mut batch, &names.tunnel, example, None);
    socket.execute(&mut batch)?;
    Ok("a tunnel to other hosts is made".to_string())
}

/// The standing rules, then a published port: together they use every expression that is ever used.
fn tables(names: &Names) -> Vec<Check> {
    let overlay = Overlay { address: EXAMPLE.gateway(), network: 1 };
    let gate = Some(Gate { overlay, peers: Some(vec![EXAMPLE.gateway()]) });
    let ground = Ground { subnet: EXAMPLE, former: Vec::new(), gate };
    let mut firewall = match Firewall::open(names, ground, BTreeMap::new()) {
        Ok(firewall) => firewall,
        Err(error) => return vec![Check::of("nf_tables", NO_PORTS, Err(chain(&error)))],
    };
    let mut services = Services::new();
    let backend: (Ipv4Addr, u16) = (EXAMPLE.first_and_last_usable().0, 80);
    services.insert(Service { protocol: Protocol::Tcp, port: 80 }, vec![backend]);
    let published = firewall.publish(services);
    let spoofing = if firewall.guards() { Ok("on the bridge") } else { Err("nf_tables knows no bridges") };
    vec![
        Check::of("nf_tables", NO_PORTS, Ok("tables, chains, sets and rules are accepted".to_string())),
        Check::of(
            "nat",
            NO_PORTS,
            published.map(|_| "translation in turn is accepted".to_string()).map_err(|error| chain(&error)),
        ),
        Check::of(
            "spoofing guard",
            "a replica that is granted raw sockets can speak with another's address",
            spoofing.map(str::to_string).map_err(str::to_string),
        )
        .optional(),
        Check::of("conntrack", "clients may go on sending to removed replicas", lists_flows()).optional(),
    ]
}

fn lists_flows() -> Result<String, String> {
    let mut socket = Socket::open(netlink::Protocol::Netfilter).map_err(|error| chain(&error))?;
    let all_udp = [conntrack::Scope::All(crate::Protocol::Udp)].into();
    conntrack::settle(&mut socket, &all_udp, &Services::new(), &[EXAMPLE].into(), &[])
        .map(|_| "flows can be listed".to_string())
        .map_err(|error| chain(&error))
}

fn ip_forward() -> Check {
    const PATH: &str = "/proc/sys/net/ipv4/ip_forward";
    let outcome = match std::fs::read_to_string(PATH).map(|value| value.trim() == "1") {
        Ok(true) => Ok("on".to_string()),
        Ok(false) if rustix::fs::access(PATH, rustix::fs::Access::WRITE_OK).is_ok() => {
            Ok("off; switched on when the network opens".to_string())
        }
        Ok(false) => Err(format!("off, and {PATH} cannot be written")),
        Err(error) => Err(format!("{PATH} cannot be read: {error}")),
    };
    Check::of("ip_forward", NO_PORTS, outcome)
}

/// Other programs' tables veto what ours accept, so this is looked at on the host itself.
fn foreign_firewalls() -> Option<Check> {
    let dropping = Socket::open(netlink::Protocol::Netfilter)
        .and_then(|mut socket| firewall::dropping_forward_chains(&mut socket));
    // A host without nf_tables is told so by the checks above.
    let mut dropping = dropping.ok()?;
    if legacy_filter_in_use() {
        dropping.push("iptables-legacy filter (see `iptables-legacy -S FORWARD`)".to_string());
    }
    let check = if dropping.is_empty() {
        Check::of("forward policy", "", Ok("nobody drops forwarded packets by policy".to_string()))
    } else {
        let cost = "published ports and outbound connections may be dropped; accept them there, for example with \
                    `iptables -I DOCKER-USER -i wharf0 -j ACCEPT` and `iptables -I DOCKER-USER -o wharf0 -j ACCEPT`";
        Check::of("forward policy", cost, Err(format!("dropped by policy: {}", dropping.join(", "))))
            .optional()
    };
    Some(check)
}

/// Chains of the older iptables are not visible in nf_tables; that its filter table was ever used is.
fn legacy_filter_in_use() -> bool {
    std::fs::read_to_string("/proc/net/ip_tables_names")
        .is_ok_and(|names| names.lines().any(|name| name == "filter"))
}

/// An error with all its reasons, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let reasons =
        std::iter::successors(Some(error), |error: &&(dyn std::error::Error + 'static)| (*error).source());
    reasons.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
