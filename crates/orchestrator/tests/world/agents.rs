//! What goes on on the nodes, whether or not anyone hears of it.

use model::{Desired, Millis, OnPartition, Phase, Replica, Settings};

use crate::{World, support};

/// A lease may be given up to the moment at which a node falls silent, and what is killed at its end may take a while to go.
const GONE_AFTER_GRACE: Millis = Millis::from_secs(1);

impl World {
    /// Leases end with it.
    pub(crate) fn time_passes(&mut self, span: Millis) {
        self.cluster.now = self.cluster.now + span;
        for replica in self.told.values().cloned().collect::<Vec<_>>() {
            self.end_with_lease(&replica);
        }
    }

    /// Whether it stays away for the lack of a lease. What runs ends without anybody hearing of it.
    fn end_with_lease(&mut self, replica: &Replica) -> bool {
        let unheard = replica.node.and_then(|node| self.unheard_since.get(&node));
        let (Some(unheard), OnPartition::Stop) = (unheard, self.on_partition(replica)) else { return false };
        let lease = self.cluster.state.settings().node_lost_after;
        if self.cluster.now < *unheard + lease + Settings::LEASE_GRACE + GONE_AFTER_GRACE {
            return false;
        }
        if let Some(seen) = self.truth.get_mut(&replica.id).filter(|seen| seen.phase < Phase::Completed) {
            (seen.phase, seen.ready_since) = (Phase::Assigned, None);
        }
        true
    }

    pub(crate) fn on_partition(&self, replica: &Replica) -> OnPartition {
        let revision = self.cluster.state.revision(&self.service, replica.revision);
        revision.map_or(OnPartition::Continue, |revision| revision.template.on_partition)
    }

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
        if self.end_with_lease(replica) {
            return;
        }
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
