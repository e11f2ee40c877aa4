//! How a cluster's addresses are divided among its nodes.

use std::net::Ipv4Addr;

use crate::Subnet;

/// The addresses of all replicas of a cluster, and how long the prefix of each node's share is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaRange {
    range: Subnet,
    node_prefix: u8,
}

/// Why a range cannot be divided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{range} cannot be divided into subnets of nodes: its prefix length must be from 8 to {}",
    ReplicaRange::NODE_PREFIX
)]
pub struct RangeError {
    range: Subnet,
}

impl ReplicaRange {
    /// 509 replicas on a node. Smaller ranges are of fewer nodes.
    pub const NODE_PREFIX: u8 = 23;

    pub fn new(range: Subnet) -> Result<ReplicaRange, RangeError> {
        match range.prefix() {
            8..=Self::NODE_PREFIX => Ok(ReplicaRange { range, node_prefix: Self::NODE_PREFIX }),
            _ => Err(RangeError { range }),
        }
    }

    pub fn range(self) -> Subnet {
        self.range
    }

    /// All shares, in the order of their addresses.
    pub fn shares(self) -> impl Iterator<Item = Subnet> {
        let count = 1u32 << (self.node_prefix - self.range.prefix());
        let (first, size) = (self.range.network().to_bits(), 1u32 << (32 - self.node_prefix));
        (0..count).filter_map(move |index| {
            Subnet::containing(Ipv4Addr::from_bits(first + index * size), self.node_prefix)
        })
    }
}

impl Default for ReplicaRange {
    /// 10.64.0.0/10: 8,192 nodes.
    fn default() -> ReplicaRange {
        ReplicaRange { range: Subnet::PRIVATE_QUARTER, node_prefix: Self::NODE_PREFIX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_in_the_range_and_do_not_overlap() {
        let range = ReplicaRange::new("10.9.0.0/20".parse().unwrap()).unwrap();
        let shares: Vec<Subnet> = range.shares().collect();
        let texts: Vec<String> = shares.iter().map(ToString::to_string).collect();
        assert_eq!(texts[..2], ["10.9.0.0/23", "10.9.2.0/23"]);
        assert_eq!((shares.len(), texts[7].as_str()), (8, "10.9.14.0/23"));
        for (index, one) in shares.iter().enumerate() {
            assert!(
                range.range().overlaps(*one) && shares[..index].iter().all(|other| !other.overlaps(*one))
            );
        }
        assert_eq!(ReplicaRange::default().shares().count(), 8_192);
        assert!(ReplicaRange::new("10.0.0.0/24".parse().unwrap()).is_err());
    }
}
