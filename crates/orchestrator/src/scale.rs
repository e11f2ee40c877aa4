//! As many slots filled as are wanted, whatever the rollout does.

use model::{Desired, IdSource, Millis, RolloutPhase, Slot, StopReason, Timestamp};

use crate::{draft::Draft, failure, member::Member};

/// A failed replica is replaced no sooner than so long after its creation, so that what fails at once does not fail
/// a thousand times a minute. Where the time was set since, it may be sooner, and never is later.
pub const REPLACE_FAILED_AFTER: Millis = Millis::from_secs(30);

/// Stops everything in slots beyond those that are wanted.
pub(crate) fn stop_surplus(draft: &mut Draft<'_>) {
    let wanted = draft.limits.wanted;
    let is_surplus = |member: &&Member<'_>| member.slot.get() > wanted && member.is_kept();
    let surplus: Vec<Member<'_>> = draft.members().filter(is_surplus).copied().collect();
    for member in surplus.iter().rev() {
        draft.stop(member, StopReason::ScaledDown);
    }
}

/// Fills vacant slots at once: what is not there cannot be made less available. One whose node is lost is not there.
///
/// A slot is not vacant for a new replica to run in while stop-first waits there for an old one to end; it is
/// prepared meanwhile.
pub(crate) fn fill(draft: &mut Draft<'_>, ids: &mut IdSource) {
    for slot in draft.wanted_slots() {
        if !draft.olds(slot).all(|old| old.stay.is_lost()) {
            continue;
        }
        match draft.successor(slot) {
            None => {
                let desired = if draft.may_run_in(slot) { Desired::Running } else { Desired::Prepared };
                draft.create(slot, draft.target, desired, ids);
            }
            Some(held) if held.desired == Desired::Prepared && draft.is_vacated(slot) => draft.start(&held),
            Some(_) => {}
        }
    }
}

/// Stops replicas at the target that failed for good, so that their slots can be filled again.
pub(crate) fn retire_failed(draft: &mut Draft<'_>) {
    for slot in draft.wanted_slots() {
        let Some(failed) = draft.successor(slot).filter(Member::has_failed) else { continue };
        if replaced_from(draft, slot).is_some_and(|from| from <= draft.now) {
            let reason = failure::why_failed(draft, &failed);
            draft.stop(&failed, StopReason::Failed { reason });
        }
    }
}

/// When the failed replica of a slot is to be replaced; none where there is none, or where a person is waited for.
///
/// A service that fails again and again always has a young replica. Waiting for that to be old before the time is set
/// (`State::counts_down`) would be waiting for ever. So it is now for one that seems to be made later than now: from before
/// the time was set back, and how old it is nobody knows.
pub(crate) fn replaced_from(draft: &Draft<'_>, slot: Slot) -> Option<Timestamp> {
    let failed = draft.successor(slot).filter(Member::has_failed)?;
    match draft.rollout.phase {
        RolloutPhase::Paused { .. } if !failed.was_ever_ready() && !draft.is_all_available_at_target() => {
            None
        }
        RolloutPhase::Paused { .. }
        | RolloutPhase::Progressing
        | RolloutPhase::RollingBack { .. }
        | RolloutPhase::Completed { .. }
        | RolloutPhase::RolledBack { .. } => {
            let is_from_before = failed.created_at > draft.now;
            Some(if is_from_before { draft.now } else { failed.created_at + REPLACE_FAILED_AFTER })
        }
    }
}
