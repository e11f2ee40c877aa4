//! The reconcile loop: only the leader runs it. What changed is marked dirty; this looks at it again, proposes the
//! next steps, and waits for them to be applied before it looks at the same service again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use consensus::Role;
use imbl::OrdMap;
use model::{Desired, EventKind, Millis, NodeId, ReplicaId, ServiceKey, Timestamp, WaitingOn};
use scheduler::Decision;
use store::{Changes, Command, Observations, Placement, Step};

use crate::{
    Codec, Effect, Event, Manager, MemberError, RequestError, alarms::Alarms, nodes::Nodes,
    proposals::Origin, sessions::NOT_LEADER,
};

/// How long a plan waits that could not be proposed: too much is in the log, or leadership is on its way to another.
pub(crate) const TRY_AGAIN: Millis = Millis(100);

/// What a leader knows beyond the state. A server that does not lead has none of it.
#[derive(Debug, Default)]
pub(crate) struct Leader {
    /// Set while this server leads and everything committed before its term is applied: then its state is the truth.
    pub(crate) term: Option<u64>,
    dirty: BTreeSet<ServiceKey>,
    /// Services with a plan in the log that is not applied yet.
    in_flight: BTreeSet<ServiceKey>,
    placing: Placing,
    /// Wanted replicas without a node.
    unplaced: BTreeSet<ReplicaId>,
    unplaceable: BTreeMap<ServiceKey, Vec<WaitingOn>>,
    /// Those of which an event says so.
    told_unplaceable: BTreeSet<ServiceKey>,
    /// Until when the notes of a service may wait.
    notes: BTreeMap<ServiceKey, Timestamp>,
    pub(crate) waiting_on: OrdMap<ServiceKey, Arc<[WaitingOn]>>,
    alarms: Alarms<ServiceKey>,
    pub(crate) nodes: Nodes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Placing {
    /// Placements are in the log and not applied yet.
    in_flight: bool,
    /// A replica may have become placeable.
    again: bool,
    /// Placements could not be proposed: the next tick tries again.
    at_tick: bool,
}

impl Leader {
    pub(crate) fn leads(&self) -> bool {
        self.term.is_some()
    }

    /// The same, by another reckoning of the time.
    pub(crate) fn translate(&mut self, to: impl Fn(Timestamp) -> Timestamp) {
        self.alarms.translate(&to);
        self.notes.values_mut().for_each(|until| *until = to(*until));
        self.nodes.translate(to);
    }

    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        self.alarms.next().into_iter().chain(self.nodes.next_wake()).min()
    }
}

impl<C: Codec> Manager<C> {
    pub(crate) fn start_leading(&mut self, term: u64) {
        self.clock.hold();
        let waits = |replica: &&Arc<model::Replica>| is_unplaced(replica);
        self.leader = Leader {
            term: Some(term),
            dirty: self.state.services().map(|service| service.key.clone()).collect(),
            unplaced: self.state.replicas().filter(waits).map(|replica| replica.id).collect(),
            placing: Placing { again: true, ..Placing::default() },
            ..Leader::default()
        };
        self.directory.begin(term);
        self.directory.touch(self.state.nodes().map(|node| node.info.id));
        self.view_changed = true;
    }

    /// Forgets all that only a leader may know, and tells everyone who relies on it.
    pub(crate) fn stop_leading(&mut self) {
        for proposal in self.proposals.take_all() {
            self.lost(proposal.origin);
        }
        self.handed_over();
        self.take_answers_back();
        if self.leader.leads() {
            self.clock.hold();
            self.leader = Leader::default();
            self.observed = Observations::default();
            self.close_all_sessions("this server does not lead the cluster any more");
            self.view_changed = true;
        }
        if !self.is_elected() {
            self.turn_away_held();
        }
    }

    /// Whether this server will lead once the first entry of its term is committed. What is asked of it waits till then.
    pub(crate) fn is_elected(&self) -> bool {
        !self.leader.leads() && self.consensus.status().role == Role::Leader
    }

