//! What a network is told when it opens, and the names that follow from it.

use std::{net::Ipv4Addr, path::PathBuf};

use crate::Subnet;

/// How a host's sandboxes are connected. Two networks on one host need different names and subnets.
#[derive(Debug, Clone)]
pub struct Config {
    /// Marks everything that is made: the bridge `<name>0`, the tunnel `<name>-vxlan`, the firewall tables `<name>`, a link
    /// group. At most
    /// eight lower-case letters, digits and dashes, beginning with a letter.
    pub name: String,
    /// The sandboxes' addresses; the bridge has the first one.
    pub subnet: Subnet,
    /// Where the sandboxes' namespaces are pinned, for example `/run/wharf/netns`. Nothing else belongs there.
    pub state_dir: PathBuf,
    /// Bytes per packet on the bridge and in the sandboxes. If not given, what fits into the overlay, or the kernel's 1500.
    pub mtu: Option<u32>,
    /// How sandboxes of other hosts are reached; see [`crate::Network::connect`].
    pub overlay: Option<Overlay>,
    /// How many sandboxes are kept ready, so that making one costs a tenth. About 200 KiB of kernel memory each.
    pub warm: usize,
}

/// How the sandboxes of several hosts are joined into one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Of this host: where the others send to, and what they see.
    pub address: Ipv4Addr,
    /// The same on all hosts of a network, another one for another network that shares hosts with it: 24 bits.
    pub network: u32,
}

impl Overlay {
    /// Where hosts send wrapped packets to. Not that of the standard, which other programs use.
    pub const PORT: u16 = 7_480;
}

/// Another host of the overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: Ipv4Addr,
    /// Of its sandboxes.
    pub subnet: Subnet,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("`{0}` cannot name a network: use 1 to 8 lower-case letters, digits and dashes, a letter first")]
    Name(String),
    #[error("{0} cannot hold sandboxes: choose a prefix length between 8 and 30")]
    Prefix(Subnet),
    #[error("{0} cannot be the number of an overlay: it has 24 bits")]
    Overlay(u32),
}

/// What everything of one network is called.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) bridge: String,
    pub(crate) tunnel: String,
    pub(crate) table: String,
    /// Link group of the host's ends of all cables.
    pub(crate) group: u32,
}

impl Config {
    /// A network with the kernel's packet size and no sandboxes kept ready.
    pub fn new(name: impl Into<String>, subnet: Subnet, state_dir: impl Into<PathBuf>) -> Config {
        Config { name: name.into(), subnet, state_dir: state_dir.into(), mtu: None, overlay: None, warm: 0 }
    }

    pub(crate) fn names(&self) -> Result<Names, ConfigError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let name = &self.name;
        let starts_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if !starts_well || name.len() > 8 || !name.bytes().all(allowed) {
            return Err(ConfigError::Name(name.clone()));
        }
        if !(8..=30).contains(&self.subnet.prefix()) {
            return Err(ConfigError::Prefix(self.subnet));
        }
        if let Some(Overlay { network, .. }) = self.overlay.filter(|overlay| overlay.network >> 24 != 0) {
            return Err(ConfigError::Overlay(network));
        }
        let (bridge, tunnel) = (format!("{name}0"), format!("{name}-vxlan"));
        Ok(Names { bridge, tunnel, table: name.clone(), group: group(name) })
    }
}

/// FNV-1a, with the highest bit set: far from the small numbers that people give to groups by hand.
fn group(name: &str) -> u32 {
    let hash =
        name.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash | 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_subnets() {
        for (name, subnet, expected) in [
            ("wharf", "10.201.0.0/16", Ok("wharf0")),
            ("a-2", "10.201.0.0/30", Ok("a-2" /* the bridge */)),
            ("", "10.201.0.0/16", Err("cannot name a network")),
            ("wharfwharf", "10.201.0.0/16", Err("cannot name a network")),
            ("../x", "10.201.0.0/16", Err("cannot name a network")),
            ("Wharf", "10.201.0.0/16", Err("cannot name a network")),
            ("wharf", "10.201.0.0/31", Err("choose a prefix length")),
            ("wharf", "0.0.0.0/0", Err("choose a prefix length")),
        ] {
            let config = Config::new(name, subnet.parse().unwrap(), "/nowhere");
            match (config.names(), expected) {
                (Ok(names), Ok(expected)) => assert!(names.bridge.starts_with(expected)),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (seen, expected) => panic!("{name} {subnet}: {seen:?} instead of {expected:?}"),
            }
        }
        assert_ne!(group("wharf"), group("wharf2"));
    }
}
