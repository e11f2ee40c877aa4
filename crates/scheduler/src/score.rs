//! Which of the nodes that can take a replica should.

use std::collections::BTreeMap;

use model::{NodeId, RevisionNumber, ServiceKey};

use crate::{NodeView, Pending};

/// How bad a node is for a replica: the least is chosen, compared by member declaration order.
///
/// The revision comes before the service so that a rollout, whose old replicas are still around, ends as evenly
/// spread as it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// On all nodes that have the same value of the label that the service is to be spread over.
    pub in_domain: Same,
    pub on_node: Same,
    /// The fuller of cpu and memory with the replica on it, in thousandths of the node's capacity.
    pub fullness_permille: u64,
    pub replicas: u32,
    pub node: NodeId,
}

impl Score {
    pub fn of(pending: &Pending, node: &NodeView, crowded: Crowded) -> Score {
        let then = node.allocated.plus(pending.wants_on(node.id));
        let cpu = permille(then.cpu.0, node.capacity.cpu.0);
        let memory = permille(then.memory.0, node.capacity.memory.0);
        Score {
            in_domain: crowded.in_domain,
            on_node: crowded.on_node,
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

/// How many replicas are like the one to place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Same {
    pub revision: u32,
    pub service: u32,
}

/// The same of a node, and of all nodes of its domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowded {
    pub in_domain: Same,
    pub on_node: Same,
}

/// The same of every node, counted once for each run of replicas that are alike: looking it up for each would be
/// most of the cost of placing.
#[derive(Debug, Default)]
pub struct Crowd {
    counted_for: Option<(ServiceKey, RevisionNumber)>,
    on: Vec<Same>,
    /// The domain of each node; empty where the service is not to be spread over a label.
    domain_of: Vec<usize>,
    in_domain: Vec<Same>,
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
        self.count_domains(pending, nodes);
        self.counted_for = Some((pending.service.clone(), pending.revision));
    }

    fn count_domains(&mut self, pending: &Pending, nodes: &[NodeView]) {
        self.domain_of.clear();
        self.in_domain.clear();
        let Some(label) = &pending.rules.spread else { return };
        let mut known: BTreeMap<Option<&str>, usize> = BTreeMap::new();
        for (node, same) in nodes.iter().zip(&self.on) {
            let next = known.len();
            let domain = *known.entry(node.labels.get(label).map(String::as_str)).or_insert(next);
            self.domain_of.push(domain);
            if domain == self.in_domain.len() {
                self.in_domain.push(Same::default());
            }
            self.in_domain[domain].revision += same.revision;
            self.in_domain[domain].service += same.service;
        }
    }

    pub fn on(&self, node_index: usize) -> Crowded {
        let domain = self.domain_of.get(node_index);
        let in_domain = domain.map(|domain| self.in_domain[*domain]).unwrap_or_default();
        Crowded { in_domain, on_node: self.on[node_index] }
    }

    pub fn add(&mut self, node_index: usize) {
        self.on[node_index].add();
        if let Some(domain) = self.domain_of.get(node_index) {
            self.in_domain[*domain].add();
        }
    }
}

impl Same {
    fn add(&mut self) {
        self.revision += 1;
        self.service += 1;
    }
}
