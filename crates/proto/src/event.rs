//! Events, and why a replica has no place.

use model::{Bytes, Event, EventKind, MilliCpu, NodeId, ReplicaId, RevisionNumber, Timestamp, Unplaceable};

use crate::{
    error::{DecodeError, Within},
    field,
    v1::{self, event as wire, event::Kind},
};

impl From<&Event> for v1::Event {
    fn from(event: &Event) -> Self {
        v1::Event {
            at_unix_ms: event.at.0,
            service: event.service.as_ref().map(Into::into),
            kind: Some((&event.kind).into()),
        }
    }
}

impl TryFrom<v1::Event> for Event {
    type Error = DecodeError;
    fn try_from(event: v1::Event) -> Result<Self, DecodeError> {
        Ok(Event {
            at: Timestamp(event.at_unix_ms),
            service: field::optional(event.service, "service")?,
            kind: EventKind::try_from(field::kind(event.kind, "kind")?).within("kind")?,
        })
    }
}

impl From<&EventKind> for Kind {
    fn from(kind: &EventKind) -> Kind {
        match kind {
            EventKind::Applied { change } => Kind::Applied(wire::Applied { change: change.clone() }),
            EventKind::Deleted => Kind::Deleted(wire::Deleted {}),
            EventKind::RolloutStarted { from, to } => {
                Kind::RolloutStarted(wire::RolloutStarted { from: from.map(|from| from.0), to: to.0 })
            }
            EventKind::RolloutCompleted { to } => Kind::RolloutCompleted(wire::RolloutCompleted { to: to.0 }),
            EventKind::RollbackStarted { from, back_to, reason } => {
                Kind::RollbackStarted(wire::RollbackStarted {
                    from: from.0,
                    back_to: back_to.0,
                    reason: reason.clone(),
                })
            }
            EventKind::RollbackCompleted { back_to } => {
                Kind::RollbackCompleted(wire::RollbackCompleted { back_to: back_to.0 })
            }
            EventKind::RolloutPaused { to, reason } => {
                Kind::RolloutPaused(wire::RolloutPaused { to: to.0, reason: reason.clone() })
            }
            EventKind::ReplicaPlaced { replica, slot, node } => Kind::ReplicaPlaced(wire::ReplicaPlaced {
                replica: replica.0,
                slot: slot.get(),
                node: node.0,
            }),
            EventKind::ReplicaUnplaceable { slot, reason } => {
                Kind::ReplicaUnplaceable(wire::ReplicaUnplaceable {
                    slot: slot.get(),
                    reason: Some(reason.into()),
                })
            }
            EventKind::ReplicaStopping { replica, slot, reason } => {
                Kind::ReplicaStopping(wire::ReplicaStopping {
                    replica: replica.0,
                    slot: slot.get(),
                    reason: reason.clone(),
                })
            }
            EventKind::ReplicaFailed { replica, slot, reason } => Kind::ReplicaFailed(wire::ReplicaFailed {
                replica: replica.0,
                slot: slot.get(),
                reason: reason.clone(),
            }),
            EventKind::ContainerExited { replica, slot, container, exit, restarts, stop } => {
                Kind::ContainerExited(wire::ContainerExited {
                    replica: replica.0,
                    slot: slot.get(),
                    container: container.to_string(),
                    exit: Some(exit.into()),
                    restarts: *restarts,
                    stop: stop.map(Into::into),
                })
            }
            EventKind::NodeRegistered { node, name } => {
                Kind::NodeRegistered(wire::NodeRegistered { node: node.0, name: name.to_string() })
            }
            EventKind::NodeChanged { node, name, change } => Kind::NodeChanged(wire::NodeChanged {
                node: node.0,
                name: name.to_string(),
                change: change.clone(),
            }),
            EventKind::SettingsChanged { change } => {
                Kind::SettingsChanged(wire::SettingsChanged { change: change.clone() })
            }
        }
    }
}

