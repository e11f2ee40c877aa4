//! The times in a state: how far it has come, and whether anything in it has a time to end by.

use std::sync::Arc;

use model::{Event, EventKind, OnFailure, RolloutPhase, Scheduling, Service, Timestamp};

use crate::State;

impl State {
    /// When the last command was decided. Not by when agents saw something.
    pub fn latest(&self) -> Timestamp {
        self.decided_at.unwrap_or_else(|| self.latest_told())
    }

    /// As far as the rest of the state tells. Where the time was set back it may be later than right.
    fn latest_told(&self) -> Timestamp {
        let is_decided = |event: &&Arc<Event>| !matches!(event.kind, EventKind::ContainerExited { .. });
        let told = self.events.iter().rev().find(is_decided).map(|event| event.at);
        let running = self.services.values().filter(|service| !service.rollout.phase.is_over());
        let progressed = running.map(|service| service.rollout.progressed_at);
        progressed.chain(told).max().unwrap_or_default()
    }

    /// Whether the time that passes from here on brings something about: a rollout fails, a node is given up, a drain ends.
    pub fn counts_down(&self, now: Timestamp) -> bool {
        let replaces_later = self.services.values().map(|service| service.spec.node_loss.replace_after).max();
        let is_awaited = |since: Timestamp| replaces_later.is_some_and(|after| since + after > now);
        let has_time = |scheduling: &Scheduling| match scheduling {
            Scheduling::Draining { deadline, .. } => deadline.is_some_and(|deadline| deadline > now),
            Scheduling::Open | Scheduling::Cordoned { .. } => false,
        };
        self.services.values().any(|service| may_fail(service, now))
            || self.nodes.values().any(|node| {
                has_time(&node.scheduling) || node.down.as_ref().is_some_and(|down| is_awaited(down.since))
            })
    }
}

fn may_fail(service: &Service, now: Timestamp) -> bool {
    let policy = &service.spec.update;
    match service.rollout.phase {
        RolloutPhase::Progressing if policy.on_failure == OnFailure::Continue => false,
        RolloutPhase::Progressing | RolloutPhase::RollingBack { .. } => {
            service.rollout.progress_due(policy.progress_deadline) > now
        }
        RolloutPhase::Completed { .. } | RolloutPhase::RolledBack { .. } | RolloutPhase::Paused { .. } => {
            false
        }
    }
}
