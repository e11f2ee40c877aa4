//! Containers that run and should not: nobody assigned them, or the ledger knows that their time is over.
//!
//! A replica with an intruder does nothing until the intruder is gone, so that two attempts never run at once.

use std::collections::{BTreeMap, BTreeSet};

use model::{ReplicaId, Timestamp};

use super::{Action, ContainerId, attempts::Attempts, container::KILL_AGAIN, replica::Effects};

#[derive(Debug, Default)]
pub(super) struct Intruders {
    /// And when each is killed (again).
    containers: BTreeMap<ContainerId, Timestamp>,
    /// Replicas that the ledger does not know, to be cleaned once their containers are gone.
    replicas: BTreeMap<ReplicaId, Attempts>,
}

impl Intruders {
    pub(super) fn add(&mut self, id: ContainerId) {
        self.containers.insert(id, Timestamp(0));
    }

    pub(super) fn add_replicas(&mut self, ids: impl IntoIterator<Item = ReplicaId>) {
        self.replicas.extend(ids.into_iter().map(|id| (id, Attempts::Idle)));
    }

    /// Whether something of the replica is still on the host that must go first.
    pub(super) fn block(&self, replica: ReplicaId) -> bool {
        self.replicas.contains_key(&replica) || self.has_containers(replica)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.replicas.is_empty()
    }

    fn has_containers(&self, replica: ReplicaId) -> bool {
        self.containers.keys().any(|id| id.replica == replica)
    }

    /// Whether it was one.
    pub(super) fn exited(&mut self, id: &ContainerId, out: &mut Effects) -> bool {
        let was_one = self.containers.remove(id).is_some();
        if was_one {
            out.actions.push(Action::Discard { id: id.clone() });
        }
        was_one
    }

    pub(super) fn cleaned(&mut self, now: Timestamp, replica: ReplicaId, result: Result<(), String>) {
        match (self.replicas.get_mut(&replica), result) {
            (Some(attempts), Err(reason)) => attempts.failed(now, reason),
            (Some(_), Ok(())) => {
                self.replicas.remove(&replica);
            }
            (None, _) => {}
        }
    }

    pub(super) fn step(&mut self, now: Timestamp, out: &mut Effects) {
        for (id, kill_at) in self.containers.iter_mut().filter(|(_, at)| **at <= now) {
            *kill_at = now + KILL_AGAIN;
            out.actions.push(Action::Kill { id: id.clone() });
        }
        let occupied: BTreeSet<ReplicaId> = self.containers.keys().map(|id| id.replica).collect();
        for (replica, attempts) in self.replicas.iter_mut().filter(|(id, _)| !occupied.contains(id)) {
            if attempts.begin(now) {
                out.actions.push(Action::Clean { replica: *replica, service: None });
            }
        }
    }

    pub(super) fn wake(&self) -> Option<Timestamp> {
        let kills = self.containers.values().copied();
        kills.chain(self.replicas.values().filter_map(Attempts::wake)).min()
    }
}
