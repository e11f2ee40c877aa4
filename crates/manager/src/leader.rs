//! The reconcile loop: only the leader runs it. What changed is marked dirty; this looks at it again, proposes the
//! next steps, and waits for them to be applied before it looks at the same service again.

use std::collections::{BTreeMap, BTreeSet};

use model::{Desired, ServiceKey, Timestamp, WaitingOn};
use scheduler::Decision;
use store::{Changes, Command, Placement};

use crate::{Alarms, Codec, Manager, RequestError, RequestId, log::Origin, requests::Batch};

#[derive(Debug, Default)]
pub(crate) struct Leader {
    /// Whether this server leads and everything committed before its term is applied: then its state is the truth.
    pub(crate) leading: bool,
    pub(crate) dirty: BTreeSet<ServiceKey>,
    /// Services with a plan in the log that is not applied yet.
    in_flight: BTreeSet<ServiceKey>,
    pub(crate) placing: bool,
    /// Whether a replica may have become placeable.
    place_again: bool,
    unplaceable: BTreeMap<ServiceKey, Vec<WaitingOn>>,
    alarms: Alarms,
    pub(crate) batches: BTreeMap<RequestId, Batch>,
}

impl Leader {
    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        self.alarms.next()
    }
}

impl<C: Codec> Manager<C> {
    pub(crate) fn start_leading(&mut self) {
        self.leader.leading = true;
        self.leader.place_again = true;
        let all = self.all_services();
        self.mark_dirty(all);
        self.sessions.all_dirty();
    }

    pub(crate) fn stop_leading(&mut self) {
        self.leader.leading = false;
        self.leader.placing = false;
        self.leader.in_flight.clear();
        self.leader.alarms = Alarms::default();
        self.abandon_proposals();
        let unanswered: Vec<RequestId> = self.leader.batches.keys().copied().collect();
        for id in unanswered {
            self.fail(id, RequestError::LeadershipLost);
        }
    }

    /// Looks at everything dirty; says whether it proposed anything.
    pub(crate) fn lead(&mut self, now: Timestamp) -> bool {
        if !self.leader.leading {
            return false;
        }
        let due = self.leader.alarms.due(now);
        self.mark_dirty(due);
        let mut proposed = false;
        let ready: Vec<ServiceKey> = self.leader.dirty.difference(&self.leader.in_flight).cloned().collect();
        for service in ready {
            self.leader.dirty.remove(&service);
            proposed |= self.reconcile(now, service);
        }
        if self.leader.place_again && !self.leader.placing {
            self.leader.place_again = false;
            proposed |= self.place(now);
        }
        proposed
    }

    fn reconcile(&mut self, now: Timestamp, key: ServiceKey) -> bool {
        let Some(based_on) = self.state.service(&key).map(|service| service.version) else {
            self.leader.alarms.set(&key, None);
            self.leader.unplaceable.remove(&key);
            self.waiting_on.remove(&key);
            return false;
        };
        let plan = orchestrator::reconcile(&self.state, &self.observed, &key, &mut self.ids, now);
        self.leader.alarms.set(&key, plan.wake_at);
        self.set_waiting_on(&key, plan.waiting_on);
        if plan.steps.is_empty() {
            return false;
        }
        let command = Command::Progress { service: key.clone(), based_on, steps: plan.steps, at: now };
        match self.propose(command, Origin::Plan(key.clone())) {
            Ok(()) => {
                self.leader.in_flight.insert(key);
                true
            }
            Err(error) => {
                // Too much in the log, or leadership is on its way to another: try again in a moment.
                tracing::debug!(%error, service = %key, "a plan could not be proposed");
                self.leader.alarms.set(&key, Some(now + model::Millis(100)));
                false
            }
        }
    }

    fn set_waiting_on(&mut self, key: &ServiceKey, mut waiting_on: Vec<WaitingOn>) {
        waiting_on.extend(self.leader.unplaceable.get(key).into_iter().flatten().cloned());
        let unchanged = self.waiting_on.get(key).is_some_and(|known| **known == *waiting_on);
        if unchanged || (waiting_on.is_empty() && !self.waiting_on.contains_key(key)) {
            return;
        }
        self.view_changed = true;
        if waiting_on.is_empty() {
            self.waiting_on.remove(key);
        } else {
            self.waiting_on.insert(key.clone(), waiting_on.into());
        }
    }

    fn place(&mut self, now: Timestamp) -> bool {
        let (pending, nodes) = scheduler::views(&self.state, &self.observed);
        let mut placements = Vec::new();
        let mut unplaceable: BTreeMap<ServiceKey, Vec<WaitingOn>> = BTreeMap::new();
        for decision in scheduler::place(&pending, &nodes) {
            match decision {
                Decision::Placed { replica, node } => placements.push(Placement { replica, node }),
                Decision::Unplaceable { replica, reason } => {
                    if let Some(replica) = self.state.replica(replica) {
                        let waiting = WaitingOn::Placement { slot: replica.slot, reason };
                        unplaceable.entry(replica.service.clone()).or_default().push(waiting);
                    }
                }
            }
        }
        let touched: Vec<ServiceKey> =
            unplaceable.keys().chain(self.leader.unplaceable.keys()).cloned().collect();
        if unplaceable != self.leader.unplaceable {
            self.leader.unplaceable = unplaceable;
            self.mark_dirty(touched);
        }
        if placements.is_empty() {
            return false;
        }
        match self.propose(Command::Place { placements, at: now }, Origin::Placement) {
            Ok(()) => {
                self.leader.placing = true;
                true
            }
            Err(error) => {
                tracing::debug!(%error, "placements could not be proposed");
                self.leader.place_again = true;
                false
            }
        }
    }

    pub(crate) fn plan_ended(&mut self, service: ServiceKey) {
        self.leader.in_flight.remove(&service);
        self.leader.dirty.insert(service);
    }

    pub(crate) fn place_again(&mut self) {
        self.leader.place_again = true;
    }

    /// What a command touched is looked at again, and the nodes concerned are told.
    pub(crate) fn take_changes(&mut self, changes: Changes) {
        let unplaced =
            |id| self.state.replica(id).is_some_and(|r| r.node.is_none() && r.desired != Desired::Stopped);
        if !changes.forgotten.is_empty()
            || !changes.nodes.is_empty()
            || changes.replicas.iter().any(|id| unplaced(*id))
        {
            self.leader.place_again = true;
        }
        for id in &changes.forgotten {
            self.observed.forget(*id);
        }
        self.mark_dirty(changes.services);
        self.sessions.mark_dirty(changes.nodes);
    }
}
