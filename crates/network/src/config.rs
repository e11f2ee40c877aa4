//! What a network is told when it opens, and the names that follow from it.

use std::path::PathBuf;

use crate::Subnet;

/// How a host's sandboxes are connected. Two networks on one host need different names and subnets.
#[derive(Debug, Clone)]
pub struct Config {
    /// Marks everything that is made: the bridge `<name>0`, the firewall tables `<name>`, a link group. At most
    /// eight lower-case letters, digits and dashes, beginning with a letter.
    pub name: String,
    /// The sandboxes' addresses; the bridge has the first one.
    pub subnet: Subnet,
    /// Where the sandboxes' namespaces are pinned, for example `/run/wharf/netns`. Nothing else belongs there.
    pub state_dir: PathBuf,
    /// Bytes per packet on the bridge and in the sandboxes; the kernel's 1500 if not given.
    pub mtu: Option<u32>,
    /// How many sandboxes are kept ready, so that making one costs a tenth. About 200 KiB of kernel memory each.
    pub warm: usize,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("`{0}` cannot name a network: use 1 to 8 lower-case letters, digits and dashes, a letter first")]
    Name(String),
    #[error("{0} cannot hold sandboxes: choose a prefix length between 8 and 30")]
    Prefix(Subnet),
}

/// What everything of one network is called.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) bridge: String,
    pub(crate) table: String,
    /// Link group of the host's ends of all cables.
    pub(crate) group: u32,
}

impl Config {
    /// A network with the kernel's packet size and no sandboxes kept ready.
    pub fn new(name: impl Into<String>, subnet: Subnet, state_dir: impl Into<PathBuf>) -> Config {
        Config { name: name.into(), subnet, state_dir: state_dir.into(), mtu: None, warm: 0 }
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
        Ok(Names { bridge: format!("{name}0"), table: name.clone(), group: group(name) })
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
