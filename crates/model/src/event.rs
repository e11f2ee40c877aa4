//! What happened, for people: the story that `describe` and `events` tell.

use crate::{Exit, Name, NodeId, ReplicaId, RevisionNumber, ServiceKey, Slot, Timestamp, Unplaceable};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Timestamp,
    pub service: Option<ServiceKey>,
    pub kind: EventKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A user changed what is desired; in words ("created", "scaled from 2 to 3").
    Applied {
        change: String,
    },
    Deleted,
    RolloutStarted {
        from: Option<RevisionNumber>,
        to: RevisionNumber,
    },
    RolloutCompleted {
        to: RevisionNumber,
    },
    RollbackStarted {
        from: RevisionNumber,
        back_to: RevisionNumber,
        reason: String,
    },
    RollbackCompleted {
        back_to: RevisionNumber,
    },
    RolloutPaused {
        to: RevisionNumber,
        reason: String,
    },
    ReplicaPlaced {
        replica: ReplicaId,
        slot: Slot,
        node: NodeId,
    },
    ReplicaUnplaceable {
        slot: Slot,
        reason: Unplaceable,
    },
    ReplicaStopping {
        replica: ReplicaId,
        slot: Slot,
        reason: String,
    },
    ReplicaFailed {
        replica: ReplicaId,
        slot: Slot,
        reason: String,
    },
    ContainerExited {
        replica: ReplicaId,
        slot: Slot,
        container: Name,
        exit: Exit,
        restarts: u32,
    },
    NodeRegistered {
        node: NodeId,
        name: Name,
    },
}
