//! What the store keeps: services, rollouts, revisions, replicas. Nodes are in [`crate::node`], events in [`crate::event`].

use std::sync::Arc;

use model::{
    Generation, NodeId, Replica, ReplicaId, Revision, RevisionNumber, RevisionStatus, Rollout, RolloutPhase,
    Service, StopReason, Timestamp, Version,
};

use crate::{error::DecodeError, field, v1};

field::same_variants! {
    Desired { Prepared, Running, Stopped }
}

impl From<&Service> for v1::Service {
    fn from(service: &Service) -> Self {
        v1::Service {
            key: Some((&service.key).into()),
            labels: service.labels.clone(),
            annotations: service.annotations.clone(),
            spec: Some((&service.spec).into()),
            generation: service.generation.0,
            version: service.version.0,
            created_at_unix_ms: service.created_at.0,
            revision: service.revision.0,
            rollout: Some((&service.rollout).into()),
            deleting_since_unix_ms: service.deleting_since.map(|at| at.0),
        }
    }
}

impl TryFrom<v1::Service> for Service {
    type Error = DecodeError;
    fn try_from(wire: v1::Service) -> Result<Self, DecodeError> {
        Ok(Service {
            key: field::required(wire.key, "key")?,
            labels: wire.labels,
            annotations: wire.annotations,
            spec: field::required(wire.spec, "spec")?,
            generation: Generation(wire.generation),
            version: Version(wire.version),
            created_at: Timestamp(wire.created_at_unix_ms),
            revision: RevisionNumber(wire.revision),
            rollout: field::required(wire.rollout, "rollout")?,
            deleting_since: wire.deleting_since_unix_ms.map(Timestamp),
        })
    }
}

impl From<&Rollout> for v1::Rollout {
    fn from(rollout: &Rollout) -> Self {
        v1::Rollout {
            generation: rollout.generation.0,
            from: rollout.from.map(|number| number.0),
            to: rollout.to.0,
            started_at_unix_ms: rollout.started_at.0,
            progressed_at_unix_ms: rollout.progressed_at.0,
            available: rollout.available,
            phase: Some((&rollout.phase).into()),
        }
    }
}

impl TryFrom<v1::Rollout> for Rollout {
    type Error = DecodeError;
    fn try_from(wire: v1::Rollout) -> Result<Self, DecodeError> {
        Ok(Rollout {
            generation: Generation(wire.generation),
            from: wire.from.map(RevisionNumber),
            to: RevisionNumber(wire.to),
            started_at: Timestamp(wire.started_at_unix_ms),
            progressed_at: Timestamp(wire.progressed_at_unix_ms),
            available: wire.available,
            phase: field::kind(wire.phase, "phase")?.into(),
        })
    }
}

impl From<&RolloutPhase> for v1::rollout::Phase {
    fn from(phase: &RolloutPhase) -> Self {
        use v1::rollout as wire;
        match phase {
            RolloutPhase::Progressing => Self::Progressing(wire::Progressing {}),
            RolloutPhase::Completed { at } => Self::Completed(wire::Completed { at_unix_ms: at.0 }),
            RolloutPhase::RollingBack { back_to, reason } => {
                Self::RollingBack(wire::RollingBack { back_to: back_to.0, reason: reason.clone() })
            }
            RolloutPhase::RolledBack { back_to, reason, at } => Self::RolledBack(wire::RolledBack {
                back_to: back_to.0,
                reason: reason.clone(),
                at_unix_ms: at.0,
            }),
            RolloutPhase::Paused { reason, at } => {
                Self::Paused(wire::Paused { reason: reason.clone(), at_unix_ms: at.0 })
            }
        }
    }
}

impl From<v1::rollout::Phase> for RolloutPhase {
    fn from(wire: v1::rollout::Phase) -> Self {
        use v1::rollout::Phase;
        match wire {
            Phase::Progressing(_) => RolloutPhase::Progressing,
            Phase::Completed(phase) => RolloutPhase::Completed { at: Timestamp(phase.at_unix_ms) },
            Phase::RollingBack(phase) => {
                RolloutPhase::RollingBack { back_to: RevisionNumber(phase.back_to), reason: phase.reason }
            }
            Phase::RolledBack(phase) => RolloutPhase::RolledBack {
                back_to: RevisionNumber(phase.back_to),
                reason: phase.reason,
                at: Timestamp(phase.at_unix_ms),
            },
            Phase::Paused(phase) => {
                RolloutPhase::Paused { reason: phase.reason, at: Timestamp(phase.at_unix_ms) }
            }
        }
    }
}

