//! What the leader decides: nodes, placements, and the steps of reconciling a service.

use std::{collections::BTreeSet, sync::Arc};

use model::{
    Desired, EventKind, Node, NodeInfo, Replica, ReplicaId, Revision, RevisionNumber, RevisionStatus,
    RolloutPhase, Service, ServiceKey, StopReason, Subnet, Timestamp, Version,
};

use super::{Changes, Outcome, Rejected};
use crate::{Placement, State, Step};

impl State {
    pub(super) fn register(&mut self, info: NodeInfo, at: Timestamp) -> (Outcome, Changes) {
        let id = info.id;
        if self.removed_nodes.contains_key(&id) {
            return (Outcome::Done, Changes::default());
        }
        let known = self.nodes.get(&id).cloned();
        if known.is_none() {
            let kind = EventKind::NodeRegistered { node: id, name: info.name.clone() };
            self.record(model::Event { at, service: None, kind });
        }
        let before = known.as_ref().map(|known| known.subnet);
        let used = info.subnet.or(before.flatten());
        let subnet = used.or_else(|| self.free_subnet());
        let node = match known {
            Some(known) => Node { info, version: self.version, subnet, ..Node::clone(&known) },
            None => Node { subnet, ..Node::new(info, at, self.version) },
        };
        self.tell_subnet(before, &node, at);
        self.nodes.insert(id, Arc::new(node));
        (Outcome::Done, Changes { nodes: BTreeSet::from([id]), ..Changes::default() })
    }

    /// What people should know of a node's subnet, if it is another than before. `before`: none of a new node.
    fn tell_subnet(&mut self, before: Option<Option<Subnet>>, node: &Node, at: Timestamp) {
        if before == Some(node.subnet) {
            return;
        }
        let words = match (node.subnet, self.subnet_conflict(node)) {
            (None, _) => format!("has no subnet: all of {} are given", self.settings.replica_range.range()),
            (Some(subnet), Some(other)) => {
                format!("uses subnet {subnet}, of which {} has addresses already", other.info.name)
            }
            (Some(_), None) => return,
        };
        self.tell_of_node(node, words, at);
    }

    /// The first share of the cluster's range that no node uses any address of.
    fn free_subnet(&self) -> Option<Subnet> {
        let mut used: Vec<Subnet> = self.nodes.values().filter_map(|node| node.subnet).collect();
        used.sort_unstable();
        // Both are in the order of addresses, so those used that lie before a share need not be looked at again.
        let mut used = used.into_iter().peekable();
        self.settings.replica_range.shares().find(|share| {
            while used.next_if(|used| used.broadcast() < share.network()).is_some() {}
            !used.peek().is_some_and(|used| used.overlaps(*share))
        })
    }

    pub(super) fn place(&mut self, placements: Vec<Placement>, at: Timestamp) -> (Outcome, Changes) {
        let mut changes = Changes::default();
        for Placement { replica: id, node } in placements {
            let Some(replica) = self.replicas.get(&id).cloned() else { continue };
            let waits = replica.node.is_none() && replica.desired != Desired::Stopped;
            let takes = self.nodes.get(&node).is_some_and(|node| node.scheduling.is_open());
            if !waits || !takes {
                continue;
            }
            let kind = EventKind::ReplicaPlaced { replica: id, slot: replica.slot, node };
            self.tell(at, &replica.service, kind);
            self.put_replica(Replica { node: Some(node), placed_at: Some(at), ..Replica::clone(&replica) });
            changes.services.insert(replica.service.clone());
            changes.replicas.insert(id);
            changes.nodes.insert(node);
        }
        for key in &changes.services {
            self.touch_service(key);
        }
        (Outcome::Done, changes)
    }

