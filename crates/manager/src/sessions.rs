//! Agents: who has a session, what each was told, and what they say.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Assignment, Desired, Dispatch, Event, EventKind, NodeId, Phase, ReplicaId, ServiceKey, Timestamp,
};
use store::{Command, NodeStatus};

use crate::{Codec, Effect, Hello, Manager, Report, SessionId, log::Origin};

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: BTreeMap<SessionId, Session>,
    by_node: BTreeMap<NodeId, SessionId>,
    /// Nodes whose assignments may differ from what they were told.
    dirty: BTreeSet<NodeId>,
}

#[derive(Debug)]
struct Session {
    node: NodeId,
    sequence: u64,
    /// What the agent was told, to tell it only what changed; none before the full set was sent.
    told: Option<BTreeMap<ReplicaId, Desired>>,
}

impl Sessions {
    pub(crate) fn mark_dirty(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        self.dirty.extend(nodes);
    }

    pub(crate) fn all_dirty(&mut self) {
        self.dirty.extend(self.by_node.keys().copied());
    }
}

impl<C: Codec> Manager<C> {
    pub(crate) fn open_session(&mut self, now: Timestamp, session: SessionId, hello: Hello) {
        let node = hello.info.id;
        if !self.leader.leading {
            let reason = "this server does not lead the cluster".to_owned();
            return self.effects.push(Effect::CloseSession { session, reason });
        }
        if let Some(old) = self.sessions.by_node.insert(node, session) {
            self.sessions.open.remove(&old);
            let reason = "the node opened another session".to_owned();
            self.effects.push(Effect::CloseSession { session: old, reason });
        }
        self.sessions.open.insert(session, Session { node, sequence: 0, told: None });
        if self.state.node(node).is_none_or(|known| known.info != hello.info) {
            let register = Command::Register { info: hello.info, at: now };
            if let Err(error) = self.propose(register, Origin::Record) {
                return self.effects.push(Effect::CloseSession { session, reason: error.to_string() });
            }
        }
        self.observed.set_node(node, NodeStatus::Ready, now);
        self.observed.set_images(node, hello.images);
        self.observe(hello.observed);
        let services: Vec<ServiceKey> =
            self.state.replicas_on(node).map(|replica| replica.service.clone()).collect();
        self.mark_dirty(services);
        self.sessions.dirty.insert(node);
        self.place_again();
        self.view_changed = true;
    }

    pub(crate) fn report(&mut self, session: SessionId, report: Report) {
        let Some(node) = self.sessions.open.get(&session).map(|session| session.node) else { return };
        if let Some(images) = report.images {
            self.observed.set_images(node, images);
        }
        self.observe(report.observed);
        self.record_exits(report.exits);
        self.view_changed = true;
    }

    pub(crate) fn close_session(&mut self, now: Timestamp, session: SessionId) {
        let Some(closed) = self.sessions.open.remove(&session) else { return };
        if self.sessions.by_node.get(&closed.node) == Some(&session) {
            self.sessions.by_node.remove(&closed.node);
            self.observed.set_node(closed.node, NodeStatus::Unknown, now);
            let services: Vec<ServiceKey> =
                self.state.replicas_on(closed.node).map(|replica| replica.service.clone()).collect();
            self.mark_dirty(services);
            self.view_changed = true;
        }
    }

    fn observe(&mut self, observed: Vec<model::Observed>) {
        for one in observed {
            // An agent may still speak of what the state has forgotten: it will be told to drop it.
            let Some(service) = self.state.replica(one.replica).map(|replica| replica.service.clone()) else {
                continue;
            };
            let had_ended = self.observed.replica(one.replica).is_some_and(|seen| has_ended(seen.phase));
            if has_ended(one.phase) && !had_ended {
                // Its room on the node is free: another may fit now.
                self.place_again();
            }
            self.observed.observe(one);
            self.leader.dirty.insert(service);
        }
    }

    fn record_exits(&mut self, exits: Vec<Event>) {
        let known = |event: &Event| match &event.kind {
            EventKind::ContainerExited { replica, .. } => self.state.replica(*replica).is_some(),
            _ => false,
        };
        let events: Vec<Event> = exits.into_iter().filter(known).collect();
        if events.is_empty() {
            return;
        }
        if let Err(error) = self.propose(Command::Record { events }, Origin::Record) {
            tracing::warn!(%error, "exits of containers could not be recorded");
        }
    }

    /// Tells every dirty node what changed for it.
    pub(crate) fn dispatch(&mut self) {
        for node in std::mem::take(&mut self.sessions.dirty) {
            let Some(id) = self.sessions.by_node.get(&node).copied() else { continue };
            // Its registration may still be on the way to the log: it is told when that is applied.
            if self.state.node(node).is_none() {
                continue;
            }
            let Some(session) = self.sessions.open.get_mut(&id) else { continue };
            let wanted: BTreeMap<ReplicaId, Desired> =
                self.state.replicas_on(node).map(|replica| (replica.id, replica.desired)).collect();
            let Some(dispatch) = session.next_dispatch(&self.state, wanted) else { continue };
            self.effects.push(Effect::Dispatch { session: id, dispatch });
        }
    }
}

impl Session {
    fn next_dispatch(
        &mut self,
        state: &store::State,
        wanted: BTreeMap<ReplicaId, Desired>,
    ) -> Option<Dispatch> {
        let assignment = |id: &ReplicaId| assignment(state, *id);
        let sequence = self.sequence + 1;
        let dispatch = match &self.told {
            None => Dispatch::Full { sequence, assignments: wanted.keys().filter_map(assignment).collect() },
            Some(told) => {
                let differs = |(id, desired): &(&ReplicaId, &Desired)| told.get(id) != Some(desired);
                let changed: Vec<Assignment> =
                    wanted.iter().filter(differs).filter_map(|(id, _)| assignment(id)).collect();
                let removed: Vec<ReplicaId> =
                    told.keys().filter(|id| !wanted.contains_key(id)).copied().collect();
                if changed.is_empty() && removed.is_empty() {
                    return None;
                }
                Dispatch::Increment { follows: self.sequence, sequence, changed, removed }
            }
        };
        self.sequence = sequence;
        self.told = Some(wanted);
        Some(dispatch)
    }
}

/// Whether nothing of a replica runs any more.
fn has_ended(phase: Phase) -> bool {
    match phase {
        Phase::Assigned | Phase::Preparing | Phase::Prepared | Phase::Running | Phase::Stopping => false,
        Phase::Completed | Phase::Failed | Phase::Removed => true,
    }
}

fn assignment(state: &store::State, id: ReplicaId) -> Option<Assignment> {
    let replica = state.replica(id)?;
    let revision = state.revision(&replica.service, replica.revision)?;
    Some(Assignment {
        replica: id,
        service: replica.service.clone(),
        slot: replica.slot,
        revision: replica.revision,
        desired: replica.desired,
        template: revision.template.clone(),
    })
}
