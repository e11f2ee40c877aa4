//! A service: what a user declared, and how far the cluster is with it.

use std::collections::BTreeMap;

use crate::{
    CountOrPercent, Generation, Level, Millis, NodeLoss, PlacementRules, ReplicaTemplate, RevisionNumber,
    Rollout, ServiceKey, Timestamp, Version,
};

/// What a user asks for. The system never alters it: a rollback changes [`Service::revision`], not the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    pub replicas: u32,
    pub update: UpdatePolicy,
    pub placement: PlacementRules,
    pub node_loss: NodeLoss,
    /// What one replica is. Any change to it is a new revision; a change outside it is not.
    pub template: ReplicaTemplate,
}

impl ServiceSpec {
    /// The level that every server must know before this may be written, and for the template also the node that runs it.
    pub fn needs(&self) -> Level {
        // Every field by its name: whoever adds one decides here what it needs.
        let ServiceSpec { replicas: _, update: _, placement: _, node_loss: _, template } = self;
        template.needs()
    }
}

/// How a service moves from one revision to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdatePolicy {
    /// How many replicas beyond `replicas` may exist meanwhile; a percentage is rounded up.
    pub max_surge: CountOrPercent,
    /// How many of `replicas` may be missing meanwhile; a percentage is rounded down.
    pub max_unavailable: CountOrPercent,
    pub order: UpdateOrder,
    /// How long a new replica must stay ready before it counts as available.
    pub min_ready: Millis,
    /// From the start of a new replica's containers to being ready; past it the replica has failed.
    /// Time spent on fetching images is not counted.
    pub healthy_deadline: Millis,
    /// How long a rollout may go without any replica becoming available before it has failed.
    pub progress_deadline: Millis,
    pub on_failure: OnFailure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateOrder {
    /// The new replica of a slot is ready before the old one stops. Needs `max_surge` of at least 1.
    StartFirst,
    /// The old replica of a slot has exited before the new one starts. Needs `max_unavailable` of at least 1.
    StopFirst,
}

/// What happens when a rollout fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Go back to the last stable revision; without one, pause.
    Rollback,
    /// Leave everything as it is and wait for a person.
    Pause,
    /// Go on with the other slots.
    Continue,
}

impl Default for UpdatePolicy {
    fn default() -> UpdatePolicy {
        UpdatePolicy {
            max_surge: CountOrPercent::Percent(25),
            max_unavailable: CountOrPercent::Count(0),
            order: UpdateOrder::StartFirst,
            min_ready: Millis::ZERO,
            healthy_deadline: Millis::from_secs(300),
            progress_deadline: Millis::from_secs(600),
            on_failure: OnFailure::Rollback,
        }
    }
}

/// A service as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub key: ServiceKey,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub spec: ServiceSpec,
    pub generation: Generation,
    /// The Raft index that last wrote this object or any replica of it: what a reconcile plan is based on.
    pub version: Version,
    pub created_at: Timestamp,
    /// The revision that replicas should run now. It differs from that of `spec` after a rollback.
    pub revision: RevisionNumber,
    /// The rollout under way, or how the last one ended.
    pub rollout: Rollout,
    /// Set once the user deleted it: its replicas stop, then it goes.
    pub deleting_since: Option<Timestamp>,
}

impl Service {
    /// How many replicas are wanted now.
    pub fn wanted(&self) -> u32 {
        if self.deleting_since.is_some() { 0 } else { self.spec.replicas }
    }
}