    pub(super) fn progress(
        &mut self,
        key: ServiceKey,
        based_on: Version,
        steps: Vec<Step>,
        at: Timestamp,
    ) -> Result<(Outcome, Changes), Rejected> {
        let current = self.services.get(&key).map(|service| service.version);
        if current != Some(based_on) {
            return Err(Rejected::Stale { service: key });
        }
        // Other services are no part of the version: one may have taken a port meanwhile that only an older
        // revision of this one published.
        let takes_ports_of_others = |step: &Step| match step {
            Step::RollBack { back_to, .. } => !self.may_publish(&key, *back_to),
            _ => false,
        };
        if steps.iter().any(takes_ports_of_others) {
            return Err(Rejected::Stale { service: key });
        }
        let mut changes = Changes::of_service(&key);
        for step in steps {
            self.step(&key, step, at, &mut changes);
        }
        self.touch_service(&key);
        Ok((Outcome::Done, changes))
    }

    fn step(&mut self, key: &ServiceKey, step: Step, at: Timestamp, changes: &mut Changes) {
        match step {
            Step::Create { id, slot, revision, desired } => {
                let (service, node, placed_at, stop_reason) = (key.clone(), None, None, None);
                let created_at = at;
                self.put_replica(Replica {
                    id,
                    service,
                    slot,
                    revision,
                    node,
                    desired,
                    created_at,
                    placed_at,
                    stop_reason,
                });
                changes.replicas.insert(id);
            }
            Step::Start { id } => self.set_desired(id, Desired::Running, None, changes),
            Step::Stop { id, reason } => self.stop(key, id, reason, at, changes),
            Step::Forget { id } => {
                if let Some(node) = self.replicas.get(&id).and_then(|replica| replica.node) {
                    changes.nodes.insert(node);
                }
                self.drop_replica(id);
                changes.forgotten.insert(id);
            }
            Step::Remove => self.drop_service(key),
            Step::Progressed { .. }
            | Step::Complete
            | Step::RollBack { .. }
            | Step::RolledBack
            | Step::Pause { .. } => self.step_rollout(key, step, at),
        }
    }

    fn stop(
        &mut self,
        key: &ServiceKey,
        id: ReplicaId,
        reason: StopReason,
        at: Timestamp,
        changes: &mut Changes,
    ) {
        let Some(slot) = self.replicas.get(&id).map(|replica| replica.slot) else { return };
        let words = reason.to_string();
        let kind = match &reason {
            StopReason::Failed { reason } => {
                EventKind::ReplicaFailed { replica: id, slot, reason: reason.clone() }
            }
            StopReason::ScaledDown
            | StopReason::Replaced { .. }
            | StopReason::Deleted
            | StopReason::NodeDown { .. }
            | StopReason::NodeDrained { .. }
            | StopReason::Misplaced { .. }
            | StopReason::Surplus => EventKind::ReplicaStopping { replica: id, slot, reason: words },
        };
        self.tell(at, key, kind);
        self.set_desired(id, Desired::Stopped, Some(reason), changes);
    }

    fn set_desired(
        &mut self,
        id: ReplicaId,
        desired: Desired,
        reason: Option<StopReason>,
        changes: &mut Changes,
    ) {
        let Some(replica) = self.replicas.get(&id).cloned() else { return };
        if !replica.desired.may_become(desired) {
            return;
        }
        self.put_replica(Replica { desired, stop_reason: reason, ..Replica::clone(&replica) });
        changes.replicas.insert(id);
        changes.nodes.extend(replica.node);
    }

