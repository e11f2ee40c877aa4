//! How replicas leave the balancers of all nodes before their own node is told to stop them.
//!
//! A replica that is to stop is out of the directory at once. Its node is told once every other node has said that this
//! directory is in force there, so that no connection is sent to a program that ends. Who stays silent is not waited for
//! longer than [`PATIENCE`]: a stop must end. Soft state: a new leader begins to wait anew.

use std::collections::BTreeMap;

use model::{Desired, Millis, NodeId, Phase, Replica, ReplicaId, Timestamp};

use crate::{Codec, Manager};

/// Long for putting a set of ports in force, short against what a rollout takes.
pub(crate) const PATIENCE: Millis = Millis(5_000);

/// Replicas that are to stop, by how far out of the balancers they are.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    waiting: BTreeMap<ReplicaId, Wait>,
    /// Their nodes may be told. Kept until they are gone.
    out: BTreeMap<ReplicaId, NodeId>,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    node: NodeId,
    /// The replica is not in the directory since.
    version: u64,
    until: Timestamp,
}

impl Leaving {
    /// The same, by another reckoning of the time.
    pub(crate) fn translate(&mut self, to: impl Fn(Timestamp) -> Timestamp) {
        self.waiting.values_mut().for_each(|wait| wait.until = to(wait.until));
    }

    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        self.waiting.values().map(|wait| wait.until).min()
    }
}

impl<C: Codec> Manager<C> {
    /// What a node is to be told of a replica. `told`: what it was told last.
    pub(crate) fn told_to_be(&mut self, now: Timestamp, replica: &Replica, told: Option<Desired>) -> Desired {
        let (id, Some(node)) = (replica.id, replica.node) else { return replica.desired };
        let is_out = told == Some(Desired::Stopped) || self.directory.leaving.out.contains_key(&id);
        if replica.desired != Desired::Stopped || is_out || !self.may_be_balanced(replica) {
            return replica.desired;
        }
        let version = self.directory.unchanged_since(node);
        let until = now + PATIENCE;
        let wait = *self.directory.leaving.waiting.entry(id).or_insert(Wait { node, version, until });
        if self.is_out(now, wait) {
            self.let_go(id, node);
            return Desired::Stopped;
        }
        told.unwrap_or(Desired::Running)
    }

    /// Looks whom nobody sends connections to any more, by what nodes said meanwhile.
    pub(crate) fn see_who_left(&mut self, now: Timestamp) {
        let waiting = self.directory.leaving.waiting.iter();
        let gone: Vec<(ReplicaId, NodeId)> =
            waiting.filter(|(_, wait)| self.is_out(now, **wait)).map(|(id, wait)| (*id, wait.node)).collect();
        for (id, node) in gone {
            self.let_go(id, node);
            self.sessions.touch(node);
        }
    }

    pub(crate) fn forget_leaving(&mut self, replica: ReplicaId) {
        self.directory.leaving.waiting.remove(&replica);
        self.directory.leaving.out.remove(&replica);
    }

    fn let_go(&mut self, replica: ReplicaId, node: NodeId) {
        self.directory.leaving.waiting.remove(&replica);
        self.directory.leaving.out.insert(replica, node);
    }

    fn is_out(&self, now: Timestamp, wait: Wait) -> bool {
        wait.until <= now || self.sessions.all_go_by(wait.version, wait.node)
    }

    /// What never ran, or has ended, has nothing to leave.
    fn may_be_balanced(&self, replica: &Replica) -> bool {
        let revision = self.state.revision(&replica.service, replica.revision);
        let publishes = revision
            .is_some_and(|revision| revision.template.ports.iter().any(|port| port.publish.is_some()));
        publishes && self.observed.replica(replica.id).is_some_and(|seen| seen.phase == Phase::Running)
    }
}
