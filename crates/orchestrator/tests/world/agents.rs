//! What goes on on the nodes, whether or not anyone hears of it.

use model::{Desired, Phase, Replica};

use crate::{World, support};

impl World {
    /// Something happens to about half of the replicas.
    pub(crate) fn agents_act(&mut self) {
        for replica in self.told.values().cloned().collect::<Vec<_>>() {
            if self.below(2) == 0 {
                let luck = self.below(500);
                self.act(&replica, luck);
            }
        }
    }

    /// One thing happens to a replica. `luck` below 10 is bad luck; revisions 5 to 7 are bad of themselves.
    pub(crate) fn act(&mut self, replica: &Replica, luck: u64) {
        let now = self.cluster.now;
        let template = self.cluster.state.revision(&self.service, replica.revision).cloned();
        let nonce = template.map_or(0, |revision| revision.template.restart_nonce);
        let seen = self.truth.entry(replica.id).or_insert_with(|| support::unseen(replica.id));
        match (replica.desired, seen.phase) {
            (_, Phase::Removed) => {}
            (Desired::Stopped, Phase::Running) => support::stopping(seen, now),
            (Desired::Stopped, _) => support::removed(seen, now),
            (_, Phase::Assigned) => seen.phase = Phase::Preparing,
            (_, Phase::Preparing) if luck == 0 => support::failed(seen, now, 0),
            (_, Phase::Preparing) => support::prepared(seen, now),
            (Desired::Prepared, _) => {}
            (Desired::Running, Phase::Prepared) => support::started(seen, now),
            (Desired::Running, Phase::Running) => match (luck, nonce) {
                (0, _) => support::removed(seen, now),
                (1, _) => support::failed(seen, now, 1),
                (2..=4, _) | (_, 5 | 6) => {
                    support::restarted(seen, now);
                    support::crashed(seen, now, 1);
                }
                (5..=9, _) | (_, 7) => seen.ready_since = None,
                _ => support::ready(seen, now),
            },
            (Desired::Running, Phase::Stopping | Phase::Completed | Phase::Failed) => {}
        }
        let seen = seen.clone();
        let is_known = self.cluster.state.replica(replica.id).is_some();
        if is_known && replica.node.is_some_and(|node| self.cluster.observed.is_ready(node)) {
            self.cluster.observed.observe(seen);
        }
        self.check_exclusive();
    }
}
