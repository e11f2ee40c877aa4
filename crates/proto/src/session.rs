//! What a session between an agent and a server carries: what agents say as [`AgentSays`], and assignments, which
//! servers send, in both of their forms.

use std::{collections::HashMap, sync::Arc};

use model::{Assignment, Digest, Dispatch, Heard, Millis, ReplicaId, ReplicaTemplate, RevisionNumber};

use crate::{
    error::{DecodeError, Problem, Within},
    field, v1,
};

mod says;

pub use says::{AgentSays, ContainerExit, Hello, Report};

/// What [`v1::Hello::protocol_version`] is now. Grows when an agent or a server cannot serve the other's older form.
pub const PROTOCOL_VERSION: u64 = 1;

/// In the head of a server's answer to [`v1::agents_client`]'s session, before any assignment: which cluster it is of.
pub const CLUSTER_HEADER: &str = "wharf-cluster";

/// With a refusal by a server that does not lead: where the one that does is reached, host and port.
pub const LEADER_HEADER: &str = "wharf-leader";

/// Replicas that share a template in memory share it on the wire: a node runs many of one revision.
impl From<&[Assignment]> for v1::AssignmentSet {
    fn from(assignments: &[Assignment]) -> Self {
        let mut set = v1::AssignmentSet::default();
        let mut indexes: HashMap<*const ReplicaTemplate, u32> = HashMap::new();
        for assignment in assignments {
            let template = *indexes.entry(Arc::as_ptr(&assignment.template)).or_insert_with(|| {
                set.templates.push((&*assignment.template).into());
                set.templates.len() as u32 - 1
            });
            set.assignments.push(v1::Assignment {
                replica: assignment.replica.0,
                service: Some((&assignment.service).into()),
                slot: assignment.slot.get(),
                revision: assignment.revision.0,
                desired: v1::Desired::from(assignment.desired).into(),
                template,
            });
        }
        set
    }
}

impl TryFrom<v1::AssignmentSet> for Vec<Assignment> {
    type Error = DecodeError;
    fn try_from(wire: v1::AssignmentSet) -> Result<Self, DecodeError> {
        let templates: Vec<ReplicaTemplate> = field::list(wire.templates, "templates")?;
        let templates: Vec<Arc<ReplicaTemplate>> = templates.into_iter().map(Arc::new).collect();
        let element = |(index, wire): (usize, v1::Assignment)| {
            assignment(wire, &templates).within_element(index).within("assignments")
        };
        wire.assignments.into_iter().enumerate().map(element).collect()
    }
}

fn assignment(wire: v1::Assignment, templates: &[Arc<ReplicaTemplate>]) -> Result<Assignment, DecodeError> {
    let no_template = || match templates.len() {
        0 => Problem::Missing,
        count => Problem::OutOfRange { value: u64::from(wire.template), min: 0, max: count as u64 - 1 },
    };
    Ok(Assignment {
        replica: ReplicaId(wire.replica),
        service: field::required(wire.service, "service")?,
        slot: field::slot(wire.slot)?,
        revision: RevisionNumber(wire.revision),
        desired: field::value::<v1::Desired, _>(wire.desired, "desired")?,
        template: templates
            .get(wire.template as usize)
            .cloned()
            .ok_or_else(no_template)
            .within("template")?,
    })
}

impl From<&Dispatch> for v1::Dispatch {
    fn from(dispatch: &Dispatch) -> Self {
        use v1::dispatch::{Full, Increment, Kind};
        let kind = match dispatch {
            Dispatch::Full { sequence, assignments } => {
                Kind::Full(Full { sequence: *sequence, assignments: Some(assignments.as_slice().into()) })
            }
            Dispatch::Increment { follows, sequence, changed, removed } => Kind::Increment(Increment {
                follows: *follows,
                sequence: *sequence,
                changed: Some(changed.as_slice().into()),
                removed: removed.iter().map(|id| id.0).collect(),
            }),
        };
        v1::Dispatch { kind: Some(kind) }
    }
}

impl TryFrom<v1::Dispatch> for Dispatch {
    type Error = DecodeError;
    fn try_from(wire: v1::Dispatch) -> Result<Self, DecodeError> {
        use v1::dispatch::Kind;
        Ok(match field::kind(wire.kind, "kind")? {
            Kind::Full(full) => Dispatch::Full {
                sequence: full.sequence,
                assignments: field::required(full.assignments, "assignments")?,
            },
            Kind::Increment(increment) => Dispatch::Increment {
                follows: increment.follows,
                sequence: increment.sequence,
                changed: field::required(increment.changed, "changed")?,
                removed: increment.removed.into_iter().map(ReplicaId).collect(),
            },
        })
    }
}

impl From<Heard> for v1::Heard {
    fn from(heard: Heard) -> Self {
        let Heard { number, lease, next, scatter } = heard;
        v1::Heard { number, lease_ms: lease.0, next_ms: next.0, scatter_ms: scatter.0 }
    }
}

impl From<v1::Heard> for Heard {
    fn from(wire: v1::Heard) -> Heard {
        let v1::Heard { number, lease_ms, next_ms, scatter_ms } = wire;
        Heard { number, lease: Millis(lease_ms), next: Millis(next_ms), scatter: Millis(scatter_ms) }
    }
}

impl From<&(String, Digest)> for v1::NodeImage {
    fn from((reference, digest): &(String, Digest)) -> Self {
        v1::NodeImage { reference: reference.clone(), digest: digest.to_string() }
    }
}

impl TryFrom<v1::NodeImage> for (String, Digest) {
    type Error = DecodeError;
    fn try_from(wire: v1::NodeImage) -> Result<Self, DecodeError> {
        let digest = field::parsed(&wire.digest, "digest")?;
        Ok((wire.reference, digest))
    }
}
