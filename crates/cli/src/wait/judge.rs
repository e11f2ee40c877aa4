//! How far a goal is, or how it ended: decided by what a server says of the service, and by nothing else.

use model::{RolloutPhase, Service, Unplaceable, WaitingOn};

use super::Goal;
use crate::{
    answer::{ServiceView, Waiting},
    exit::Code,
    output::{progress::Step, text::count},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With the reason why no node can take a replica, where that is what it waits for.
    Open { step: Step, unplaceable: Option<Unplaceable> },
    /// The exit code, and a sentence whose subject is the service.
    Ended(Code, String),
}

pub fn judge(goal: &Goal, found: Option<&ServiceView>) -> Verdict {
    match (goal, found) {
        (Goal::Gone { .. }, None) => Verdict::Ended(Code::Done, "deleted".to_owned()),
        (Goal::Gone { .. }, Some(found)) => judge_gone(found),
        (Goal::Runs { .. }, None) => Verdict::Ended(Code::Superseded, "was deleted meanwhile".to_owned()),
        (Goal::Runs { generation, revision, .. }, Some(found)) => {
            let service = &found.service;
            let rollout = &service.rollout;
            if service.deleting_since.is_some() {
                return Verdict::Ended(Code::Superseded, "is being deleted".to_owned());
            }
            if rollout.generation > *generation && rollout.to != *revision {
                let text = format!("was superseded by another apply (revision {})", rollout.to);
                return Verdict::Ended(Code::Superseded, text);
            }
            // The answer is older than the change that is waited for.
            if rollout.generation < *generation {
                return open(found);
            }
            match end_of(service) {
                // What ran once may be starting again: after a restart of the host, say.
                Some((Code::Done, _)) if found.available < service.spec.replicas => open(found),
                Some((code, text)) => Verdict::Ended(code, text),
                None => open(found),
            }
        }
    }
}

/// Deleting is over when the service is no longer there. One that is there and not being deleted was applied again.
fn judge_gone(found: &ServiceView) -> Verdict {
    if found.service.deleting_since.is_none() {
        return Verdict::Ended(Code::Superseded, "was applied again meanwhile".to_owned());
    }
    let left = found.replicas.len() as u64;
    let step = Step { headline: format!("stopping, {} left", count(left, "replica")), detail: None };
    Verdict::Open { step, unplaceable: None }
}

fn open(found: &ServiceView) -> Verdict {
    let unplaceable = found.waiting_on.iter().find_map(|waiting| match &waiting.on {
        WaitingOn::Placement { reason, .. } => Some(reason.clone()),
        WaitingOn::Preparation { .. }
        | WaitingOn::Readiness { .. }
        | WaitingOn::MinReady { .. }
        | WaitingOn::Stop { .. }
        | WaitingOn::Availability { .. }
        | WaitingOn::Node { .. }
        | WaitingOn::NodeReturn { .. }
        | WaitingOn::Lease { .. }
        | WaitingOn::Decision { .. } => None,
    });
    Verdict::Open { step: step_of(found), unplaceable }
}

/// How a service's last rollout ended, if it did.
pub fn end_of(service: &Service) -> Option<(Code, String)> {
    let rollout = &service.rollout;
    match &rollout.phase {
        RolloutPhase::Progressing | RolloutPhase::RollingBack { .. } => None,
        RolloutPhase::Completed { .. } => {
            let replicas = count(service.spec.replicas, "replica");
            Some((Code::Done, format!("runs revision {} with {replicas}", rollout.to)))
        }
        RolloutPhase::RolledBack { back_to, reason, .. } => {
            let text = format!("revision {} failed: {reason}; rolled back to revision {back_to}", rollout.to);
            Some((Code::RolledBack, text))
        }
        RolloutPhase::Paused { reason, .. } => {
            let text = format!("revision {} failed and the rollout is paused: {reason}", rollout.to);
            Some((Code::FailedAndPaused, text))
        }
    }
}

/// How far a service is, and what it waits for first.
pub fn step_of(found: &ServiceView) -> Step {
    let wanted = found.service.spec.replicas;
    let action = match &found.service.rollout.phase {
        RolloutPhase::RollingBack { back_to, .. } => format!("rolling back to revision {back_to}"),
        RolloutPhase::Progressing
        | RolloutPhase::Completed { .. }
        | RolloutPhase::RolledBack { .. }
        | RolloutPhase::Paused { .. } => format!("revision {}", found.service.revision),
    };
    let headline =
        format!("{action}: {}/{wanted} up to date, {}/{wanted} ready", found.up_to_date, found.ready);
    Step { headline, detail: first_waiting(&found.waiting_on) }
}

fn first_waiting(waiting_on: &[Waiting]) -> Option<String> {
    let first = waiting_on.first()?;
    Some(match waiting_on.len() - 1 {
        0 => first.text.clone(),
        more => format!("{} (and {more} more)", first.text),
    })
}

/// The same in one line.
pub(super) fn stands(found: &ServiceView) -> String {
    let Step { headline, detail } = step_of(found);
    detail.map_or_else(|| headline.clone(), |detail| format!("{headline}; {detail}"))
}
