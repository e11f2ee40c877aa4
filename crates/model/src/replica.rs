//! A replica as the control plane wants it. Only the control plane writes these.

use std::fmt;

use crate::{NodeId, ReplicaId, RevisionNumber, ServiceKey, Slot, Timestamp};

/// One scheduled copy of a service at one revision, in one slot, on one node for all its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    pub id: ReplicaId,
    pub service: ServiceKey,
    pub slot: Slot,
    pub revision: RevisionNumber,
    /// Where it was placed; none while it waits for a place.
    pub node: Option<NodeId>,
    pub desired: Desired,
    pub created_at: Timestamp,
    pub placed_at: Option<Timestamp>,
    /// Why it is to stop; set with `Desired::Stopped`.
    pub stop_reason: Option<StopReason>,
}

/// What a replica should be. It only moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Desired {
    /// Image, sandbox and network made ready, nothing started: held until its turn in a rollout.
    Prepared,
    Running,
    /// Out of every balancer, then the stop signal, then removed from the node.
    Stopped,
}

impl Desired {
    /// The table of allowed transitions.
    pub fn may_become(self, next: Desired) -> bool {
        match (self, next) {
            (Desired::Prepared, Desired::Running | Desired::Stopped)
            | (Desired::Running, Desired::Stopped) => true,
            (Desired::Prepared | Desired::Running | Desired::Stopped, _) => false,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Desired::Prepared => "prepared",
            Desired::Running => "running",
            Desired::Stopped => "stopped",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The service wants fewer replicas.
    ScaledDown,
    /// A replica of another revision took or takes its slot.
    Replaced { by: RevisionNumber },
    /// It could not be made to run; the reason in words.
    Failed { reason: String },
    /// The user deleted the service.
    Deleted,
    /// Its node was lost; should it return, the replica stops there.
    NodeDown { node: NodeId },
    /// Its node is drained.
    NodeDrained { node: NodeId },
    /// Its node has not the labels that the service asks for, or not any more.
    Misplaced { node: NodeId },
    /// Another replica of the same revision has its slot.
    Surplus,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopReason::ScaledDown => f.write_str("scaled down"),
            StopReason::Replaced { by } => write!(f, "replaced by revision {by}"),
            StopReason::Failed { reason } => write!(f, "failed: {reason}"),
            StopReason::Deleted => f.write_str("service deleted"),
            StopReason::NodeDown { node } => write!(f, "node {node} is down"),
            StopReason::NodeDrained { node } => write!(f, "node {node} is drained"),
            StopReason::Misplaced { node } => {
                write!(f, "node {node} does not have the labels that the service asks for")
            }
            StopReason::Surplus => f.write_str("another replica has its slot"),
        }
    }
}
