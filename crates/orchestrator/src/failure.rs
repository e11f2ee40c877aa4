//! When a rollout has failed, why, and what to do then.
//!
//! A new replica fails when it ends for good, ends twice or is not ready in time, each without ever having been
//! ready; the rollout as a whole fails when nothing becomes available for too long. What was ready once and crashes
//! later is restarted by its node: that may delay a rollout, but only the progress deadline ends it.

use model::{
    ContainerObserved, ContainerState, ExitCause, Millis, Observed, OnFailure, Phase, RevisionNumber,
    RevisionStatus, RolloutPhase, Timestamp,
};
use store::State;

use crate::{draft::Draft, member::Member};

pub(crate) enum Verdict {
    GoOn,
    RollBack { back_to: RevisionNumber, reason: String },
    Pause { reason: String },
}

pub(crate) fn judge(draft: &Draft<'_>, state: &State) -> Verdict {
    match draft.rollout.phase {
        RolloutPhase::Progressing => {}
        RolloutPhase::RollingBack { back_to, .. } => {
            return overdue(draft).map_or(Verdict::GoOn, |reason| Verdict::Pause {
                reason: format!("the rollback to revision {back_to} does not get on: {reason}"),
            });
        }
        RolloutPhase::Completed { .. } | RolloutPhase::RolledBack { .. } | RolloutPhase::Paused { .. } => {
            return Verdict::GoOn;
        }
    }
    let on_failure = draft.service.spec.update.on_failure;
    if on_failure == OnFailure::Continue {
        return Verdict::GoOn;
    }
    let Some(reason) = failed_replica(draft).or_else(|| overdue(draft)) else { return Verdict::GoOn };
    match on_failure {
        OnFailure::Rollback => match rollback_target(draft, state) {
            Some(back_to) => Verdict::RollBack { back_to, reason },
            None => Verdict::Pause { reason },
        },
        OnFailure::Pause | OnFailure::Continue => Verdict::Pause { reason },
    }
}

/// The first new replica that failed, in words.
fn failed_replica(draft: &Draft<'_>) -> Option<String> {
    let successors = draft.wanted_slots().filter_map(|slot| draft.successor(slot));
    successors.filter(|new| is_new(draft, new)).find_map(|new| cause(draft, &new))
}

/// Whether the rollout brought it. What was there before says nothing of the rollout, even if the cluster's time was set
/// back since and it seems to come from the future.
pub(crate) fn is_new(draft: &Draft<'_>, member: &Member<'_>) -> bool {
    (draft.rollout.started_at..=draft.now).contains(&member.created_at)
}

fn overdue(draft: &Draft<'_>) -> Option<String> {
    let deadline = draft.service.spec.update.progress_deadline;
    let is_due = draft.rollout.progress_due(deadline) <= draft.now;
    let is_done = draft.is_all_available_at_target();
    (is_due && !is_done).then(|| format!("no replica became available for {deadline}"))
}

/// The revision that ran before if it was stable, else the newest that was.
///
/// A target that was itself stable before has nothing better to go back to: what fails then is most likely not its
/// template but the place it runs in, or that there should be more of it.
fn rollback_target(draft: &Draft<'_>, state: &State) -> Option<RevisionNumber> {
    let key = &draft.service.key;
    let is_stable = |number| {
        state.revision(key, number).is_some_and(|revision| revision.status == RevisionStatus::Stable)
    };
    let is_usable = |number: &RevisionNumber| {
        *number != draft.target && is_stable(*number) && state.may_publish(key, *number)
    };
    let before = draft.rollout.from.filter(is_usable);
    if before.is_some() || is_stable(draft.target) {
        return before;
    }
    state.revisions(key).rev().map(|revision| revision.number).find(is_usable)
}

/// Why a replica counts as failed, in words that name it; none if it does not.
pub(crate) fn cause(draft: &Draft<'_>, member: &Member<'_>) -> Option<String> {
    let seen = member.observed?;
    let words = ended_for_good(seen, draft.service.spec.update.min_ready)
        .or_else(|| if member.was_ever_ready() { None } else { ended_twice(seen) })
        .or_else(|| late(draft, member))?;
    Some(format!("{} {words}", label(draft, member)))
}

/// The same for one that is known to have failed.
pub(crate) fn why_failed(draft: &Draft<'_>, member: &Member<'_>) -> String {
    let words = member.observed.map_or_else(|| "failed".to_owned(), last_words);
    format!("{} {words}", label(draft, member))
}

fn label(draft: &Draft<'_>, member: &Member<'_>) -> String {
    format!("{}.{}@{}", draft.service.key, member.slot, member.revision)
}

/// It, or one of its containers, ended badly and will not be tried again, before it had been available.
fn ended_for_good(seen: &Observed, min_ready: Millis) -> Option<String> {
    if was_available(seen, min_ready) {
        return None;
    }
    if seen.phase == Phase::Failed {
        return Some(last_words(seen));
    }
    let broken = seen.containers.iter().find(|container| has_ended_badly(container))?;
    Some(format!("{} and is not started again", exit_words(broken)))
}

