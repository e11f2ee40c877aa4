//! From one revision to another: which old replica may stop, and which new one may come.
//!
//! Start-first doubles up to `max_surge` slots, and stops the old replica of a slot when the new one is available.
//! Stop-first prepares new replicas (images, sandbox), stops the old one of a slot as availability allows, and
//! starts the new one when the old one has ended. Both count replicas, not slots: a slot whose two replicas are
//! both available makes up for another that has none.
//!
//! A rollback is the same with another target, and so is a rollout that was superseded: whatever is not of the
//! target is old. So is what is to leave its node, whatever its revision ([`crate::stay`]).

use model::{Desired, IdSource, Millis, RolloutPhase, Slot, StopReason, Timestamp, UpdateOrder};

use crate::{draft::Draft, failure, member::Member};

/// Each further replica that becomes available at the target starts the progress deadline anew. So does one that serves
/// there and leaves its node: that is no fault of the rollout, and takes its time.
pub(crate) fn note_progress(draft: &mut Draft<'_>) {
    let available = draft.available_at_target();
    let gave_way = std::mem::take(&mut draft.gave_way);
    if !draft.rollout.phase.is_over() && (available > draft.rollout.available || gave_way) {
        draft.progressed(available);
    }
}

/// A node that said nothing for so long is not waited for where a rollout can do without it.
const SILENT_TOO_LONG: Millis = Millis::from_secs(30);

/// Stops every old replica that may stop now.
pub(crate) fn retire(draft: &mut Draft<'_>) {
    let mut available = draft.available();
    for old in all_olds(draft) {
        match may_retire(draft, &old, available) {
            Leave::Now => {
                available -= u32::from(draft.is_available(&old));
                let reason = stop_reason(draft, &old);
                draft.stop(&old, reason);
            }
            Leave::HeldByPromise => draft.is_held_by_promise = true,
            Leave::NotYet => {}
        }
    }
    if draft.gave_way {
        note_progress(draft);
    }
    retire_silent(draft, available);
}

/// Stops old replicas of nodes that are silent for long, where enough others serve without them.
///
/// Only if the promise holds something up: the last surge may have gone to a slot whose old replica now makes up for
/// the silent one, and then neither could ever be replaced. That slot being vacant needs no surge.
fn retire_silent(draft: &mut Draft<'_>, available: u32) {
    if !draft.is_held_by_promise || available < draft.limits.must_be_available() {
        return;
    }
    for old in all_olds(draft) {
        if silent_too_long_from(&old).is_some_and(|from| from <= draft.now) {
            let reason = stop_reason(draft, &old);
            draft.stop(&old, reason);
        }
    }
}

/// From when on the node of a replica counts as silent for too long. None for a node that this leader never heard.
pub(crate) fn silent_too_long_from(member: &Member<'_>) -> Option<Timestamp> {
    member.silent_since.map(|since| since + SILENT_TOO_LONG)
}

/// The old replicas of wanted slots, as they are before any of them is stopped.
pub(crate) fn all_olds<'a>(draft: &Draft<'a>) -> Vec<Member<'a>> {
    draft.wanted_slots().flat_map(|slot| draft.olds(slot).copied().collect::<Vec<_>>()).collect()
}

/// Whether an old replica may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Now,
    /// Its slot could do without it, but the service could not.
    HeldByPromise,
    /// What is to take its place is not ready for that.
    NotYet,
}

fn may_retire(draft: &Draft<'_>, old: &Member<'_>, available: u32) -> Leave {
    if old.is_idle() {
        return Leave::Now;
    }
    let is_covered = draft.slot(old.slot).iter().any(|other| other.id != old.id && draft.is_available(other));
    let is_replaceable = match draft.limits.order {
        UpdateOrder::StartFirst => is_covered,
        UpdateOrder::StopFirst => {
            is_covered || draft.successor(old.slot).is_some_and(|new| new.is_prepared())
        }
    };
    let left = available - u32::from(draft.is_available(old));
    match is_replaceable {
        true if old.stay.is_lost() => Leave::Now,
        true if left >= draft.limits.must_be_available() => Leave::Now,
        true => Leave::HeldByPromise,
        false => Leave::NotYet,
    }
}

