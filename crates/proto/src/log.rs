//! Commands and their steps.

use model::{Millis, NodeId, ReplicaId, RevisionNumber, Timestamp, Version};
use store::{Apply, Command, Placement, Step};

use crate::{
    error::{DecodeError, Within},
    field, v1,
};

impl From<&Command> for v1::Command {
    fn from(command: &Command) -> Self {
        use v1::command::{
            ChangeNode, Configure, Delete, Kind, Place, Progress, Raise, Record, Register, Scale, Undo,
        };
        let kind = match command {
            Command::Apply(apply) => Kind::Apply(apply.into()),
            Command::Delete { service, at } => {
                Kind::Delete(Delete { service: Some(service.into()), at_unix_ms: at.0 })
            }
            Command::Scale { service, replicas, at } => {
                Kind::Scale(Scale { service: Some(service.into()), replicas: *replicas, at_unix_ms: at.0 })
            }
            Command::Undo { service, to, at } => {
                Kind::Undo(Undo { service: Some(service.into()), to: to.0, at_unix_ms: at.0 })
            }
            Command::Register { info, at } => {
                Kind::Register(Register { info: Some(info.into()), at_unix_ms: at.0 })
            }
            Command::Place { placements, at } => Kind::Place(Place {
                placements: placements.iter().map(Into::into).collect(),
                at_unix_ms: at.0,
            }),
            Command::Progress { service, based_on, steps, at } => Kind::Progress(Progress {
                service: Some(service.into()),
                based_on: based_on.0,
                steps: steps.iter().map(Into::into).collect(),
                at_unix_ms: at.0,
            }),
            Command::Record { events } => {
                Kind::Record(Record { events: events.iter().map(Into::into).collect() })
            }
            Command::Node { node, change, at } => {
                Kind::ChangeNode(ChangeNode { node: node.0, change: Some(change.into()), at_unix_ms: at.0 })
            }
            Command::Configure { node_lost_after, at } => {
                Kind::Configure(Configure { node_lost_after_ms: node_lost_after.0, at_unix_ms: at.0 })
            }
            Command::PutMember { member } => Kind::PutMember(member.into()),
            Command::Trust(change) => Kind::ChangeTrust(change.into()),
            Command::Raise { to } => Kind::Raise(Raise { to: to.0 }),
        };
        v1::Command { kind: Some(kind) }
    }
}

impl TryFrom<v1::Command> for Command {
    type Error = DecodeError;
    fn try_from(wire: v1::Command) -> Result<Self, DecodeError> {
        use v1::command::Kind;
        Ok(match field::kind(wire.kind, "kind")? {
            Kind::Apply(apply) => Command::Apply(apply.try_into().within("apply")?),
            Kind::Delete(delete) => Command::Delete {
                service: field::required(delete.service, "delete.service")?,
                at: Timestamp(delete.at_unix_ms),
            },
            Kind::Scale(scale) => Command::Scale {
                service: field::required(scale.service, "scale.service")?,
                replicas: scale.replicas,
                at: Timestamp(scale.at_unix_ms),
            },
            Kind::Undo(undo) => Command::Undo {
                service: field::required(undo.service, "undo.service")?,
                to: RevisionNumber(undo.to),
                at: Timestamp(undo.at_unix_ms),
            },
            Kind::Register(register) => Command::Register {
                info: field::required(register.info, "register.info")?,
                at: Timestamp(register.at_unix_ms),
            },
            Kind::Place(place) => Command::Place {
                placements: field::list(place.placements, "place.placements")?,
                at: Timestamp(place.at_unix_ms),
            },
            Kind::Progress(progress) => Command::Progress {
                service: field::required(progress.service, "progress.service")?,
                based_on: Version(progress.based_on),
                steps: field::list(progress.steps, "progress.steps")?,
                at: Timestamp(progress.at_unix_ms),
            },
            Kind::Record(record) => Command::Record { events: field::list(record.events, "record.events")? },
            Kind::ChangeNode(changed) => Command::Node {
                node: NodeId(changed.node),
                change: field::required(changed.change, "change_node.change")?,
                at: Timestamp(changed.at_unix_ms),
            },
            Kind::Configure(configure) => Command::Configure {
                node_lost_after: Millis(configure.node_lost_after_ms),
                at: Timestamp(configure.at_unix_ms),
            },
            Kind::PutMember(member) => Command::PutMember { member: member.try_into().within("put_member")? },
            Kind::ChangeTrust(change) => Command::Trust(change.try_into().within("change_trust")?),
            Kind::Raise(raise) => Command::Raise { to: field::level(raise.to).within("raise")? },
        })
    }
}

