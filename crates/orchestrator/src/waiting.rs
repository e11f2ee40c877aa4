//! What is not done yet, why, and when to look again.

use model::{Desired, Millis, OnFailure, RolloutPhase, Slot, Timestamp, WaitingOn};

use crate::{
    draft::Draft,
    failure,
    member::Member,
    rollout::{all_olds, silent_too_long_from},
    scale::{REPLACE_FAILED_AFTER, replaced_from},
    stay::{Awaited, Stay},
};

/// Everything that the service waits for once the plan is committed.
///
/// Slots that merely wait for their turn are not listed: what the slots before them wait for explains it.
pub(crate) fn waiting_on(draft: &Draft<'_>) -> Vec<WaitingOn> {
    let mut waiting = Vec::new();
    if let RolloutPhase::Paused { reason, .. } = &draft.rollout.phase {
        waiting.push(WaitingOn::Decision { reason: reason.clone() });
    }
    if draft.is_held_by_promise {
        let (ready, must_be) = (draft.available(), draft.limits.must_be_available());
        waiting.push(WaitingOn::Availability { ready, must_be });
    }
    for slot in draft.wanted_slots() {
        waiting.extend(draft.successor(slot).and_then(|new| on_successor(draft, slot, &new)));
    }
    waiting.extend(draft.members().filter(|member| !member.is_kept()).map(on_stopping));
    waiting
}

fn on_successor(draft: &Draft<'_>, slot: Slot, new: &Member<'_>) -> Option<WaitingOn> {
    let node = new.node?;
    if draft.is_available(new) {
        return None;
    }
    if let Stay::Awaited { until, what } = new.stay {
        return Some(match what {
            Awaited::Return => WaitingOn::NodeReturn { slot, node, until },
            Awaited::LeaseEnd => WaitingOn::Lease { slot, node, until },
        });
    }
    if new.silent {
        return Some(WaitingOn::Node { slot, node });
    }
    if let Some(until) = new.available_from(draft.service.spec.update.min_ready) {
        return Some(WaitingOn::MinReady { slot, until });
    }
    let message = new.observed.and_then(|seen| seen.message.clone());
    if new.desired == Desired::Prepared && new.is_prepared() {
        // Its turn comes when the old one has ended or may stop; both are listed as such.
        return None;
    }
    if new.is_being_prepared() {
        return Some(WaitingOn::Preparation { slot, node, message });
    }
    if new.has_failed() {
        let message = Some(failure::why_failed(draft, new));
        let (since, deadline) = (new.created_at, new.created_at + REPLACE_FAILED_AFTER);
        return Some(WaitingOn::Readiness { slot, since, deadline, message });
    }
    let started = new.observed.and_then(|seen| seen.timeline.started).unwrap_or(new.created_at);
    let deadline = started + draft.service.spec.update.healthy_deadline;
    Some(WaitingOn::Readiness { slot, since: started, deadline, message })
}

fn on_stopping(member: &Member<'_>) -> WaitingOn {
    match member.node {
        Some(node) if member.silent => WaitingOn::Node { slot: member.slot, node },
        Some(_) | None => WaitingOn::Stop { slot: member.slot, revision: member.revision },
    }
}

/// The earliest time at which the answer may change though nothing happens.
pub(crate) fn wake_at(draft: &Draft<'_>) -> Option<Timestamp> {
    if draft.service.deleting_since.is_some() {
        return None;
    }
    let min_ready: Millis = draft.service.spec.update.min_ready;
    let available = draft.members().filter_map(|member| member.available_from(min_ready));
    let replaced = draft.wanted_slots().filter_map(|slot| replaced_from(draft, slot));
    let silent = if draft.is_held_by_promise { all_olds(draft) } else { Vec::new() };
    let silent = silent.iter().filter_map(silent_too_long_from);
    let leaving = draft.members().filter(|m| m.is_kept()).filter_map(|m| m.stay.changes_at());
    available
        .chain(replaced)
        .chain(silent)
        .chain(leaving)
        .chain(deadlines(draft))
        .filter(|&at| at > draft.now)
        .min()
}

/// The deadlines that end a rollout, where they have a consequence.
fn deadlines(draft: &Draft<'_>) -> Vec<Timestamp> {
    let policy = &draft.service.spec.update;
    let progress = draft.rollout.progress_due(policy.progress_deadline);
    match draft.rollout.phase {
        RolloutPhase::Progressing if policy.on_failure != OnFailure::Continue => {
            let successors = draft.wanted_slots().filter_map(|slot| draft.successor(slot));
            let new = successors.filter(|new| failure::is_new(draft, new));
            let healthy = new.filter_map(|new| failure::healthy_due(draft, &new).map(|(_, due)| due));
            healthy.chain([progress]).collect()
        }
        RolloutPhase::RollingBack { .. } => vec![progress],
        RolloutPhase::Progressing
        | RolloutPhase::Completed { .. }
        | RolloutPhase::RolledBack { .. }
        | RolloutPhase::Paused { .. } => Vec::new(),
    }
}
