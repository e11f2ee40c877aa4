//! What a service does next: the plan from what is desired and what was seen.
//!
//! [`reconcile`] is pure: the same state, observations and time always give the same plan. It is called whenever
//! something about a service changed, and at [`Plan::wake_at`]. Its steps are committed together, as one
//! [`store::Command::Progress`] based on the service's version, and until then it is not called again for that service.
//!
//! Invariants, whatever agents say and users ask (checked by `tests/world.rs`):
//! - A ready replica in a wanted slot is stopped only while `wanted - max_unavailable` others stay available.
//! - At most `max_surge` slots have two live replicas, so at most `wanted + max_surge` are live.
//! - A slot never has two live replicas of one revision but while one is replaced that is to leave its node; with
//!   stop-first it never has two live replicas at all.
//! - What is on a lost node counts for nothing. It is replaced at once, or as late as its service asks for, and stopped
//!   only when its replacement serves.
//! - What was not observed is unknown, and unknown is neither ready nor failed: a new leader that has heard
//!   nothing yet stops nothing.
//! - A converged service has an empty plan.
//!
//! Start reading at [`reconcile`]; then [`member`] (what is known of one replica), [`draft`] (the plan in the making),
//! [`rollout`] (which old replica may stop, which new one may start), [`stay`] (which may not stay where it is) and
//! [`failure`] (when a revision has failed).

mod counts;
mod delete;
mod draft;
mod failure;
mod limits;
mod member;
mod rollout;
mod scale;
mod stay;
mod waiting;

use model::{IdSource, RolloutPhase, ServiceKey, Timestamp, WaitingOn};
use store::{Observations, State, Step};

pub use counts::{Counts, counts};
use draft::Draft;
use failure::Verdict;
pub use limits::Limits;
pub use scale::REPLACE_FAILED_AFTER;

/// What to commit now, what the service waits for after that, and when to look again though nothing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Without [`WaitingOn::Placement`]: whoever places knows those.
    pub waiting_on: Vec<WaitingOn>,
    /// The earliest time at which another answer may come of itself; always later than now.
    pub wake_at: Option<Timestamp>,
}

/// Everything that `service` may do now.
pub fn reconcile(
    state: &State,
    observed: &Observations,
    service: &ServiceKey,
    ids: &mut IdSource,
    now: Timestamp,
) -> Plan {
    let Some(service) = state.service(service) else { return Plan::default() };
    let mut draft = Draft::new(state, observed, service, now);
    draft.forget_removed();
    if service.deleting_since.is_some() {
        delete::delete(&mut draft);
    } else {
        scale::stop_surplus(&mut draft);
        stay::give_up(&mut draft);
        rollout::note_progress(&mut draft);
        judge(&mut draft, state);
        match draft.rollout.phase {
            RolloutPhase::Paused { .. } if !draft.is_all_available_at_target() => {
                scale::retire_failed(&mut draft);
                scale::fill(&mut draft, ids);
            }
            RolloutPhase::Paused { .. }
            | RolloutPhase::Progressing
            | RolloutPhase::RollingBack { .. }
            | RolloutPhase::Completed { .. }
            | RolloutPhase::RolledBack { .. } => {
                rollout::retire(&mut draft);
                scale::retire_failed(&mut draft);
                scale::fill(&mut draft, ids);
                rollout::bring_in(&mut draft, ids);
                rollout::finish(&mut draft);
            }
        }
    }
    let waiting_on = waiting::waiting_on(&draft);
    let wake_at = waiting::wake_at(&draft);
    Plan { steps: draft.into_steps(), waiting_on, wake_at }
}

/// Ends a rollout that has failed, so that the rest of the plan already goes the new way.
fn judge(draft: &mut Draft<'_>, state: &State) {
    match failure::judge(draft, state) {
        Verdict::GoOn => {}
        Verdict::RollBack { back_to, reason } => {
            draft.roll_back(back_to, reason);
            rollout::note_progress(draft);
        }
        Verdict::Pause { reason } => draft.pause(reason),
    }
}