impl From<&Revision> for v1::Revision {
    fn from(revision: &Revision) -> Self {
        use v1::revision::{Failed, Stable, Status, Untried};
        let status = match &revision.status {
            RevisionStatus::Untried => Status::Untried(Untried {}),
            RevisionStatus::Stable => Status::Stable(Stable {}),
            RevisionStatus::Failed { reason } => Status::Failed(Failed { reason: reason.clone() }),
        };
        v1::Revision {
            number: revision.number.0,
            hash: revision.hash.0.to_vec().into(),
            template: Some((&*revision.template).into()),
            generation: revision.generation.0,
            created_at_unix_ms: revision.created_at.0,
            status: Some(status),
        }
    }
}

impl TryFrom<v1::Revision> for Revision {
    type Error = DecodeError;
    fn try_from(wire: v1::Revision) -> Result<Self, DecodeError> {
        use v1::revision::Status;
        let status = match field::kind(wire.status, "status")? {
            Status::Untried(_) => RevisionStatus::Untried,
            Status::Stable(_) => RevisionStatus::Stable,
            Status::Failed(failed) => RevisionStatus::Failed { reason: failed.reason },
        };
        Ok(Revision {
            number: RevisionNumber(wire.number),
            hash: field::hash(&wire.hash)?,
            template: Arc::new(field::required(wire.template, "template")?),
            generation: Generation(wire.generation),
            created_at: Timestamp(wire.created_at_unix_ms),
            status,
        })
    }
}

impl From<&Replica> for v1::Replica {
    fn from(replica: &Replica) -> Self {
        v1::Replica {
            id: replica.id.0,
            service: Some((&replica.service).into()),
            slot: replica.slot.get(),
            revision: replica.revision.0,
            node: replica.node.map(|node| node.0),
            desired: v1::Desired::from(replica.desired).into(),
            created_at_unix_ms: replica.created_at.0,
            placed_at_unix_ms: replica.placed_at.map(|at| at.0),
            stop_reason: replica.stop_reason.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::Replica> for Replica {
    type Error = DecodeError;
    fn try_from(wire: v1::Replica) -> Result<Self, DecodeError> {
        Ok(Replica {
            id: ReplicaId(wire.id),
            service: field::required(wire.service, "service")?,
            slot: field::slot(wire.slot)?,
            revision: RevisionNumber(wire.revision),
            node: wire.node.map(NodeId),
            desired: field::value::<v1::Desired, _>(wire.desired, "desired")?,
            created_at: Timestamp(wire.created_at_unix_ms),
            placed_at: wire.placed_at_unix_ms.map(Timestamp),
            stop_reason: field::optional(wire.stop_reason, "stop_reason")?,
        })
    }
}

impl From<&StopReason> for v1::StopReason {
    fn from(reason: &StopReason) -> Self {
        use v1::stop_reason::{
            Deleted, Failed, Misplaced, NodeDown, NodeDrained, Reason, Replaced, ScaledDown, Surplus,
        };
        let reason = match reason {
            StopReason::ScaledDown => Reason::ScaledDown(ScaledDown {}),
            StopReason::Replaced { by } => Reason::Replaced(Replaced { by: by.0 }),
            StopReason::Failed { reason } => Reason::Failed(Failed { reason: reason.clone() }),
            StopReason::Deleted => Reason::Deleted(Deleted {}),
            StopReason::NodeDown { node } => Reason::NodeDown(NodeDown { node: node.0 }),
            StopReason::NodeDrained { node } => Reason::NodeDrained(NodeDrained { node: node.0 }),
            StopReason::Misplaced { node } => Reason::Misplaced(Misplaced { node: node.0 }),
            StopReason::Surplus => Reason::Surplus(Surplus {}),
        };
        v1::StopReason { reason: Some(reason) }
    }
}

impl TryFrom<v1::StopReason> for StopReason {
    type Error = DecodeError;
    fn try_from(wire: v1::StopReason) -> Result<Self, DecodeError> {
        use v1::stop_reason::Reason;
        Ok(match field::kind(wire.reason, "reason")? {
            Reason::ScaledDown(_) => StopReason::ScaledDown,
            Reason::Replaced(replaced) => StopReason::Replaced { by: RevisionNumber(replaced.by) },
            Reason::Failed(failed) => StopReason::Failed { reason: failed.reason },
            Reason::Deleted(_) => StopReason::Deleted,
            Reason::NodeDown(down) => StopReason::NodeDown { node: NodeId(down.node) },
            Reason::NodeDrained(drained) => StopReason::NodeDrained { node: NodeId(drained.node) },
            Reason::Misplaced(misplaced) => StopReason::Misplaced { node: NodeId(misplaced.node) },
            Reason::Surplus(_) => StopReason::Surplus,
        })
    }
}
