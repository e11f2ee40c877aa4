//! A range of IPv4 addresses: what hosts give to sandboxes, and a cluster to hosts.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// A network and its prefix length, `10.201.0.0/16`. Invariant: the bits after the prefix are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

/// Why a text or a pair is not a subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    #[error(
        "`{0}` is not a subnet: write an address, a slash and a prefix length, for example 10.201.0.0/16"
    )]
    Malformed(String),
    #[error("`{address}/{prefix}` has bits set after its prefix: the subnet it lies in is {meant}")]
    HostBits { address: Ipv4Addr, prefix: u8, meant: Subnet },
}

impl Subnet {
    /// What a host keeps to itself: 127.0.0.0/8.
    pub const LOOPBACK: Subnet = Subnet { network: Ipv4Addr::new(127, 0, 0, 0), prefix: 8 };

    /// A quarter of the private addresses of RFC 1918 that begin with 10: 10.64.0.0/10.
    pub const PRIVATE_QUARTER: Subnet = Subnet { network: Ipv4Addr::new(10, 64, 0, 0), prefix: 10 };

    /// TEST-NET-1 of RFC 5737, which no host uses: 192.0.2.0/24.
    pub const DOCUMENTATION: Subnet = Subnet { network: Ipv4Addr::new(192, 0, 2, 0), prefix: 24 };

    pub fn new(network: Ipv4Addr, prefix: u8) -> Result<Subnet, SubnetError> {
        let meant = Subnet::containing(network, prefix)
            .ok_or_else(|| SubnetError::Malformed(format!("{network}/{prefix}")))?;
        if meant.network == network {
            Ok(meant)
        } else {
            Err(SubnetError::HostBits { address: network, prefix, meant })
        }
    }

    /// The subnet of that prefix length in which `address` lies; none for a prefix over 32.
    pub fn containing(address: Ipv4Addr, prefix: u8) -> Option<Subnet> {
        let network = Ipv4Addr::from_bits(address.to_bits() & mask(prefix)?);
        Some(Subnet { network, prefix })
    }

    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | !self.mask().to_bits())
    }

    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask(self.prefix).unwrap_or(u32::MAX))
    }

    /// The bridge's own address: the first that a host may have.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | 1)
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        Subnet::containing(address, self.prefix) == Some(self)
    }

    pub fn overlaps(self, other: Subnet) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// Addresses that sandboxes may have: all but the network's, the gateway's and the broadcast address.
    pub fn first_and_last_usable(self) -> (Ipv4Addr, Ipv4Addr) {
        let first = Ipv4Addr::from_bits(self.network.to_bits().saturating_add(2));
        let last = Ipv4Addr::from_bits(self.broadcast().to_bits().saturating_sub(1));
        (first, last)
    }

    pub fn is_usable(self, address: Ipv4Addr) -> bool {
        let (first, last) = self.first_and_last_usable();
        (first..=last).contains(&address)
    }
}

fn mask(prefix: u8) -> Option<u32> {
    match prefix {
        0 => Some(0),
        1..=32 => Some(u32::MAX << (32 - prefix)),
        _ => None,
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.network, self.prefix)
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Subnet, SubnetError> {
        let malformed = || SubnetError::Malformed(text.to_string());
        let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
        let address = address.parse().map_err(|_| malformed())?;
        let prefix = prefix.parse().map_err(|_| malformed())?;
        Subnet::new(address, prefix).map_err(|error| match error {
            SubnetError::Malformed(_) => malformed(),
            host_bits @ SubnetError::HostBits { .. } => host_bits,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_their_subnets() {
        for (text, expected) in [
            ("10.201.0.0/16", Ok("10.201.0.0/16 gateway 10.201.0.1 from 10.201.0.2 to 10.201.255.254")),
            ("192.168.7.8/30", Ok("192.168.7.8/30 gateway 192.168.7.9 from 192.168.7.10 to 192.168.7.10")),
            ("10.201.3.0/16", Err("the subnet it lies in is 10.201.0.0/16")),
            ("10.201.0.0", Err("is not a subnet")),
            ("10.201.0.0/33", Err("`10.201.0.0/33` is not a subnet")),
            ("10.201.0/16", Err("is not a subnet")),
        ] {
            let seen = text.parse::<Subnet>().map(|subnet| {
                let (first, last) = subnet.first_and_last_usable();
                format!("{subnet} gateway {} from {first} to {last}", subnet.gateway())
            });
            match (seen, expected) {
                (Ok(seen), Ok(expected)) => assert_eq!(seen, expected),
                (Err(seen), Err(expected)) => assert!(seen.to_string().contains(expected), "{seen}"),
                (seen, expected) => panic!("{text}: {seen:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn overlapping() {
        for (one, other, expected) in [
            ("10.201.0.0/16", "10.201.3.0/24", true),
            ("10.201.0.0/16", "10.0.0.0/8", true),
            ("10.201.0.0/16", "10.202.0.0/16", false),
            ("10.201.0.0/16", "0.0.0.0/0", true),
        ] {
            let (one, other): (Subnet, Subnet) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(one.overlaps(other), expected, "{one} {other}");
            assert_eq!(other.overlaps(one), expected, "{other} {one}");
        }
    }
}
