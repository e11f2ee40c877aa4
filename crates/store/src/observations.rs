//! What agents said, as the leader remembers it. Not replicated: agents say it all again to a new leader.
//!
//! "Nothing was said yet" is absence here, and readers must take it as unknown, never as "not there".

use std::sync::Arc;

use imbl::OrdMap;
use model::{Digest, Level, NodeId, Observed, ReplicaId, Silence, Timestamp, Usage};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observations {
    replicas: OrdMap<ReplicaId, Arc<Observed>>,
    nodes: OrdMap<NodeId, NodeReport>,
}

/// What is known of a node beyond what it registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    pub status: NodeStatus,
    pub since: Timestamp,
    /// Why, where it is not heard.
    pub silence: Option<Silence>,
    /// What its agent knows, as it said when it opened its session.
    pub level: Level,
    /// By everything on the host, as it last said.
    pub usage: Option<Usage>,
    /// The images on the node: manifest digests by name, in the normal form of names.
    pub images: OrdMap<String, Digest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeStatus {
    /// A session is open.
    Ready,
    /// No session since; its replicas go on running.
    Unknown,
}

impl NodeStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            NodeStatus::Ready => "ready",
            NodeStatus::Unknown => "unknown",
        }
    }
}

impl Observations {
    pub fn replica(&self, id: ReplicaId) -> Option<&Arc<Observed>> {
        self.replicas.get(&id)
    }

    pub fn node(&self, id: NodeId) -> Option<&NodeReport> {
        self.nodes.get(&id)
    }

    pub fn is_ready(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|report| report.status == NodeStatus::Ready)
    }

    pub fn nodes(&self) -> impl Iterator<Item = (&NodeId, &NodeReport)> {
        self.nodes.iter()
    }

    pub fn observe(&mut self, observed: Observed) {
        self.replicas.insert(observed.replica, Arc::new(observed));
    }

    /// The same, by another reckoning of the time.
    pub fn translate(&mut self, to: impl Fn(Timestamp) -> Timestamp) {
        let replicas = std::mem::take(&mut self.replicas).into_iter();
        self.replicas = replicas
            .map(|(id, mut observed)| {
                Arc::make_mut(&mut observed).translate(&to);
                (id, observed)
            })
            .collect();
        let nodes = std::mem::take(&mut self.nodes).into_iter();
        let nodes = nodes.map(|(id, report)| (id, NodeReport { since: to(report.since), ..report }));
        self.nodes = nodes.collect();
    }

    pub fn forget(&mut self, id: ReplicaId) {
        self.replicas.remove(&id);
    }

    pub fn set_node(&mut self, id: NodeId, status: NodeStatus, since: Timestamp) {
        let silence = match status {
            NodeStatus::Ready => None,
            NodeStatus::Unknown => Some(Silence::SessionEnded),
        };
        self.put_node(id, status, since, silence);
    }

    /// The node is not heard, for this reason, since then.
    pub fn set_silent(&mut self, id: NodeId, since: Timestamp, silence: Silence) {
        self.put_node(id, NodeStatus::Unknown, since, Some(silence));
    }

    fn put_node(&mut self, id: NodeId, status: NodeStatus, since: Timestamp, silence: Option<Silence>) {
        let known = self.nodes.get(&id);
        let images = known.map(|report| report.images.clone()).unwrap_or_default();
        let usage = known.and_then(|report| report.usage);
        let level = known.map(|report| report.level).unwrap_or_default();
        self.nodes.insert(id, NodeReport { status, since, silence, level, usage, images });
    }

    pub fn set_level(&mut self, id: NodeId, level: Level) {
        if let Some(report) = self.nodes.get_mut(&id) {
            report.level = level;
        }
    }

    /// Nothing is known of the node any more: it is none.
    pub fn forget_node(&mut self, id: NodeId) {
        self.nodes.remove(&id);
    }

    /// Whether it is another than before.
    pub fn set_usage(&mut self, id: NodeId, usage: Usage) -> bool {
        let known = self.nodes.get(&id).map(|report| report.usage);
        let is_news = known.is_some_and(|known| known != Some(usage));
        if let Some(report) = self.nodes.get_mut(&id).filter(|_| is_news) {
            report.usage = Some(usage);
        }
        is_news
    }

    /// Since when a node is not heard; none while it is.
    pub fn silent_since(&self, node: NodeId) -> Option<Timestamp> {
        self.nodes.get(&node).filter(|report| report.status == NodeStatus::Unknown).map(|report| report.since)
    }

    pub fn set_images(&mut self, id: NodeId, images: impl IntoIterator<Item = (String, Digest)>) {
        if let Some(report) = self.nodes.get_mut(&id) {
            report.images = images.into_iter().collect();
        }
    }
}
