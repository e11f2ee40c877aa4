//! The directory of nodes and endpoints, in sessions and in the file that an agent keeps.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use model::{Directory, DirectoryNews, Endpoint, Listing, NodeId, RangeError, ReplicaRange, Subnet};
use prost::Message as _;

use crate::{
    error::{DecodeError, Problem, Within},
    field,
    v1::{self, directory as wire},
};

impl From<Subnet> for v1::Subnet {
    fn from(subnet: Subnet) -> Self {
        v1::Subnet { network_ipv4: subnet.network().into(), prefix: subnet.prefix().into() }
    }
}

impl TryFrom<v1::Subnet> for Subnet {
    type Error = DecodeError;
    fn try_from(wire: v1::Subnet) -> Result<Self, DecodeError> {
        let prefix = field::ranged(wire.prefix, 0..=32, "prefix")?;
        // Bits after the prefix mean nothing, whoever wrote them.
        Subnet::containing(Ipv4Addr::from(wire.network_ipv4), prefix)
            .ok_or(Problem::Missing)
            .within("network_ipv4")
    }
}

impl From<ReplicaRange> for v1::Subnet {
    fn from(range: ReplicaRange) -> Self {
        range.range().into()
    }
}

impl TryFrom<v1::Subnet> for ReplicaRange {
    type Error = DecodeError;
    fn try_from(wire: v1::Subnet) -> Result<Self, DecodeError> {
        let (value, max) = (u64::from(wire.prefix), u64::from(ReplicaRange::NODE_PREFIX));
        let range = ReplicaRange::new(wire.try_into()?);
        range.map_err(|RangeError { .. }| Problem::OutOfRange { value, min: 8, max }).within("prefix")
    }
}

fn listing((node, listing): (&NodeId, &Arc<Listing>)) -> wire::Listing {
    let endpoint = |endpoint: &Endpoint| wire::Endpoint {
        protocol: v1::Protocol::from(endpoint.protocol).into(),
        published: endpoint.published.into(),
        address_ipv4: (*endpoint.backend.ip()).into(),
        port: endpoint.backend.port().into(),
    };
    let endpoints = listing.endpoints.as_ref();
    wire::Listing {
        node: node.0,
        name: listing.name.to_string(),
        address_ipv4: listing.address.into(),
        subnet: listing.subnet.map(Into::into),
        endpoints: endpoints.map(|all| wire::Endpoints { endpoints: all.iter().map(endpoint).collect() }),
    }
}

impl TryFrom<wire::Endpoint> for Endpoint {
    type Error = DecodeError;
    fn try_from(wire: wire::Endpoint) -> Result<Self, DecodeError> {
        let address = Ipv4Addr::from(wire.address_ipv4);
        Ok(Endpoint {
            protocol: field::value::<v1::Protocol, _>(wire.protocol, "protocol")?,
            published: field::port(wire.published, "published")?,
            backend: SocketAddrV4::new(address, field::port(wire.port, "port")?),
        })
    }
}

impl TryFrom<wire::Listing> for (NodeId, Arc<Listing>) {
    type Error = DecodeError;
    fn try_from(wire: wire::Listing) -> Result<Self, DecodeError> {
        let endpoints = wire.endpoints.map(|all| field::list(all.endpoints, "endpoints")).transpose()?;
        let listing = Listing {
            name: field::parsed(&wire.name, "name")?,
            address: Ipv4Addr::from(wire.address_ipv4),
            subnet: field::optional(wire.subnet, "subnet")?,
            endpoints: endpoints.map(|all: Vec<Endpoint>| all.into_iter().collect()),
        };
        Ok((NodeId(wire.node), Arc::new(listing)))
    }
}

impl From<&DirectoryNews> for v1::Directory {
    fn from(news: &DirectoryNews) -> Self {
        let kind = match news {
            DirectoryNews::Full { version, nodes } => {
                wire::Kind::Full(wire::Full { version: *version, nodes: nodes.iter().map(listing).collect() })
            }
            DirectoryNews::Change { follows, version, changed, removed } => {
                wire::Kind::Change(wire::Change {
                    follows: *follows,
                    version: *version,
                    changed: changed.iter().map(listing).collect(),
                    removed: removed.iter().map(|node| node.0).collect(),
                })
            }
        };
        v1::Directory { kind: Some(kind) }
    }
}

impl TryFrom<v1::Directory> for DirectoryNews {
    type Error = DecodeError;
    fn try_from(wire: v1::Directory) -> Result<Self, DecodeError> {
        let nodes = |all, field| -> Result<BTreeMap<NodeId, Arc<Listing>>, DecodeError> {
            Ok(field::list::<_, (NodeId, Arc<Listing>)>(all, field)?.into_iter().collect())
        };
        Ok(match field::kind(wire.kind, "kind")? {
            wire::Kind::Full(full) => {
                DirectoryNews::Full { version: full.version, nodes: nodes(full.nodes, "full.nodes")? }
            }
            wire::Kind::Change(change) => DirectoryNews::Change {
                follows: change.follows,
                version: change.version,
                changed: nodes(change.changed, "change.changed")?,
                removed: change.removed.into_iter().map(NodeId).collect(),
            },
        })
    }
}

/// What an agent writes down to know it without a leader.
pub fn encode_directory(directory: &Directory) -> Vec<u8> {
    let full = wire::Full { version: 0, nodes: directory.nodes().iter().map(listing).collect() };
    v1::Directory { kind: Some(wire::Kind::Full(full)) }.encode_to_vec()
}

pub fn decode_directory(bytes: &[u8]) -> Result<Directory, DecodeError> {
    match DirectoryNews::try_from(v1::Directory::decode(bytes)?)? {
        DirectoryNews::Full { nodes, .. } => Ok(Directory::remembered(nodes)),
        DirectoryNews::Change { .. } => Err(Problem::UnknownKind).within("kind"),
    }
}
