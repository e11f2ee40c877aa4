//! Which nodes can take a replica, and why the others cannot.

use model::Unplaceable;

use crate::{NodeView, Pending};

/// Counts what ruled nodes out. A node that lacks both cpu and memory counts for both: giving it one would not help.
#[derive(Clone, Debug)]
pub struct Filtered {
    counts: Unplaceable,
}

impl Filtered {
    pub fn new(pending: &Pending, nodes: usize) -> Filtered {
        let counts = Unplaceable {
            nodes: u32::try_from(nodes).unwrap_or(u32::MAX),
            wants_cpu: pending.wants.cpu,
            wants_memory: pending.wants.memory,
            ..Unplaceable::default()
        };
        Filtered { counts }
    }

    /// Whether the node can take the replica.
    pub fn admits(&mut self, pending: &Pending, node: &NodeView) -> bool {
        let counts = &mut self.counts;
        // First what no waiting would change.
        if let Some((key, value)) = pending.rules.lacking(&node.labels) {
            *counts.lacking.entry(format!("{key}={value}")).or_default() += 1;
            return false;
        }
        if !node.open {
            counts.cordoned += 1;
            return false;
        }
        if !node.ready {
            counts.not_ready += 1;
            return false;
        }
        if node.level < pending.needs {
            counts.too_old += 1;
            return false;
        }
        let (free, wants) = (node.free(), pending.wants_on(node.id));
        counts.most_free_cpu = counts.most_free_cpu.max(free.cpu);
        counts.most_free_memory = counts.most_free_memory.max(free.memory);
        let has_cpu = wants.cpu <= free.cpu;
        let has_memory = wants.memory <= free.memory;
        counts.too_little_cpu += u32::from(!has_cpu);
        counts.too_little_memory += u32::from(!has_memory);
        has_cpu && has_memory
    }

    pub fn explain(self) -> Unplaceable {
        self.counts
    }
}
