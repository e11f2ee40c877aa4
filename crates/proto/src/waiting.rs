//! What a service waits for.

use model::{NodeId, RevisionNumber, Timestamp, WaitingOn};

use crate::{
    error::DecodeError,
    field,
    v1::{self, waiting_on as wire, waiting_on::Kind},
};

impl From<&WaitingOn> for v1::WaitingOn {
    fn from(waiting: &WaitingOn) -> Self {
        let kind = match waiting {
            WaitingOn::Placement { slot, reason } => {
                Kind::Placement(wire::Placement { slot: slot.get(), reason: Some(reason.into()) })
            }
            WaitingOn::Preparation { slot, node, message } => Kind::Preparation(wire::Preparation {
                slot: slot.get(),
                node: node.0,
                message: message.clone(),
            }),
            WaitingOn::Readiness { slot, since, deadline, message } => Kind::Readiness(wire::Readiness {
                slot: slot.get(),
                since_unix_ms: since.0,
                deadline_unix_ms: deadline.0,
                message: message.clone(),
            }),
            WaitingOn::MinReady { slot, until } => {
                Kind::MinReady(wire::MinReady { slot: slot.get(), until_unix_ms: until.0 })
            }
            WaitingOn::Stop { slot, revision } => {
                Kind::Stop(wire::Stop { slot: slot.get(), revision: revision.0 })
            }
            WaitingOn::Availability { ready, must_be } => {
                Kind::Availability(wire::Availability { ready: *ready, must_be: *must_be })
            }
            WaitingOn::Node { slot, node } => Kind::Node(wire::SilentNode { slot: slot.get(), node: node.0 }),
            WaitingOn::NodeReturn { slot, node, until } => {
                Kind::NodeReturn(wire::NodeReturn { slot: slot.get(), node: node.0, until_unix_ms: until.0 })
            }
            WaitingOn::Lease { slot, node, until } => {
                Kind::Lease(wire::Lease { slot: slot.get(), node: node.0, until_unix_ms: until.0 })
            }
            WaitingOn::Decision { reason } => Kind::Decision(wire::Decision { reason: reason.clone() }),
        };
        v1::WaitingOn { kind: Some(kind) }
    }
}

impl TryFrom<v1::WaitingOn> for WaitingOn {
    type Error = DecodeError;
    fn try_from(waiting: v1::WaitingOn) -> Result<Self, DecodeError> {
        Ok(match field::kind(waiting.kind, "kind")? {
            Kind::Placement(kind) => WaitingOn::Placement {
                slot: field::slot(kind.slot)?,
                reason: field::required(kind.reason, "reason")?,
            },
            Kind::Preparation(kind) => WaitingOn::Preparation {
                slot: field::slot(kind.slot)?,
                node: NodeId(kind.node),
                message: kind.message,
            },
            Kind::Readiness(kind) => WaitingOn::Readiness {
                slot: field::slot(kind.slot)?,
                since: Timestamp(kind.since_unix_ms),
                deadline: Timestamp(kind.deadline_unix_ms),
                message: kind.message,
            },
            Kind::MinReady(kind) => {
                WaitingOn::MinReady { slot: field::slot(kind.slot)?, until: Timestamp(kind.until_unix_ms) }
            }
            Kind::Stop(kind) => {
                WaitingOn::Stop { slot: field::slot(kind.slot)?, revision: RevisionNumber(kind.revision) }
            }
            Kind::Availability(kind) => WaitingOn::Availability { ready: kind.ready, must_be: kind.must_be },
            Kind::Node(kind) => WaitingOn::Node { slot: field::slot(kind.slot)?, node: NodeId(kind.node) },
            Kind::NodeReturn(kind) => WaitingOn::NodeReturn {
                slot: field::slot(kind.slot)?,
                node: NodeId(kind.node),
                until: Timestamp(kind.until_unix_ms),
            },
            Kind::Lease(kind) => WaitingOn::Lease {
                slot: field::slot(kind.slot)?,
                node: NodeId(kind.node),
                until: Timestamp(kind.until_unix_ms),
            },
            Kind::Decision(kind) => WaitingOn::Decision { reason: kind.reason },
        })
    }
}