fn has_ended_badly(container: &ContainerObserved) -> bool {
    let is_over = matches!(container.state, ContainerState::Ended);
    is_over && container.last_exit.as_ref().is_some_and(|exit| !exit.cause.is_success())
}

/// Whether it was ready for long enough before it ended, as far as its exits tell.
fn was_available(seen: &Observed, min_ready: Millis) -> bool {
    let exits = seen.containers.iter().filter_map(|container| container.last_exit.as_ref());
    let ended_at = exits.map(|exit| exit.at).max();
    match (seen.timeline.ready, ended_at) {
        (Some(ready), Some(ended)) => ended.since(ready) >= min_ready,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

fn ended_twice(seen: &Observed) -> Option<String> {
    let container = seen.containers.iter().find(|container| ends(container) >= 2)?;
    let times = match ends(container) {
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    };
    Some(format!("{} {times} without becoming ready", exit_words(container)))
}

/// How often a container ended: once before each restart, and once more if it is not running now.
fn ends(container: &ContainerObserved) -> u32 {
    match container.state {
        ContainerState::BackingOff { .. } => container.restarts + 1,
        ContainerState::Waiting | ContainerState::Running { .. } | ContainerState::Ended => {
            container.restarts
        }
    }
}

fn late(draft: &Draft<'_>, member: &Member<'_>) -> Option<String> {
    let (_, deadline) = healthy_due(draft, member)?;
    let message = member.observed.and_then(|seen| seen.message.as_ref());
    let detail = message.map(|message| format!(": {message}")).unwrap_or_default();
    let limit = draft.service.spec.update.healthy_deadline;
    (deadline <= draft.now).then(|| format!("was not ready within {limit} of its start{detail}"))
}

/// When a started replica that was never ready began, and by when it must be ready.
///
/// None for one of a silent node: it may have been ready for long.
pub(crate) fn healthy_due(draft: &Draft<'_>, member: &Member<'_>) -> Option<(Timestamp, Timestamp)> {
    let seen = member.observed?;
    if seen.phase != Phase::Running || member.was_ever_ready() || member.silent {
        return None;
    }
    let started = seen.timeline.started?;
    Some((started, started + draft.service.spec.update.healthy_deadline))
}

/// What a failed replica left as its explanation.
fn last_words(seen: &Observed) -> String {
    let badly = seen.containers.iter().find(|container| has_ended_badly(container));
    match (&seen.message, badly) {
        (Some(message), _) => format!("failed: {message}"),
        (None, Some(container)) => exit_words(container),
        (None, None) => "failed".to_owned(),
    }
}

fn exit_words(container: &ContainerObserved) -> String {
    let how = match container.last_exit.as_ref().map(|exit| &exit.cause) {
        Some(ExitCause::Code(code)) => format!("exited {code}"),
        Some(signal @ ExitCause::Signal(_)) => format!("was {signal}"),
        Some(ExitCause::OutOfMemory { limit, peak }) => {
            format!("was OOM killed (limit {limit}, peak {peak})")
        }
        Some(ExitCause::ProbeFailed { probe, detail }) => format!("failed its {probe} probe ({detail})"),
        Some(ExitCause::NotStarted { reason }) => format!("could not be started ({reason})"),
        Some(ExitCause::Unknown) | None => "ended for an unknown reason".to_owned(),
    };
    match container.name.as_str() {
        "main" => how,
        sidecar => format!("(container {sidecar}) {how}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Bytes, Exit, Name};

    #[test]
    fn an_end_is_told_in_words() {
        let probe =
            |detail: &str| ExitCause::ProbeFailed { probe: "liveness".to_owned(), detail: detail.to_owned() };
        let table = [
            ("main", Some(ExitCause::Code(1)), "exited 1"),
            ("main", Some(ExitCause::Signal(9)), "was killed by SIGKILL"),
            (
                "main",
                Some(ExitCause::OutOfMemory { limit: Bytes(64 << 20), peak: Bytes(64 << 20) }),
                "was OOM killed (limit 64Mi, peak 64Mi)",
            ),
            ("main", Some(probe("HTTP 500")), "failed its liveness probe (HTTP 500)"),
            (
                "main",
                Some(ExitCause::NotStarted { reason: "no such file".to_owned() }),
                "could not be started (no such file)",
            ),
            ("main", Some(ExitCause::Unknown), "ended for an unknown reason"),
            ("main", None, "ended for an unknown reason"),
            ("proxy", Some(ExitCause::Code(2)), "(container proxy) exited 2"),
        ];
        for (name, cause, words) in table {
            let last_exit = cause.map(|cause| Exit { cause, at: Timestamp(0), ran_for: Millis::ZERO });
            let (name, state) = (Name::new(name).unwrap(), ContainerState::Ended);
            assert_eq!(exit_words(&ContainerObserved { name, state, restarts: 0, last_exit }), words);
        }
    }
}