fn stop_reason(draft: &Draft<'_>, old: &Member<'_>) -> StopReason {
    if old.revision == draft.target || old.stay.is_lost() {
        return old.stay.stop_reason().unwrap_or(StopReason::Surplus);
    }
    let is_what_failed = match draft.rollout.phase {
        RolloutPhase::RollingBack { .. } => old.revision == draft.rollout.to,
        RolloutPhase::Progressing
        | RolloutPhase::Completed { .. }
        | RolloutPhase::RolledBack { .. }
        | RolloutPhase::Paused { .. } => false,
    };
    let cause = if is_what_failed { failure::cause(draft, old) } else { None };
    cause.map_or(StopReason::Replaced { by: draft.target }, |reason| StopReason::Failed { reason })
}

/// Brings new replicas into slots that still have an old one, as many as the limits allow.
pub(crate) fn bring_in(draft: &mut Draft<'_>, ids: &mut IdSource) {
    match draft.limits.order {
        UpdateOrder::StartFirst => surge(draft, ids),
        UpdateOrder::StopFirst => prepare(draft, ids),
    }
}

fn surge(draft: &mut Draft<'_>, ids: &mut IdSource) {
    let live = |slot: Slot| draft.slot(slot).iter().filter(|member| member.is_live()).count();
    let surged: usize = draft.wanted_slots().map(|slot| live(slot).saturating_sub(1)).sum();
    let room = (draft.limits.max_surge as usize).saturating_sub(surged);
    let next: Vec<Slot> = slots_to_renew(draft)
        .filter(|&slot| draft.successor(slot).is_none_or(|new| new.desired == Desired::Prepared))
        .take(room)
        .collect();
    for slot in next {
        match draft.successor(slot) {
            Some(held) if draft.is_vacated(slot) => draft.start(&held),
            Some(held) => {
                // Held for stop-first, and now it is start-first: it has no room of its own beside the old one.
                draft.stop(&held, StopReason::Replaced { by: draft.target });
                draft.create(slot, draft.target, Desired::Running, ids);
            }
            None => draft.create(slot, draft.target, Desired::Running, ids),
        }
    }
}

fn prepare(draft: &mut Draft<'_>, ids: &mut IdSource) {
    let is_held = |slot: &Slot| draft.successor(*slot).is_some_and(|new| new.desired == Desired::Prepared);
    let held = slots_to_renew(draft).filter(is_held).count();
    let room = (draft.limits.prepared_ahead() as usize).saturating_sub(held);
    let next: Vec<Slot> =
        slots_to_renew(draft).filter(|&slot| draft.successor(slot).is_none()).take(room).collect();
    for slot in next {
        draft.create(slot, draft.target, Desired::Prepared, ids);
    }
}

/// The wanted slots that keep an old replica; first those where it does not serve, then by number.
fn slots_to_renew(draft: &Draft<'_>) -> impl Iterator<Item = Slot> + use<> {
    let mut slots: Vec<(bool, Slot)> = draft
        .wanted_slots()
        .filter(|&slot| draft.olds(slot).next().is_some())
        .map(|slot| (draft.olds(slot).any(|old| draft.is_available(old)), slot))
        .collect();
    slots.sort_unstable();
    slots.into_iter().map(|(_, slot)| slot)
}

/// Ends the rollout once every slot is available at the target and nothing else is kept.
pub(crate) fn finish(draft: &mut Draft<'_>) {
    let target = draft.target;
    let keeps_old = draft.members().any(|member| member.is_kept() && member.revision != target);
    if keeps_old || !draft.is_all_available_at_target() {
        return;
    }
    match draft.rollout.phase.clone() {
        RolloutPhase::Progressing => draft.complete(),
        RolloutPhase::RollingBack { reason, .. } => draft.rolled_back(reason),
        // Put right by itself, or by a person on the nodes. A rollback that was paused is a rollback still.
        RolloutPhase::Paused { .. } if target == draft.rollout.to => draft.complete(),
        RolloutPhase::Paused { reason, .. } => draft.rolled_back(reason),
        RolloutPhase::Completed { .. } | RolloutPhase::RolledBack { .. } => {}
    }
}
