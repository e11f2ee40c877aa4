//! Where everything is: each node, the addresses that its replicas have, and which published ports lead to them.
//!
//! The leader keeps it and tells every node, so that replicas reach each other across hosts and a published port answers
//! everywhere. It is not in the log: what is decided in it (subnets) is, and what is seen (who is ready) is said again by
//! agents. So a new leader does not know it whole at first, and says so: of a node that it has not heard yet, nodes go on
//! believing what they believed. Agents keep it on disk, and go by it without any leader.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use crate::{Name, NodeId, Protocol, Subnet};

/// One node in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub name: Name,
    /// Where other nodes reach it.
    pub address: Ipv4Addr,
    /// Of its replicas; none while it has none to itself.
    pub subnet: Option<Subnet>,
    /// What published ports lead to there; none while the leader does not know, and what was known stays true.
    pub endpoints: Option<BTreeSet<Endpoint>>,
}

/// A ready replica behind a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub protocol: Protocol,
    /// The port of every node.
    pub published: u16,
    pub backend: SocketAddrV4,
}

/// One message of a session about it. The first of a session is `Full`; each `Change` names the version that it follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryNews {
    Full { version: u64, nodes: BTreeMap<NodeId, Arc<Listing>> },
    Change { follows: u64, version: u64, changed: BTreeMap<NodeId, Arc<Listing>>, removed: BTreeSet<NodeId> },
}

impl DirectoryNews {
    /// For the node itself, which knows better what it has.
    pub fn without(&mut self, node: NodeId) -> Option<Arc<Listing>> {
        match self {
            DirectoryNews::Full { nodes, .. } => nodes.remove(&node),
            DirectoryNews::Change { changed, .. } => changed.remove(&node),
        }
    }
}

/// As a node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Of the leader that told it last; none while changes cannot be followed.
    version: Option<u64>,
    nodes: BTreeMap<NodeId, Arc<Listing>>,
}

impl Directory {
    /// As it was written down, before any leader was heard.
    pub fn remembered(nodes: BTreeMap<NodeId, Arc<Listing>>) -> Directory {
        Directory { version: None, nodes }
    }

    pub fn nodes(&self) -> &BTreeMap<NodeId, Arc<Listing>> {
        &self.nodes
    }

    pub fn version(&self) -> Option<u64> {
        self.version
    }

    /// Whether it could be followed. What cannot be says nothing, and nothing can be followed until the next full set.
    pub fn take(&mut self, news: DirectoryNews) -> bool {
        match news {
            DirectoryNews::Full { version, nodes } => {
                let before = std::mem::take(&mut self.nodes);
                self.version = Some(version);
                self.nodes =
                    nodes.into_iter().map(|(id, new)| (id, completed(new, before.get(&id)))).collect();
            }
            DirectoryNews::Change { follows, version, changed, removed } if self.version == Some(follows) => {
                self.version = Some(version);
                for (id, new) in changed {
                    let new = completed(new, self.nodes.get(&id));
                    self.nodes.insert(id, new);
                }
                self.nodes.retain(|id, _| !removed.contains(id));
            }
            DirectoryNews::Change { .. } => {
                self.version = None;
                return false;
            }
        }
        true
    }
}

/// With the endpoints of before where the new listing knows none. Those of another subnet are nobody's.
fn completed(new: Arc<Listing>, before: Option<&Arc<Listing>>) -> Arc<Listing> {
    if new.endpoints.is_some() {
        return new;
    }
    let known = before.filter(|before| before.subnet == new.subnet);
    let endpoints = known.and_then(|before| before.endpoints.clone());
    Arc::new(Listing { endpoints, ..Listing::clone(&new) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(address: u8, ports: Option<&[u16]>) -> Arc<Listing> {
        let endpoint = |published: &u16| Endpoint {
            protocol: Protocol::Tcp,
            published: *published,
            backend: SocketAddrV4::new([10, 64, address, 2].into(), 80),
        };
        Arc::new(Listing {
            name: Name::new(&format!("n{address}")).unwrap(),
            address: [192, 0, 2, address].into(),
            subnet: Some(Subnet::new([10, 64, address, 0].into(), 24).unwrap()),
            endpoints: ports.map(|ports| ports.iter().map(endpoint).collect()),
        })
    }

    fn nodes(all: &[(u64, Option<&[u16]>)]) -> BTreeMap<NodeId, Arc<Listing>> {
        all.iter().map(|(id, ports)| (NodeId(*id), listing(*id as u8, *ports))).collect()
    }

    fn change(follows: u64, changed: &[(u64, Option<&[u16]>)], removed: &[u64]) -> DirectoryNews {
        let removed = removed.iter().map(|id| NodeId(*id)).collect();
        DirectoryNews::Change { follows, version: follows + 1, changed: nodes(changed), removed }
    }

    #[test]
    fn what_a_leader_does_not_know_stays_as_it_was() {
        let mut known = Directory::default();
        assert!(known.take(DirectoryNews::Full { version: 4, nodes: nodes(&[(1, Some(&[80])), (2, None)]) }));
        assert!(known.take(change(4, &[(2, Some(&[80, 81]))], &[])));
        // Another leader, which has heard only the first.
        let full = nodes(&[(1, Some(&[])), (2, None), (3, None)]);
        assert!(known.take(DirectoryNews::Full { version: 1, nodes: full }));
        assert_eq!(*known.nodes(), nodes(&[(1, Some(&[])), (2, Some(&[80, 81])), (3, None)]));
        assert!(known.take(change(1, &[(2, Some(&[81]))], &[1])));
        assert_eq!(*known.nodes(), nodes(&[(2, Some(&[81])), (3, None)]));
    }

    #[test]
    fn a_change_that_follows_something_else_changes_nothing() {
        let mut known = Directory::default();
        assert!(!known.take(change(0, &[(1, None)], &[])));
        assert!(known.take(DirectoryNews::Full { version: 4, nodes: nodes(&[(1, None)]) }));
        assert!(!known.take(change(5, &[], &[1])));
        assert!(!known.take(change(4, &[], &[1])), "nothing can be followed any more");
        assert_eq!(*known.nodes(), nodes(&[(1, None)]));
    }
}