impl TryFrom<Kind> for EventKind {
    type Error = DecodeError;
    fn try_from(kind: Kind) -> Result<EventKind, DecodeError> {
        Ok(match kind {
            Kind::Applied(kind) => EventKind::Applied { change: kind.change },
            Kind::Deleted(_) => EventKind::Deleted,
            Kind::RolloutStarted(kind) => {
                EventKind::RolloutStarted { from: kind.from.map(RevisionNumber), to: RevisionNumber(kind.to) }
            }
            Kind::RolloutCompleted(kind) => EventKind::RolloutCompleted { to: RevisionNumber(kind.to) },
            Kind::RollbackStarted(kind) => EventKind::RollbackStarted {
                from: RevisionNumber(kind.from),
                back_to: RevisionNumber(kind.back_to),
                reason: kind.reason,
            },
            Kind::RollbackCompleted(kind) => {
                EventKind::RollbackCompleted { back_to: RevisionNumber(kind.back_to) }
            }
            Kind::RolloutPaused(kind) => {
                EventKind::RolloutPaused { to: RevisionNumber(kind.to), reason: kind.reason }
            }
            Kind::ReplicaPlaced(kind) => EventKind::ReplicaPlaced {
                replica: ReplicaId(kind.replica),
                slot: field::slot(kind.slot)?,
                node: NodeId(kind.node),
            },
            Kind::ReplicaUnplaceable(kind) => EventKind::ReplicaUnplaceable {
                slot: field::slot(kind.slot)?,
                reason: field::required(kind.reason, "reason")?,
            },
            Kind::ReplicaStopping(kind) => EventKind::ReplicaStopping {
                replica: ReplicaId(kind.replica),
                slot: field::slot(kind.slot)?,
                reason: kind.reason,
            },
            Kind::ReplicaFailed(kind) => EventKind::ReplicaFailed {
                replica: ReplicaId(kind.replica),
                slot: field::slot(kind.slot)?,
                reason: kind.reason,
            },
            Kind::ContainerExited(kind) => EventKind::ContainerExited {
                replica: ReplicaId(kind.replica),
                slot: field::slot(kind.slot)?,
                container: field::parsed(&kind.container, "container")?,
                exit: field::required(kind.exit, "exit")?,
                restarts: kind.restarts,
                stop: kind.stop.map(Into::into),
            },
            Kind::NodeRegistered(kind) => EventKind::NodeRegistered {
                node: NodeId(kind.node),
                name: field::parsed(&kind.name, "name")?,
            },
            Kind::NodeChanged(kind) => EventKind::NodeChanged {
                node: NodeId(kind.node),
                name: field::parsed(&kind.name, "name")?,
                change: kind.change,
            },
            Kind::SettingsChanged(kind) => EventKind::SettingsChanged { change: kind.change },
        })
    }
}

impl From<&Unplaceable> for v1::Unplaceable {
    fn from(reason: &Unplaceable) -> Self {
        v1::Unplaceable {
            nodes: reason.nodes,
            not_ready: reason.not_ready,
            too_little_cpu: reason.too_little_cpu,
            too_little_memory: reason.too_little_memory,
            wants_cpu_millicores: reason.wants_cpu.0,
            wants_memory_bytes: reason.wants_memory.0,
            most_free_cpu_millicores: reason.most_free_cpu.0,
            most_free_memory_bytes: reason.most_free_memory.0,
            cordoned: reason.cordoned,
            lacking: reason.lacking.clone(),
            too_old: reason.too_old,
        }
    }
}

impl TryFrom<v1::Unplaceable> for Unplaceable {
    type Error = DecodeError;
    fn try_from(wire: v1::Unplaceable) -> Result<Self, DecodeError> {
        Ok(Unplaceable {
            nodes: wire.nodes,
            not_ready: wire.not_ready,
            too_little_cpu: wire.too_little_cpu,
            too_little_memory: wire.too_little_memory,
            wants_cpu: MilliCpu(wire.wants_cpu_millicores),
            wants_memory: Bytes(wire.wants_memory_bytes),
            most_free_cpu: MilliCpu(wire.most_free_cpu_millicores),
            most_free_memory: Bytes(wire.most_free_memory_bytes),
            cordoned: wire.cordoned,
            lacking: wire.lacking,
            too_old: wire.too_old,
        })
    }
}
