//! Lost nodes: one is given up when the server that does so has not heard it for as long as the settings say, and what runs
//! there is replaced as long after that as its service waits. Both in the world's time, whatever any clock shows.
//!
//! A wait that a user asks for after the node was lost is by the cluster's time, which may have been set meanwhile, since
//! nothing was measured by it: nobody is held to that.
//!
//! That what is given up comes back in the end is for [`super::rest`] to see.

use std::collections::{BTreeMap, BTreeSet};

use model::{Desired, Millis, NodeId, Replica, ReplicaId, Service, ServiceKey, StopReason};
use store::{Command, NodeChange, State, Step};

use super::spans::SLACK;
use crate::world::World;

/// How long each service waited for a node when that was given up last.
#[derive(Debug, Default)]
pub(crate) struct Losses(BTreeMap<NodeId, BTreeMap<ServiceKey, Millis>>);

impl World {
    /// `decider` decides this, and nobody did before it.
    pub(crate) fn check_losses(&mut self, decider: usize, before: &State, command: &Command) {
        match command {
            Command::Node { node, change: NodeChange::Down { .. }, .. } => {
                self.check_given_up(decider, before, *node);
                let waits = before.services().map(|one| (one.key.clone(), one.spec.node_loss.replace_after));
                self.losses.0.insert(*node, waits.collect());
            }
            Command::Progress { service, steps, .. } => {
                if let Some(service) = before.service(service) {
                    self.check_replaced(before, service, steps);
                }
            }
            _ => {}
        }
    }

    fn check_given_up(&mut self, decider: usize, before: &State, node: NodeId) {
        let server = &self.servers[decider];
        let began = server.heard_at(node).max(server.leads_since);
        let lost_after = before.settings().node_lost_after;
        if self.cx.now.since(began) + SLACK < lost_after {
            let detail =
                format!("server {decider} gives up node {} after {}", node.0, self.cx.now.since(began));
            self.cx.violate("a node is given up when it was not heard for so long", detail);
        }
    }

    fn check_replaced(&mut self, before: &State, service: &Service, steps: &[Step]) {
        let stopped: BTreeSet<ReplicaId> = steps.iter().filter_map(stops_for_itself).collect();
        let here = || before.replicas_of(&service.key);
        for step in steps {
            let replaced: Vec<&Replica> = match step {
                Step::Create { slot, revision, .. } => here()
                    .filter(|one| one.slot == *slot && one.revision == *revision)
                    .filter(|one| one.desired != Desired::Stopped && !stopped.contains(&one.id))
                    .map(|one| &**one)
                    .collect(),
                Step::Stop { id, reason: StopReason::NodeDown { .. } } => {
                    here().filter(|one| one.id == *id).map(|one| &**one).collect()
                }
                _ => continue,
            };
            if let Some(early) = replaced.into_iter().find(|one| self.is_awaited(before, service, one)) {
                let detail = format!("{} of {}", early.id, service.key);
                self.cx.violate("what runs on a lost node is replaced when it was waited for", detail);
            }
        }
    }

    /// Whether its node is down, and the service still waits for it.
    fn is_awaited(&self, before: &State, service: &Service, replica: &Replica) -> bool {
        let Some(node) = replica.node else { return false };
        let down = before.node(node).and_then(|node| node.down);
        let given_up = down.and_then(|down| self.spans.decided_at(down.since));
        let waited = self.losses.0.get(&node).and_then(|waits| waits.get(&service.key)).copied();
        let waits = service.spec.node_loss.replace_after.min(waited.unwrap_or_default());
        given_up.is_some_and(|at| at + waits > self.cx.now + SLACK)
    }
}

/// What a plan stops for another reason than its node is not replaced because of that.
fn stops_for_itself(step: &Step) -> Option<ReplicaId> {
    match step {
        Step::Stop { id, reason } if !matches!(reason, StopReason::NodeDown { .. }) => Some(*id),
        _ => None,
    }
}