    fn turn_away_held(&mut self) {
        for event in std::mem::take(&mut self.held) {
            match event {
                Event::Request { id, .. } => {
                    self.refuse(id, RequestError::NotLeader { leader: self.consensus.status().leader });
                }
                Event::Members { id, .. } => {
                    let error = MemberError::NotLeader { leader: self.consensus.status().leader };
                    self.effects.push(Effect::MembersReply { id, result: Err(error) });
                }
                Event::SessionOpened { session, .. } | Event::NodeIntroduced { session, .. } => {
                    self.turn_away(session, NOT_LEADER.to_owned());
                }
                Event::SessionReport { .. }
                | Event::SessionHeartbeat { .. }
                | Event::SessionInForce { .. }
                | Event::SessionClosed { .. } => {}
                Event::Tick
                | Event::Read { .. }
                | Event::Peer { .. }
                | Event::PeerEnded { .. }
                | Event::Unreachable { .. }
                | Event::SnapshotSent { .. }
                | Event::Persisted { .. }
                | Event::SnapshotWritten(_) => unreachable!("none of these is held"),
            }
        }
    }

    /// Looks at everything dirty; says whether there was anything.
    pub(crate) fn lead(&mut self, now: Timestamp) -> bool {
        if !self.leader.leads() {
            return false;
        }
        let mut anything = self.watch_nodes(now);
        let held = std::mem::take(&mut self.held);
        anything |= !held.is_empty();
        for event in held {
            self.handle(now, event);
        }
        let due = self.leader.alarms.due(now);
        self.leader.dirty.extend(due);
        let ready: Vec<ServiceKey> = self.leader.dirty.difference(&self.leader.in_flight).cloned().collect();
        for service in ready {
            anything = true;
            self.leader.dirty.remove(&service);
            self.reconcile(now, service);
        }
        if self.leader.placing.again && !self.leader.placing.in_flight {
            anything = true;
            self.leader.placing.again = false;
            self.place(now);
        }
        anything
    }

    fn reconcile(&mut self, now: Timestamp, key: ServiceKey) {
        let Some(based_on) = self.state.service(&key).map(|service| service.version) else {
            self.leader.alarms.set(&key, None);
            self.leader.notes.remove(&key);
            self.leader.waiting_on.remove(&key);
            return;
        };
        let plan = orchestrator::reconcile(&self.state, &self.observed, &key, &mut self.ids, now);
        self.leader.alarms.set(&key, plan.wake_at);
        self.set_waiting_on(&key, plan.waiting_on);
        if let Some(later) = self.may_wait(now, &key, &plan.steps) {
            let wake_at = plan.wake_at.map_or(later, |at| at.min(later));
            return self.leader.alarms.set(&key, Some(wake_at));
        }
        if plan.steps.is_empty() {
            return;
        }
        let command = Command::Progress { service: key.clone(), based_on, steps: plan.steps, at: now };
        match self.try_and_propose(command, Origin::Plan(key.clone())) {
            Ok(()) => {
                self.leader.in_flight.insert(key);
            }
            // Rejected: the service is being written, and will be looked at when that is applied.
            Err(error) => {
                tracing::debug!(%error, service = %key, "a plan could not be proposed");
                self.leader.alarms.set(&key, Some(now + TRY_AGAIN));
            }
        }
    }

    /// Until when a plan may wait that only takes notes; none where something has to be done, or nothing.
    fn may_wait(&mut self, now: Timestamp, key: &ServiceKey, steps: &[Step]) -> Option<Timestamp> {
        let only_notes = !steps.is_empty() && steps.iter().all(Step::is_note);
        if only_notes {
            let due = *self.leader.notes.entry(key.clone()).or_insert(now + self.note_within);
            if due > now {
                return Some(due);
            }
        }
        self.leader.notes.remove(key);
        None
    }

    fn set_waiting_on(&mut self, key: &ServiceKey, mut waiting_on: Vec<WaitingOn>) {
        waiting_on.extend(self.leader.unplaceable.get(key).into_iter().flatten().cloned());
        let known = self.leader.waiting_on.get(key).map_or(&[][..], |known| known);
        if *known == *waiting_on {
            return;
        }
        self.view_changed = true;
        if waiting_on.is_empty() {
            self.leader.waiting_on.remove(key);
        } else {
            self.leader.waiting_on.insert(key.clone(), waiting_on.into());
        }
    }

    fn place(&mut self, now: Timestamp) {
        if self.leader.unplaced.is_empty() {
            return self.set_unplaceable(BTreeMap::new());
        }
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
        self.record_unplaceable(now, &unplaceable);
        self.set_unplaceable(unplaceable);
        if placements.is_empty() {
            return;
        }
        match self.try_and_propose(Command::Place { placements, at: now }, Origin::Placement) {
            Ok(()) => self.leader.placing.in_flight = true,
            Err(error) => {
                tracing::debug!(%error, "placements could not be proposed");
                self.leader.placing.at_tick = true;
            }
        }
    }

