//! The directory: what every node is told of the others. See [`model::directory`].
//!
//! Soft state of the leader, made of what is committed (nodes and their subnets, what replicas should be) and of what
//! agents observe (who is ready). Each change of a node's listing is a version of its own; a session is told what changed
//! since the version that it was told last.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddrV4,
    sync::Arc,
};

use model::{Desired, DirectoryNews, Endpoint, Listing, Node, NodeId, Observed, Replica, Silence};

use crate::{Codec, Effect, Manager, SessionId, leaving::Leaving};

/// How many versions a term has room for: two to the power of this.
const VERSIONS_BITS: u32 = 32;

#[derive(Debug, Default)]
pub(crate) struct Directory {
    version: u64,
    listings: BTreeMap<NodeId, Arc<Listing>>,
    /// In which version each node changed last, and the same the other way round. Nodes that were removed stay in it.
    changed_in: BTreeMap<NodeId, u64>,
    changes: BTreeMap<u64, NodeId>,
    /// Nodes whose listing may differ from what is true.
    dirty: BTreeSet<NodeId>,
    /// Somebody may not have been told the newest version.
    has_news: bool,
    /// Nodes that said no more than who they are, because they have no subnet.
    introduced: BTreeMap<SessionId, Introduced>,
    pub(crate) leaving: Leaving,
}

#[derive(Debug)]
struct Introduced {
    node: NodeId,
    /// As it was told last.
    told: Option<Arc<Listing>>,
}

impl Directory {
    pub(crate) fn touch(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        self.dirty.extend(nodes);
    }

    /// Versions grow over all leaders, so that what is said late of an earlier one's is never taken for this one's.
    pub(crate) fn begin(&mut self, term: u64) {
        self.version = term << VERSIONS_BITS;
    }

    /// Since which version the listing of a node is as it is.
    pub(crate) fn unchanged_since(&self, node: NodeId) -> u64 {
        self.changed_in.get(&node).copied().unwrap_or_default()
    }

    /// A session is there that was told nothing.
    pub(crate) fn has_reader(&mut self) {
        self.has_news = true;
    }

    /// Whether addresses that the node had may be another's now.
    fn put(&mut self, node: NodeId, listing: Option<Arc<Listing>>) -> bool {
        let before = match &listing {
            Some(listing) => self.listings.insert(node, Arc::clone(listing)),
            None => self.listings.remove(&node),
        };
        if before == listing {
            return false;
        }
        let subnet = |listing: Option<Arc<Listing>>| listing.and_then(|listing| listing.subnet);
        let moved = before.is_some() && subnet(before) != subnet(listing);
        self.version += 1;
        if let Some(before) = self.changed_in.insert(node, self.version) {
            self.changes.remove(&before);
        }
        self.changes.insert(self.version, node);
        self.has_news = true;
        moved
    }

    fn news_since(&self, told: Option<u64>) -> DirectoryNews {
        let version = self.version;
        let Some(follows) = told else {
            return DirectoryNews::Full { version, nodes: self.listings.clone() };
        };
        let mut changed = BTreeMap::new();
        let mut removed = BTreeSet::new();
        for node in self.changes.range(follows + 1..).map(|(_, node)| *node) {
            match self.listings.get(&node) {
                Some(listing) => drop(changed.insert(node, Arc::clone(listing))),
                None => drop(removed.insert(node)),
            }
        }
        DirectoryNews::Change { follows, version, changed, removed }
    }
}

impl<C: Codec> Manager<C> {
    /// An agent that has no subnet asks for one.
    pub(crate) fn introduce(&mut self, session: SessionId, node: NodeId) {
        self.directory.introduced.insert(session, Introduced { node, told: None });
        self.directory.has_reader();
    }

    /// Whether it was such a session.
    pub(crate) fn forget_introduction(&mut self, session: SessionId) -> bool {
        self.directory.introduced.remove(&session).is_some()
    }

    /// Forgets all of it, and who waits for it.
    pub(crate) fn close_directory(&mut self, reason: &str) {
        for session in std::mem::take(&mut self.directory).introduced.into_keys() {
            self.turn_away(session, reason.to_owned());
        }
    }

    /// Brings the listings of all that was touched up to date.
    pub(crate) fn refresh_directory(&mut self) {
        while let Some(node) = self.directory.dirty.pop_first() {
            let listing = self.state.node(node).map(|known| Arc::new(self.listing(known)));
            if self.directory.put(node, listing) {
                self.directory.touch(self.state.nodes().map(|node| node.info.id));
            }
        }
    }

    /// Tells everybody who is behind.
    pub(crate) fn tell_directory(&mut self) {
        if !std::mem::take(&mut self.directory.has_news) {
            return;
        }
        let mut made: BTreeMap<Option<u64>, Arc<DirectoryNews>> = BTreeMap::new();
        let version = self.directory.version;
        for (session, told) in self.sessions.behind(version) {
            let news = made.entry(told).or_insert_with(|| Arc::new(self.directory.news_since(told)));
            self.effects.push(Effect::Directory { session, news: Arc::clone(news) });
        }
        // What was given is in the log: it is true whoever leads.
        for (session, Introduced { node, told }) in &mut self.directory.introduced {
            let listing = self.directory.listings.get(node).filter(|listing| told.as_ref() != Some(listing));
            let Some(listing) = listing else { continue };
            *told = Some(Arc::clone(listing));
            let nodes = BTreeMap::from([(*node, Arc::clone(listing))]);
            let news = Arc::new(DirectoryNews::Full { version, nodes });
            self.effects.push(Effect::Directory { session: *session, news });
        }
    }

    fn listing(&self, node: &Node) -> Listing {
        let subnet = node.subnet.filter(|_| self.state.subnet_conflict(node).is_none());
        let replicas = || self.state.replicas_on(node.info.id);
        let endpoints = match (node.down, self.is_known(node.info.id)) {
            // Its replicas are lost.
            (Some(_), _) => Some(BTreeSet::new()),
            (None, true) => Some(replicas().flat_map(|replica| self.endpoints(node, replica)).collect()),
            (None, false) => None,
        };
        Listing { name: node.info.name.clone(), address: node.info.address, subnet, endpoints }
    }

    /// Whether this leader ever heard what the node has. What is silent now is believed to be as it was.
    fn is_known(&self, node: NodeId) -> bool {
        let report = self.observed.node(node);
        report.is_some_and(|report| report.silence != Some(Silence::NotHeardYet))
    }

    /// What a ready replica publishes. One that is to stop is out before its node is told.
    fn endpoints(&self, node: &Node, replica: &Replica) -> Vec<Endpoint> {
        let is_ready = |seen: &&Arc<Observed>| seen.ready_since.is_some();
        let seen = self.observed.replica(replica.id).filter(is_ready);
        let address = seen.and_then(|seen| seen.address);
        // An address of a subnet that the node had before is not reached from elsewhere.
        let address = address.filter(|address| node.subnet.is_some_and(|subnet| subnet.contains(*address)));
        let revision = self.state.revision(&replica.service, replica.revision);
        let (Desired::Running, Some(address), Some(revision)) = (replica.desired, address, revision) else {
            return Vec::new();
        };
        let endpoint = |port: &model::Port| {
            let backend = SocketAddrV4::new(address, port.port);
            Some(Endpoint { protocol: port.protocol, published: port.publish?, backend })
        };
        revision.template.ports.iter().filter_map(endpoint).collect()
    }
}
