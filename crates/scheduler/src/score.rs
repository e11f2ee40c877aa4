//! Which of the nodes that can take a replica should.

use model::{NodeId, RevisionNumber, ServiceKey};

use crate::{NodeView, Pending};

/// How bad a node is for a replica: the least is chosen, compared by member declaration order.
///
/// The revision comes before the service so that a rollout, whose old replicas are still around, ends as evenly
/// spread as it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    pub same_revision: u32,
    pub same_service: u32,
    /// The fuller of cpu and memory with the replica on it, in thousandths of the node's capacity.
    pub fullness_permille: u64,
    pub replicas: u32,
    pub node: NodeId,
}

impl Score {
    pub fn of(pending: &Pending, node: &NodeView, same: Same) -> Score {
        let then = node.allocated.plus(pending.wants_on(node.id));
        let cpu = permille(then.cpu.0, node.capacity.cpu.0);
        let memory = permille(then.memory.0, node.capacity.memory.0);
        Score {
            same_revision: same.revision,
            same_service: same.service,
            fullness_permille: cpu.max(memory),
            replicas: node.replicas,
            node: node.id,
        }
    }
}

/// A node that has none of something is as full as can be if any of it is used, and empty otherwise.
fn permille(used: u64, of: u64) -> u64 {
    match of {
        0 => u64::from(used > 0) * 1_000,
        of => used.saturating_mul(1_000) / of,
    }
}

/// How many replicas like the one to place a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Same {
    pub revision: u32,
    pub service: u32,
}

/// The same of every node, counted once for each run of replicas that are alike: looking it up for each would be
/// most of the cost of placing.
#[derive(Debug, Default)]
pub struct Crowd {
    counted_for: Option<(ServiceKey, RevisionNumber)>,
    on: Vec<Same>,
}

impl Crowd {
    pub fn count_for(&mut self, pending: &Pending, nodes: &[NodeView]) {
        let is_counted = self
            .counted_for
            .as_ref()
            .is_some_and(|(service, revision)| *service == pending.service && *revision == pending.revision);
        if is_counted {
            return;
        }
        self.on.clear();
        self.on.extend(nodes.iter().map(|node| {
            let revisions = node.replicas_of.get(&pending.service);
            let count = |revision| revisions.and_then(|of| of.get(revision)).copied().unwrap_or(0);
            Same { revision: count(&pending.revision), service: revisions.map_or(0, |of| of.values().sum()) }
        }));
        self.counted_for = Some((pending.service.clone(), pending.revision));
    }

    pub fn on(&self, node_index: usize) -> Same {
        self.on[node_index]
    }

    pub fn add(&mut self, node_index: usize) {
        self.on[node_index].revision += 1;
        self.on[node_index].service += 1;
    }
}
