//! What each node is told to have: its full set of assignments when a session opens, then what changes, each naming what it
//! follows. Both are made of what was committed.
//!
//! A leader that was cut off and does not know it yet could tell an agent what was true long ago, and the agent would stop
//! what has been started since. So the full set waits until a quorum has confirmed, after the session was opened, that
//! this server leads. Where this leader has just decided to stop something there, as it does of a node that is lost, the full
//! set waits for that too. The increments need no such word: without a quorum nothing new is committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use consensus::Index;
use model::{Assignment, Desired, Dispatch, NodeId, Replica, ReplicaId, Timestamp};
use store::State;

use super::Session;
use crate::{Codec, Effect, Manager};

impl<C: Codec> Manager<C> {
    pub(crate) fn tell_nodes(&mut self, nodes: BTreeSet<NodeId>) {
        self.directory.touch(nodes.iter().copied());
        self.sessions.dirty.extend(nodes);
    }

    /// Tells every dirty node what changed for it, and all of them what changed in the directory; then it is said who was
    /// heard.
    pub(crate) fn dispatch(&mut self, now: Timestamp) {
        self.refresh_directory();
        self.tell_directory();
        self.see_who_left(now);
        for node in std::mem::take(&mut self.sessions.dirty) {
            let Some(id) = self.sessions.by_node.get(&node).copied() else { continue };
            // Its registration may still be on the way to the log: it is told when that is applied.
            if self.state.node(node).is_none() && self.state.node_removed_at(node).is_none() {
                continue;
            }
            let Some(session) = self.sessions.open.get(&id).filter(|open| open.is_confirmed) else {
                continue;
            };
            let told = |id: &ReplicaId| session.told.as_ref()?.get(id).copied();
            let replicas: Vec<_> = self
                .state
                .replicas_on(node)
                .map(|replica| (Arc::clone(replica), told(&replica.id)))
                .collect();
            let wanted: BTreeMap<ReplicaId, Desired> = replicas
                .into_iter()
                .map(|(replica, told)| (replica.id, self.told_to_be(now, &replica, told)))
                .collect();
            let Some(session) = self.sessions.open.get_mut(&id) else { continue };
            let Some(dispatch) = session.next_dispatch(&self.state, wanted) else { continue };
            self.effects.push(Effect::Dispatch { session: id, dispatch });
        }
        self.answer_heartbeats();
    }

    /// Up to where the log has to be applied until nothing on its way through it stops what the node has.
    pub(super) fn stops_up_to(&self, node: NodeId) -> Index {
        let runs = |replica: &Replica| replica.desired != Desired::Stopped;
        let stops = |replica: &Arc<Replica>| {
            runs(replica) && !self.ahead().replica(replica.id).is_some_and(|ahead| runs(ahead))
        };
        if self.state.replicas_on(node).any(stops) { self.next_index() - 1 } else { 0 }
    }
}

impl Session {
    fn next_dispatch(&mut self, state: &State, wanted: BTreeMap<ReplicaId, Desired>) -> Option<Dispatch> {
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

fn assignment(state: &State, id: ReplicaId) -> Option<Assignment> {
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
