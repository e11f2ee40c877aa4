//! Every way in which a wait ends, and its exit code.

use model::{Generation, RevisionNumber, RolloutPhase};

use super::{check, fixtures};
use crate::{
    answer::ServiceView,
    exit::Code,
    wait::{Goal, Verdict, judge},
};

const REASON: &str = "web.1@2 exited with code 1";

fn goal() -> Goal {
    Goal::runs(fixtures::manifest("").key, 2, 2)
}

/// A service whose rollout to revision 2 is in this phase.
fn found(phase: RolloutPhase) -> ServiceView {
    let mut found = fixtures::view(fixtures::service(&fixtures::manifest("  replicas: 4\n")));
    found.service.rollout.phase = phase;
    found.waiting_on.clear();
    found.available = 4;
    found
}

fn completed() -> RolloutPhase {
    RolloutPhase::Completed { at: fixtures::at(70_000) }
}

fn told(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Open { step, unplaceable } => {
            let detail = step.detail.as_deref().map(|detail| format!("; {detail}")).unwrap_or_default();
            let unplaceable = if unplaceable.is_some() { " (cannot be placed now)" } else { "" };
            format!("goes on: {}{detail}{unplaceable}", step.headline)
        }
        Verdict::Ended(code, text) => format!("ends with {}: {text}", *code as u8),
    }
}

#[test]
fn ends_of_a_wait() {
    let mut text = String::new();
    let mut tell = |what: &str, goal: &Goal, found: Option<&ServiceView>| {
        text.push_str(&format!("{what}\n  {}\n", told(&judge(goal, found))));
    };
    let back_to = RevisionNumber(1);
    let (reason, at) = (REASON.to_owned(), fixtures::at(70_000));
    tell("progressing", &goal(), Some(&found(RolloutPhase::Progressing)));
    tell("completed", &goal(), Some(&found(completed())));
    let mut starting_again = found(completed());
    starting_again.available = 3;
    tell("completed before, and not all are up", &goal(), Some(&starting_again));
    let rolling_back = RolloutPhase::RollingBack { back_to, reason: reason.clone() };
    tell("rolling back", &goal(), Some(&found(rolling_back)));
    let rolled_back = RolloutPhase::RolledBack { back_to, reason: reason.clone(), at };
    tell("rolled back", &goal(), Some(&found(rolled_back)));
    tell("paused", &goal(), Some(&found(RolloutPhase::Paused { reason, at })));
    let mut unplaceable = fixtures::view(fixtures::service(&fixtures::manifest("")));
    unplaceable.service.rollout.phase = RolloutPhase::Progressing;
    tell("without a place", &goal(), Some(&unplaceable));
    let mut superseded = found(RolloutPhase::Progressing);
    superseded.service.rollout.generation = Generation(3);
    superseded.service.rollout.to = RevisionNumber(3);
    tell("superseded by another revision", &goal(), Some(&superseded));
    superseded.service.rollout.to = RevisionNumber(2);
    tell("scaled meanwhile, to the same revision", &goal(), Some(&superseded));
    let mut older = found(completed());
    older.service.rollout.generation = Generation(1);
    tell("an answer from before the apply", &goal(), Some(&older));
    let mut deleting = found(completed());
    deleting.service.deleting_since = Some(at);
    tell("being deleted", &goal(), Some(&deleting));
    tell("gone", &goal(), None);
    let gone = Goal::Gone { service: fixtures::manifest("").key };
    tell("a delete under way", &gone, Some(&deleting));
    tell("a delete, done", &gone, None);
    tell("a delete, applied again", &gone, Some(&found(completed())));
    check("verdicts", &text);
}

#[test]
fn the_worst_of_several_ends_is_the_exit_code() {
    use Code::{DeadlinePassed, Done, FailedAndPaused, RolledBack, Superseded, Unplaceable};
    let worse = [Done, RolledBack, FailedAndPaused, DeadlinePassed, Unplaceable, Superseded];
    assert!(worse.is_sorted());
    assert_eq!(worse.map(|code| code as u8), [0, 3, 4, 5, 6, 7]);
}
