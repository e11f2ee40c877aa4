//! What agents said, as the leader remembers it. Not replicated: agents say it all again to a new leader.
//!
//! "Nothing was said yet" is absence here, and readers must take it as unknown, never as "not there".

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use model::{Digest, NodeId, Observed, ReplicaId, Timestamp};

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
    /// The images on the node: reference and manifest digest.
    pub images: OrdSet<(String, Digest)>,
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

    pub fn forget(&mut self, id: ReplicaId) {
        self.replicas.remove(&id);
    }

    pub fn set_node(&mut self, id: NodeId, status: NodeStatus, since: Timestamp) {
        let images = self.nodes.get(&id).map(|report| report.images.clone()).unwrap_or_default();
        self.nodes.insert(id, NodeReport { status, since, images });
    }

    pub fn set_images(&mut self, id: NodeId, images: impl IntoIterator<Item = (String, Digest)>) {
        if let Some(report) = self.nodes.get_mut(&id) {
            report.images = images.into_iter().collect();
        }
    }
}
