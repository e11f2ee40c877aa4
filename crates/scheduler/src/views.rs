//! What the scheduler needs to know, from the store and from what agents said.
//!
//! A replica takes its share of a node from its placement until it has ended there, and whatever is desired of it: a
//! replica that is stopping still needs its memory.

use std::collections::BTreeMap;

use model::{
    Desired, Level, MilliCpu, Node, NodeId, PlacementRules, Replica, ReplicaTemplate, RevisionNumber,
};
use store::{Observations, State};

use crate::{Amount, NodeView, Pending};

/// What is to be placed, the longest waiting first, and where it could go.
pub fn views(state: &State, observed: &Observations) -> (Vec<Pending>, Vec<NodeView>) {
    let nodes = state.nodes().map(|node| (node.info.id, empty(node, observed))).collect();
    let mut views = Views { observed, nodes, waiting: Vec::new() };
    for service in state.services() {
        let demands: BTreeMap<RevisionNumber, Demand> = state
            .revisions(&service.key)
            .map(|revision| (revision.number, Demand::of(&revision.template)))
            .collect();
        let of = |replica: &Replica| demands.get(&replica.revision).copied().unwrap_or_default();
        let replicas: Vec<(&Replica, Demand)> =
            state.replicas_of(&service.key).map(|replica| (&**replica, of(replica))).collect();
        for slot in replicas.chunk_by(|(a, _), (b, _)| a.slot == b.slot) {
            views.add_slot(&service.spec.placement, slot);
        }
    }
    let mut waiting = views.waiting;
    waiting
        .sort_by_key(|(replica, _)| (replica.created_at, replica.service.clone(), replica.slot, replica.id));
    let pending = waiting.into_iter().map(|(_, pending)| pending).collect();
    (pending, views.nodes.into_values().collect())
}

/// What the replicas of one revision ask of a node.
#[derive(Clone, Copy, Default)]
struct Demand {
    needs: Level,
    wants: Amount,
}

impl Demand {
    fn of(template: &ReplicaTemplate) -> Demand {
        Demand { needs: template.needs(), wants: demand(template) }
    }
}

struct Views<'a> {
    observed: &'a Observations,
    nodes: BTreeMap<NodeId, NodeView>,
    waiting: Vec<(&'a Replica, Pending)>,
}

impl<'a> Views<'a> {
    /// Adds the replicas of one slot, each with what it asks for.
    ///
    /// One that is only prepared waits for those of its slot that run to end, and takes over their room on its node.
    /// So a stop-first rollout needs no room for both on a node that is full.
    ///
    /// One that is stopped before it ever started may itself have been promised the room of another, so it has none to
    /// leave: who comes after it waits until it is gone. Nor has one of which its node says nothing, though it keeps what it may
    /// have: it may have ended long ago, and its room be another's.
    fn add_slot(&mut self, rules: &PlacementRules, slot: &[(&'a Replica, Demand)]) {
        let leaves_room = |replica: &Replica| match replica.desired {
            Desired::Prepared => false,
            Desired::Running => is_seen(replica, self.observed) && !has_ended(replica, self.observed),
            Desired::Stopped => has_started(replica, self.observed) && !has_ended(replica, self.observed),
        };
        let held: Vec<(NodeId, Amount)> = slot
            .iter()
            .filter(|(replica, _)| leaves_room(replica))
            .filter_map(|(replica, demand)| Some((replica.node?, demand.wants)))
            .collect();
        for (replica, Demand { needs, wants }) in slot {
            let pending = Pending {
                replica: replica.id,
                service: replica.service.clone(),
                revision: replica.revision,
                rules: rules.clone(),
                needs: *needs,
                wants: *wants,
                frees: match replica.desired {
                    Desired::Prepared => held.clone(),
                    Desired::Running | Desired::Stopped => Vec::new(),
                },
            };
            match replica.node {
                Some(node) => self.charge(node, replica, pending.wants_on(node)),
                None if replica.desired != Desired::Stopped => self.waiting.push((replica, pending)),
                None => {}
            }
        }
    }

    fn charge(&mut self, node: NodeId, replica: &Replica, share: Amount) {
        let Some(view) = self.nodes.get_mut(&node) else { return };
        if !has_ended(replica, self.observed) {
            view.allocated = view.allocated.plus(share);
        }
        if replica.desired != Desired::Stopped {
            view.replicas += 1;
            let revisions = view.replicas_of.entry(replica.service.clone()).or_default();
            *revisions.entry(replica.revision).or_default() += 1;
        }
    }
}

/// What is reserved for one replica. Init containers run before the others, one at a time.
pub fn demand(template: &ReplicaTemplate) -> Amount {
    let of = |container: &model::ContainerSpec| Amount {
        cpu: container.resources.cpu.unwrap_or(MilliCpu(0)),
        memory: container.resources.memory,
    };
    let together =
        template.sidecars.iter().chain([&template.main]).map(of).fold(Amount::NOTHING, Amount::plus);
    template.init.iter().map(of).fold(together, Amount::at_least)
}

fn empty(node: &Node, observed: &Observations) -> NodeView {
    NodeView {
        id: node.info.id,
        ready: observed.is_ready(node.info.id),
        open: node.scheduling.is_open(),
        level: observed.node(node.info.id).map(|report| report.level).unwrap_or_default(),
        labels: node.effective_labels(),
        capacity: Amount { cpu: node.info.cpu, memory: node.info.memory },
        allocated: Amount::NOTHING,
        replicas_of: BTreeMap::new(),
        replicas: 0,
    }
}

fn is_seen(replica: &Replica, observed: &Observations) -> bool {
    observed.replica(replica.id).is_some()
}

/// Known to have had its turn. What was not seen yet may have had none.
fn has_started(replica: &Replica, observed: &Observations) -> bool {
    observed.replica(replica.id).is_some_and(|seen| seen.timeline.started.is_some())
}

fn has_ended(replica: &Replica, observed: &Observations) -> bool {
    observed.replica(replica.id).is_some_and(|seen| seen.has_ended())
}