    /// An event for each service that has no place for a replica now and had for all before. A new leader finds in the
    /// events what an earlier one said. Nothing is said while a node may still turn up: it is told once that is decided.
    fn record_unplaceable(&mut self, now: Timestamp, unplaceable: &BTreeMap<ServiceKey, Vec<WaitingOn>>) {
        self.leader.told_unplaceable.retain(|key| unplaceable.contains_key(key));
        if self.state.nodes().any(|node| node.down.is_none() && !self.observed.is_ready(node.info.id)) {
            return;
        }
        let mut events = Vec::new();
        for (key, waiting) in unplaceable {
            let Some(WaitingOn::Placement { slot, reason }) = waiting.first() else { continue };
            if self.leader.told_unplaceable.insert(key.clone()) && !self.is_told_unplaceable(key) {
                let kind = EventKind::ReplicaUnplaceable { slot: *slot, reason: reason.clone() };
                events.push(model::Event { at: now, service: Some(key.clone()), kind });
            }
        }
        if events.is_empty() {
            return;
        }
        if let Err(error) = self.try_and_propose(Command::Record { events }, Origin::Nobody) {
            tracing::warn!(%error, "that a service has no place could not be recorded");
        }
    }

    /// Whether the last that is told of the service's placing is that there is no place.
    fn is_told_unplaceable(&self, key: &ServiceKey) -> bool {
        let of_service = self.ahead().events().rev().filter(|event| event.service.as_ref() == Some(key));
        let mut placing = of_service.filter_map(|event| match event.kind {
            EventKind::ReplicaUnplaceable { .. } => Some(true),
            EventKind::ReplicaPlaced { .. } | EventKind::Applied { .. } => Some(false),
            _ => None,
        });
        placing.next().unwrap_or(false)
    }

    /// The services concerned are looked at again, for what they say they wait for.
    fn set_unplaceable(&mut self, unplaceable: BTreeMap<ServiceKey, Vec<WaitingOn>>) {
        let before = std::mem::replace(&mut self.leader.unplaceable, unplaceable);
        let now = &self.leader.unplaceable;
        let differs = |key: &&ServiceKey| before.get(*key) != now.get(*key);
        let touched: Vec<ServiceKey> = before.keys().chain(now.keys()).filter(differs).cloned().collect();
        self.leader.dirty.extend(touched);
    }

    pub(crate) fn plan_ended(&mut self, service: ServiceKey) {
        self.leader.in_flight.remove(&service);
        self.leader.dirty.insert(service);
    }

    pub(crate) fn placing_ended(&mut self) {
        self.leader.placing.in_flight = false;
    }

    pub(crate) fn place_again(&mut self) {
        self.leader.placing.again = true;
    }

    pub(crate) fn retry_placing(&mut self) {
        self.leader.placing.again |= std::mem::take(&mut self.leader.placing.at_tick);
    }

    pub(crate) fn mark_dirty(&mut self, services: impl IntoIterator<Item = ServiceKey>) {
        self.leader.dirty.extend(services);
    }

    /// What a command touched is looked at again, and the nodes concerned are told.
    pub(crate) fn take_changes(&mut self, changes: Changes) {
        if !self.leader.leads() {
            return;
        }
        // More room, other nodes, or one more to place.
        let mut places = !changes.forgotten.is_empty() || !changes.nodes.is_empty();
        for id in &changes.replicas {
            if self.state.replica(*id).is_some_and(|replica| is_unplaced(replica)) {
                self.leader.unplaced.insert(*id);
                places = true;
            } else {
                self.leader.unplaced.remove(id);
            }
        }
        for id in &changes.forgotten {
            self.leader.unplaced.remove(id);
            self.observed.forget(*id);
            self.forget_leaving(*id);
        }
        self.leader.placing.again |= places;
        self.mark_dirty(changes.services);
        let gone: Vec<NodeId> =
            changes.nodes.iter().filter(|node| self.state.node(**node).is_none()).copied().collect();
        gone.into_iter().for_each(|node| self.node_is_gone(node));
        self.tell_nodes(changes.nodes);
    }
}

fn is_unplaced(replica: &model::Replica) -> bool {
    replica.node.is_none() && replica.desired != Desired::Stopped
}
