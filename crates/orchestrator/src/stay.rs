//! Whether a replica may stay on its node: what a drain, a label or the loss of the node means for it.
//!
//! A replica that is to leave is treated like one of an old revision: its replacement comes first, with the same
//! surge, order and promise as in a rollout. While a rollout is paused nothing is brought to another node before it has
//! to be: what should run there is just what a person is to decide.
//!
//! One whose node is lost counts for nothing: it is no part of the surge, and keeps up nobody. But it may well run and
//! serve, unheard. So it is told to stop only once its replacement serves, or with stop-first is prepared; a node that
//! is back before that goes on with what it has, and the replacement goes instead. Where nothing can be replaced, such as
//! on the only node, an agent that was away for long so restarts nothing.
//!
//! A node is lost for a service its own delay after it was declared down. For `onPartition: stop` that is also the
//! end of the lease that the node may hold, reckoned from when *this* leader began to miss the node: clocks of two
//! machines are never compared. Nothing of the replica runs then, and it is given up at once, for good.

use model::{Millis, NodeId, OnPartition, Replica, Scheduling, Service, Settings, StopReason, Timestamp};
use store::{Observations, State};

use crate::{draft::Draft, member::Member};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// Nothing speaks against it.
    Stays,
    /// Its node is drained: it goes once it is replaced, and at the deadline in any case.
    Drained { node: NodeId, deadline: Option<Timestamp> },
    /// Its node lacks a label that the service asks for: it goes once it is replaced.
    Misplaced { node: NodeId },
    /// Its node is down, and has until then for what is awaited.
    Awaited { until: Timestamp, what: Awaited },
    /// Its node is down, and it may be running there.
    Lost { node: NodeId },
    /// Its node is down, and has stopped it by itself.
    Ended { node: NodeId },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    Return,
    LeaseEnd,
}

impl Stay {
    pub(crate) fn of(
        state: &State,
        observations: &Observations,
        service: &Service,
        replica: &Replica,
        now: Timestamp,
    ) -> Stay {
        let Some(node) = replica.node.and_then(|node| state.node(node)) else { return Stay::Stays };
        let id = node.info.id;
        if let (Some(down), Some(silent_since)) = (node.down, observations.silent_since(id)) {
            let back_by = down.since + service.spec.node_loss.replace_after;
            let revision = state.revision(&service.key, replica.revision);
            return match revision.map(|revision| revision.template.on_partition) {
                Some(OnPartition::Stop) => {
                    let longest = state.settings().longest_lease;
                    ended_with_its_lease(id, back_by, silent_since, longest, now)
                }
                Some(OnPartition::Continue) | None if back_by <= now => Stay::Lost { node: id },
                Some(OnPartition::Continue) | None => Stay::Awaited { until: back_by, what: Awaited::Return },
            };
        }
        match node.scheduling {
            Scheduling::Draining { deadline, .. } => Stay::Drained { node: id, deadline },
            Scheduling::Open | Scheduling::Cordoned { .. } => {
                match service.spec.placement.lacking(&node.effective_labels()) {
                    Some(_) => Stay::Misplaced { node: id },
                    None => Stay::Stays,
                }
            }
        }
    }

    /// Whether its slot is to be filled elsewhere.
    pub(crate) fn leaves(self) -> bool {
        match self {
            Stay::Drained { .. } | Stay::Misplaced { .. } | Stay::Lost { .. } | Stay::Ended { .. } => true,
            Stay::Stays | Stay::Awaited { .. } => false,
        }
    }

    /// Whether its node is lost, so that it counts for nothing.
    pub(crate) fn is_lost(self) -> bool {
        match self {
            Stay::Lost { .. } | Stay::Ended { .. } => true,
            Stay::Stays | Stay::Awaited { .. } | Stay::Drained { .. } | Stay::Misplaced { .. } => false,
        }
    }

    /// When something changes though nothing happens.
    pub(crate) fn changes_at(self) -> Option<Timestamp> {
        match self {
            Stay::Drained { deadline, .. } => deadline,
            Stay::Awaited { until, .. } => Some(until),
            Stay::Stays | Stay::Misplaced { .. } | Stay::Lost { .. } | Stay::Ended { .. } => None,
        }
    }

    /// Why it is stopped where it is, if it is not for its revision.
    pub(crate) fn stop_reason(self) -> Option<StopReason> {
        match self {
            Stay::Drained { node, .. } => Some(StopReason::NodeDrained { node }),
            Stay::Misplaced { node } => Some(StopReason::Misplaced { node }),
            Stay::Lost { node } | Stay::Ended { node } => Some(StopReason::NodeDown { node }),
            Stay::Stays | Stay::Awaited { .. } => None,
        }
    }
}

fn ended_with_its_lease(
    node: NodeId,
    back_by: Timestamp,
    silent_since: Timestamp,
    longest_lease: Millis,
    now: Timestamp,
) -> Stay {
    let lease_end = silent_since + longest_lease + Settings::LEASE_MARGIN;
    match (back_by.max(lease_end), lease_end > back_by) {
        (until, _) if until <= now => Stay::Ended { node },
        (until, true) => Stay::Awaited { until, what: Awaited::LeaseEnd },
        (until, false) => Stay::Awaited { until, what: Awaited::Return },
    }
}

/// Stops what should have left by now, and gives up what has ended with its node.
pub(crate) fn give_up(draft: &mut Draft<'_>) {
    let overdue: Vec<(Member<'_>, StopReason)> = draft
        .members()
        .filter(|member| member.is_kept() && is_overdue(member, draft.now))
        .filter_map(|member| Some((*member, member.stay.stop_reason()?)))
        .collect();
    for (member, reason) in overdue {
        draft.stop(&member, reason);
    }
}

fn is_overdue(member: &Member<'_>, now: Timestamp) -> bool {
    match member.stay {
        Stay::Ended { .. } => true,
        Stay::Drained { deadline, .. } => deadline.is_some_and(|deadline| deadline <= now),
        Stay::Lost { .. } | Stay::Misplaced { .. } | Stay::Awaited { .. } | Stay::Stays => false,
    }
}
