//! What is known of one replica: what is desired of it, and what its node last said.

use model::{Desired, Millis, NodeId, Observed, Phase, Replica, ReplicaId, RevisionNumber, Slot, Timestamp};
use store::Observations;

use crate::stay::Stay;

/// One replica of a slot. `desired` is what it will be once the plan so far is committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) id: ReplicaId,
    pub(crate) slot: Slot,
    pub(crate) revision: RevisionNumber,
    pub(crate) desired: Desired,
    pub(crate) node: Option<NodeId>,
    pub(crate) created_at: Timestamp,
    /// Whether it may stay on its node.
    pub(crate) stay: Stay,
    /// Its node has no session: what was last said of it may not hold any more.
    pub(crate) silent: bool,
    /// Since when, if it was heard at all under this leader.
    pub(crate) silent_since: Option<Timestamp>,
    pub(crate) observed: Option<&'a Observed>,
}

impl<'a> Member<'a> {
    pub(crate) fn new(replica: &Replica, stay: Stay, observations: &'a Observations) -> Member<'a> {
        let report = replica.node.and_then(|node| observations.node(node));
        let silent = replica.node.is_some_and(|node| !observations.is_ready(node));
        Member {
            id: replica.id,
            slot: replica.slot,
            revision: replica.revision,
            desired: replica.desired,
            node: replica.node,
            created_at: replica.created_at,
            stay,
            silent,
            silent_since: report.filter(|_| silent).map(|report| report.since),
            observed: observations.replica(replica.id).map(|observed| &**observed),
        }
    }

    /// One that the plan creates: nothing can be known of it yet.
    pub(crate) fn created(
        id: ReplicaId,
        slot: Slot,
        revision: RevisionNumber,
        desired: Desired,
        now: Timestamp,
    ) -> Member<'a> {
        Member {
            id,
            slot,
            revision,
            desired,
            node: None,
            created_at: now,
            stay: Stay::Stays,
            silent: false,
            silent_since: None,
            observed: None,
        }
    }

    /// Not told to stop.
    pub(crate) fn is_kept(&self) -> bool {
        match self.desired {
            Desired::Prepared | Desired::Running => true,
            Desired::Stopped => false,
        }
    }

    /// Meant to run, not over and not lost: what counts against the surge.
    pub(crate) fn is_live(&self) -> bool {
        self.desired == Desired::Running && !self.has_ended() && !self.stay.is_lost()
    }

    /// None of its processes is left. Not so while nothing was observed.
    pub(crate) fn has_ended(&self) -> bool {
        self.observed.is_some_and(Observed::has_ended)
    }

    /// Nothing of it is on any node.
    pub(crate) fn is_gone(&self) -> bool {
        let was_never_anywhere = self.node.is_none() && !self.is_kept();
        was_never_anywhere || self.observed.is_some_and(|seen| seen.phase == Phase::Removed)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.observed.is_some_and(|seen| seen.phase == Phase::Failed)
    }

    /// Still on its way to starting, as far as anyone knows.
    pub(crate) fn is_being_prepared(&self) -> bool {
        self.observed.is_none_or(|seen| match seen.phase {
            Phase::Assigned | Phase::Preparing | Phase::Prepared => true,
            Phase::Running | Phase::Stopping | Phase::Completed | Phase::Failed | Phase::Removed => false,
        })
    }

    /// Image and sandbox were made ready; it can start at once, or did.
    pub(crate) fn is_prepared(&self) -> bool {
        self.observed.is_some_and(|seen| match seen.phase {
            Phase::Prepared | Phase::Running | Phase::Completed => !self.silent,
            Phase::Assigned | Phase::Preparing | Phase::Stopping | Phase::Failed | Phase::Removed => false,
        })
    }

    /// Since when it serves, as far as anyone knows: a replica of a silent node does not count.
    fn ready_since(&self) -> Option<Timestamp> {
        if self.silent || self.desired != Desired::Running {
            return None;
        }
        self.last_ready_since()
    }

    /// The same by what was last seen, however long ago.
    fn last_ready_since(&self) -> Option<Timestamp> {
        let seen = self.observed?;
        match seen.phase {
            Phase::Running => seen.ready_since,
            // It did all that it was there for.
            Phase::Completed => Some(seen.ready_since.unwrap_or_default()),
            Phase::Assigned
            | Phase::Preparing
            | Phase::Prepared
            | Phase::Stopping
            | Phase::Failed
            | Phase::Removed => None,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready_since().is_some()
    }

    /// When it has been ready for `min_ready`; none while it is not ready.
    pub(crate) fn available_from(&self, min_ready: Millis) -> Option<Timestamp> {
        let since = self.ready_since()?;
        let is_over = self.observed.is_some_and(|seen| seen.phase == Phase::Completed);
        Some(if is_over { since } else { since + min_ready })
    }

    /// Certainly serves nobody, so that stopping it costs nothing. A replica that nothing is known of, or whose
    /// node is silent after it was seen to serve, is not idle.
    pub(crate) fn is_idle(&self) -> bool {
        let was_seen_idle = self.observed.is_some() && self.last_ready_since().is_none();
        self.node.is_none()
            || self.desired == Desired::Prepared
            || self.has_failed()
            || (was_seen_idle && !self.silent)
    }

    /// Whether it was ever seen ready, be it for a moment.
    pub(crate) fn was_ever_ready(&self) -> bool {
        self.observed.is_some_and(|seen| seen.timeline.ready.is_some() || seen.ready_since.is_some())
    }
}