impl From<&Apply> for v1::command::Apply {
    fn from(apply: &Apply) -> Self {
        v1::command::Apply {
            service: Some((&apply.service).into()),
            labels: apply.labels.clone(),
            annotations: apply.annotations.clone(),
            spec: Some((&apply.spec).into()),
            hash: apply.hash.0.to_vec().into(),
            expects: apply.expects.map(|version| version.0),
            at_unix_ms: apply.at.0,
        }
    }
}

impl TryFrom<v1::command::Apply> for Apply {
    type Error = DecodeError;
    fn try_from(wire: v1::command::Apply) -> Result<Self, DecodeError> {
        Ok(Apply {
            service: field::required(wire.service, "service")?,
            labels: wire.labels,
            annotations: wire.annotations,
            spec: field::required(wire.spec, "spec")?,
            hash: field::hash(&wire.hash)?,
            expects: wire.expects.map(Version),
            at: Timestamp(wire.at_unix_ms),
        })
    }
}

impl From<&Placement> for v1::Placement {
    fn from(placement: &Placement) -> Self {
        v1::Placement { replica: placement.replica.0, node: placement.node.0 }
    }
}

impl TryFrom<v1::Placement> for Placement {
    type Error = DecodeError;
    fn try_from(wire: v1::Placement) -> Result<Self, DecodeError> {
        Ok(Placement { replica: ReplicaId(wire.replica), node: NodeId(wire.node) })
    }
}

impl From<&Step> for v1::Step {
    fn from(step: &Step) -> Self {
        use v1::step::{self as wire, Kind};
        let kind = match step {
            Step::Create { id, slot, revision, desired } => Kind::Create(wire::Create {
                id: id.0,
                slot: slot.get(),
                revision: revision.0,
                desired: v1::Desired::from(*desired).into(),
            }),
            Step::Start { id } => Kind::Start(wire::Start { id: id.0 }),
            Step::Stop { id, reason } => Kind::Stop(wire::Stop { id: id.0, reason: Some(reason.into()) }),
            Step::Forget { id } => Kind::Forget(wire::Forget { id: id.0 }),
            Step::Progressed { available } => Kind::Progressed(wire::Progressed { available: *available }),
            Step::Complete => Kind::Complete(wire::Complete {}),
            Step::RollBack { back_to, reason } => {
                Kind::RollBack(wire::RollBack { back_to: back_to.0, reason: reason.clone() })
            }
            Step::RolledBack => Kind::RolledBack(wire::RolledBack {}),
            Step::Pause { reason } => Kind::Pause(wire::Pause { reason: reason.clone() }),
            Step::Remove => Kind::Remove(wire::Remove {}),
        };
        v1::Step { kind: Some(kind) }
    }
}

impl TryFrom<v1::Step> for Step {
    type Error = DecodeError;
    fn try_from(wire: v1::Step) -> Result<Self, DecodeError> {
        use v1::step::Kind;
        Ok(match field::kind(wire.kind, "kind")? {
            Kind::Create(create) => Step::Create {
                id: ReplicaId(create.id),
                slot: field::slot(create.slot)?,
                revision: RevisionNumber(create.revision),
                desired: field::value::<v1::Desired, _>(create.desired, "desired")?,
            },
            Kind::Start(start) => Step::Start { id: ReplicaId(start.id) },
            Kind::Stop(stop) => {
                Step::Stop { id: ReplicaId(stop.id), reason: field::required(stop.reason, "reason")? }
            }
            Kind::Forget(forget) => Step::Forget { id: ReplicaId(forget.id) },
            Kind::Progressed(progressed) => Step::Progressed { available: progressed.available },
            Kind::Complete(_) => Step::Complete,
            Kind::RollBack(back) => {
                Step::RollBack { back_to: RevisionNumber(back.back_to), reason: back.reason }
            }
            Kind::RolledBack(_) => Step::RolledBack,
            Kind::Pause(pause) => Step::Pause { reason: pause.reason },
            Kind::Remove(_) => Step::Remove,
        })
    }
}