    fn step_rollout(&mut self, key: &ServiceKey, step: Step, at: Timestamp) {
        let Some(service) = self.services.get(key).cloned() else { return };
        if !may_follow(&service.rollout.phase, &step) {
            return;
        }
        let mut next = Service::clone(&service);
        let to = service.rollout.to;
        match step {
            Step::Progressed { available } => {
                next.rollout.available = available;
                next.rollout.progressed_at = at;
            }
            Step::Complete => {
                // A rollout of no replicas has proved nothing.
                if service.spec.replicas > 0 {
                    self.set_revision_status(key, to, RevisionStatus::Stable);
                }
                if service.rollout.from != Some(to) {
                    self.tell(at, key, EventKind::RolloutCompleted { to });
                }
                next.rollout.phase = RolloutPhase::Completed { at };
            }
            Step::RollBack { back_to, reason } => {
                self.set_revision_status(key, to, RevisionStatus::Failed { reason: reason.clone() });
                self.tell(at, key, EventKind::RollbackStarted { from: to, back_to, reason: reason.clone() });
                next.revision = back_to;
                next.rollout.available = 0;
                next.rollout.progressed_at = at;
                next.rollout.phase = RolloutPhase::RollingBack { back_to, reason };
            }
            Step::RolledBack => self.rolled_back(&mut next, at),
            Step::Pause { reason } => {
                // What failed when a rollback is paused is not what was asked for; that has its reason already.
                if service.rollout.from != Some(to) && service.revision == to {
                    self.set_revision_status(key, to, RevisionStatus::Failed { reason: reason.clone() });
                }
                self.tell(at, key, EventKind::RolloutPaused { to: service.revision, reason: reason.clone() });
                next.rollout.phase = RolloutPhase::Paused { reason, at };
            }
            Step::Create { .. }
            | Step::Start { .. }
            | Step::Stop { .. }
            | Step::Forget { .. }
            | Step::Remove => {
                unreachable!("only steps of a rollout are handed here")
            }
        }
        self.put_service(next);
    }

    /// The end of a rollback, whether or not it was paused on its way.
    fn rolled_back(&mut self, next: &mut Service, at: Timestamp) {
        let (back_to, reason) = match next.rollout.phase.clone() {
            RolloutPhase::RollingBack { back_to, reason } => (back_to, reason),
            RolloutPhase::Paused { reason, .. } => {
                let status = self.revision(&next.key, next.rollout.to).map(|failed| failed.status.clone());
                match status {
                    Some(RevisionStatus::Failed { reason }) => (next.revision, reason),
                    Some(RevisionStatus::Untried | RevisionStatus::Stable) | None => (next.revision, reason),
                }
            }
            RolloutPhase::Progressing | RolloutPhase::Completed { .. } | RolloutPhase::RolledBack { .. } => {
                return;
            }
        };
        self.tell(at, &next.key, EventKind::RollbackCompleted { back_to });
        next.rollout.phase = RolloutPhase::RolledBack { back_to, reason, at };
    }

    fn set_revision_status(&mut self, key: &ServiceKey, number: RevisionNumber, status: RevisionStatus) {
        if let Some(revision) = self.revision(key, number).cloned() {
            let next = Revision { status, ..Revision::clone(&revision) };
            self.revisions.insert((key.clone(), number), Arc::new(next));
        }
    }

    /// Marks a service as written by this entry, so that a plan made before is out of date.
    pub(super) fn touch_service(&mut self, key: &ServiceKey) {
        if let Some(service) = self.services.get(key).cloned() {
            self.put_service(Service { version: self.version, ..Service::clone(&service) });
        }
    }
}

/// The table of a rollout's transitions: which step may be taken in which phase. Users start rollouts anew, in
/// whatever phase the last one is.
fn may_follow(phase: &RolloutPhase, step: &Step) -> bool {
    match phase {
        RolloutPhase::Progressing => {
            matches!(
                step,
                Step::Progressed { .. } | Step::Complete | Step::RollBack { .. } | Step::Pause { .. }
            )
        }
        RolloutPhase::RollingBack { .. } => {
            matches!(step, Step::Progressed { .. } | Step::RolledBack | Step::Pause { .. })
        }
        RolloutPhase::Paused { .. } => matches!(step, Step::Complete | Step::RolledBack),
        RolloutPhase::Completed { .. } | RolloutPhase::RolledBack { .. } => false,
    }
}
