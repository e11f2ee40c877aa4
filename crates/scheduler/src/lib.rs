//! Where replicas go: filters, scores, and explanations.
//!
//! [`place`] is pure and deterministic; the order of the nodes does not matter, that of the pending replicas does (the
//! first have the first choice). What one call places is counted for what it places next.
//!
//! Invariants (checked by `tests/placing.rs`):
//! - The requests of what is placed on a node never exceed what was free there.
//! - Nothing comes to a node that is not ready, is closed to new replicas, lacks a label that the service asks for, or has
//!   an agent that would not understand all that the replica is.
//! - With room everywhere, the replicas of a service differ by at most one between nodes, and before that between the
//!   values of the label that it is to be spread over.
//! - A replica that fits some ready node is placed; one that does not is explained, and holds up nobody behind it.
//!
//! Start reading at [`place`]; [`filter`] says who may take a replica, [`score`] who should, and [`views`] how both
//! inputs come from the store.

pub mod filter;
pub mod score;
pub mod views;

use std::collections::BTreeMap;

use model::{
    Bytes, Level, MilliCpu, NodeId, PlacementRules, ReplicaId, RevisionNumber, ServiceKey, Unplaceable,
};

use filter::Filtered;
use score::{Crowd, Score};
pub use views::{demand, views};

/// What is reserved for a replica, or free for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub cpu: MilliCpu,
    pub memory: Bytes,
}

/// A replica without a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub replica: ReplicaId,
    pub service: ServiceKey,
    pub revision: RevisionNumber,
    pub rules: PlacementRules,
    /// The level that an agent must know to run it as it is meant.
    pub needs: Level,
    pub wants: Amount,
    /// What will be free on a node before this replica starts there, because the one that it replaces stops first.
    pub frees: Vec<(NodeId, Amount)>,
}

/// A node as the scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    pub id: NodeId,
    /// Its agent has a session.
    pub ready: bool,
    /// Nobody cordoned or drains it.
    pub open: bool,
    /// What its agent knows.
    pub level: Level,
    pub labels: BTreeMap<String, String>,
    pub capacity: Amount,
    pub allocated: Amount,
    /// How many replicas it has of each service's revisions.
    pub replicas_of: BTreeMap<ServiceKey, BTreeMap<RevisionNumber, u32>>,
    /// How many replicas it has.
    pub replicas: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Placed { replica: ReplicaId, node: NodeId },
    Unplaceable { replica: ReplicaId, reason: Unplaceable },
}

/// A node for each replica that fits one, and the reason for each that does not, in the order of `pending`.
pub fn place(pending: &[Pending], nodes: &[NodeView]) -> Vec<Decision> {
    let mut nodes: Vec<NodeView> = nodes.to_vec();
    nodes.sort_by_key(|node| node.id);
    let mut crowd = Crowd::default();
    let mut decisions = Vec::with_capacity(pending.len());
    for replica in pending {
        crowd.count_for(replica, &nodes);
        decisions.push(place_one(replica, &mut nodes, &mut crowd));
    }
    decisions
}

fn place_one(pending: &Pending, nodes: &mut [NodeView], crowd: &mut Crowd) -> Decision {
    let replica = pending.replica;
    let mut filtered = Filtered::new(pending, nodes.len());
    let mut best: Option<(Score, usize)> = None;
    for (index, node) in nodes.iter().enumerate() {
        if !filtered.admits(pending, node) {
            continue;
        }
        let score = Score::of(pending, node, crowd.on(index));
        if best.is_none_or(|(least, _)| score < least) {
            best = Some((score, index));
        }
    }
    let Some((_, index)) = best else {
        return Decision::Unplaceable { replica, reason: filtered.explain() };
    };
    let node = &mut nodes[index];
    node.take(pending);
    crowd.add(index);
    Decision::Placed { replica, node: node.id }
}

impl NodeView {
    pub fn free(&self) -> Amount {
        self.capacity.less(self.allocated)
    }

    fn take(&mut self, pending: &Pending) {
        self.allocated = self.allocated.plus(pending.wants_on(self.id));
        self.replicas += 1;
        let revisions = self.replicas_of.entry(pending.service.clone()).or_default();
        *revisions.entry(pending.revision).or_default() += 1;
    }
}

impl Pending {
    /// What it needs of a node beyond what will be freed for it there.
    pub fn wants_on(&self, node: NodeId) -> Amount {
        let freed = self.frees.iter().filter(|(on, _)| *on == node);
        freed.fold(self.wants, |wants, (_, amount)| wants.less(*amount))
    }
}

impl Amount {
    pub const NOTHING: Amount = Amount { cpu: MilliCpu(0), memory: Bytes(0) };

    pub fn plus(self, other: Amount) -> Amount {
        Amount {
            cpu: MilliCpu(self.cpu.0.saturating_add(other.cpu.0)),
            memory: Bytes(self.memory.0.saturating_add(other.memory.0)),
        }
    }

    /// What remains; nothing rather than less than nothing.
    pub fn less(self, other: Amount) -> Amount {
        Amount {
            cpu: MilliCpu(self.cpu.0.saturating_sub(other.cpu.0)),
            memory: Bytes(self.memory.0.saturating_sub(other.memory.0)),
        }
    }

    pub fn at_least(self, other: Amount) -> Amount {
        Amount { cpu: self.cpu.max(other.cpu), memory: self.memory.max(other.memory) }
    }
}
