//! A node's share of the desired state, and how it travels.

use std::sync::Arc;

use crate::{Desired, ReplicaId, ReplicaTemplate, RevisionNumber, ServiceKey, Slot};

/// All that a node needs to know of one replica to run it without asking again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub replica: ReplicaId,
    pub service: ServiceKey,
    pub slot: Slot,
    pub revision: RevisionNumber,
    pub desired: Desired,
    pub template: Arc<ReplicaTemplate>,
}

impl Assignment {
    /// The host name inside the replica: `web-3`.
    pub fn hostname(&self) -> String {
        format!("{}-{}", self.service.name, self.slot)
    }
}

/// One message of a session from the control plane to a node.
///
/// The first of a session is `Full`. Each `Increment` names the sequence number that it follows; an agent that
/// has another closes the session and gets a `Full` again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dispatch {
    Full { sequence: u64, assignments: Vec<Assignment> },
    Increment { follows: u64, sequence: u64, changed: Vec<Assignment>, removed: Vec<ReplicaId> },
}
