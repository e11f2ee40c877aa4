//! Spans of time: what should last a while lasts so long in the world, whatever the clocks of the hosts show.
//!
//! A replica counts as available no earlier than `minReady` after it became ready, and a rollout fails by a deadline no
//! earlier than that. That they do not take for ever either is for [`super::rest`] to see.

use std::collections::{BTreeMap, BTreeSet};

use agent::core::ContainerId;
use model::{Millis, ReplicaId, RevisionNumber, Service, Slot, Timestamp};
use orchestrator::Limits;
use store::{Command, State, Step};

use crate::world::World;

/// What is decided goes to the disk in the same step, and the times in it are whole milliseconds.
pub(super) const SLACK: Millis = Millis(100);

/// When things happened in the world.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    /// When something with this time in it was first decided.
    decided: BTreeMap<Timestamp, Timestamp>,
    started: BTreeMap<ReplicaId, Timestamp>,
    /// No earlier than this can a replica have been seen ready.
    ready: BTreeMap<ReplicaId, Timestamp>,
    /// Those that may count as available because they did what they were there for.
    ended: BTreeSet<ReplicaId>,
}

impl Spans {
    /// When in the world that was decided which says this time.
    pub(super) fn decided_at(&self, at: Timestamp) -> Option<Timestamp> {
        self.decided.get(&at).copied()
    }
}

impl World {
    /// A container was started: the first of a replica is when that began.
    pub(crate) fn note_beginning(&mut self, node: usize, id: &ContainerId) {
        let now = self.cx.now;
        self.spans.started.entry(id.replica).or_insert(now);
        let process = self.nodes[node].host.processes.get(id);
        let Some(process) = process.filter(|_| id.container.as_str() == "main") else { return };
        let has_probe = process.template.main.health.readiness.is_some();
        let ready = if has_probe { process.fate.ready_from } else { Some(now) };
        if let Some(ready) = ready {
            let known = self.spans.ready.entry(id.replica).or_insert(ready);
            *known = ready.min(*known);
        }
    }

    pub(crate) fn note_end(&mut self, id: &ContainerId) {
        self.spans.ended.insert(id.replica);
    }

    /// A server hands this to its log for the first time.
    pub(crate) fn check_spans(&mut self, before: &State, command: &Command) {
        let now = self.cx.now;
        if let Some(at) = command.at() {
            self.spans.decided.entry(at).or_insert(now);
        }
        let Command::Progress { service, steps, .. } = command else { return };
        let Some(service) = before.service(service) else { return };
        let mut target = service.revision;
        for step in steps {
            match step {
                Step::Progressed { available } => {
                    self.check_available(before, service, target, *available);
                }
                Step::Complete => {
                    let wanted = Limits::of(before, service).wanted;
                    self.check_available(before, service, target, wanted);
                }
                Step::RollBack { reason, back_to } => {
                    self.check_deadline(before, service, reason);
                    target = *back_to;
                }
                Step::Pause { reason } => self.check_deadline(before, service, reason),
                Step::Create { .. } | Step::Start { .. } | Step::Stop { .. } | Step::Forget { .. } => {}
                Step::RolledBack | Step::Remove => {}
            }
        }
    }

    fn check_available(&mut self, before: &State, service: &Service, target: RevisionNumber, claimed: u32) {
        let now = self.cx.now;
        let min_ready = service.spec.update.min_ready;
        let may_be = |id: ReplicaId| {
            let since = self.spans.ready.get(&id);
            since.is_some_and(|since| *since + min_ready <= now + SLACK) || self.spans.ended.contains(&id)
        };
        let at_target = before.replicas_of(&service.key).filter(|one| one.revision == target);
        let slots: BTreeSet<Slot> = at_target.filter(|one| may_be(one.id)).map(|one| one.slot).collect();
        if (slots.len() as u32) < claimed {
            let detail = format!("{}: {claimed} count, and only {slots:?} can be", service.key);
            self.cx.violate("what counts as available was ready for so long", detail);
        }
    }

    fn check_deadline(&mut self, before: &State, service: &Service, reason: &str) {
        let now = self.cx.now;
        let policy = &service.spec.update;
        let lasted = |from: Timestamp, span: Millis| from + span <= now + SLACK;
        let in_time = if reason.contains("no replica became available for") {
            let began = self.spans.decided_at(service.rollout.progressed_at);
            began.is_none_or(|began| lasted(began, policy.progress_deadline))
        } else if reason.contains("was not ready within") {
            let mut started =
                before.replicas_of(&service.key).filter_map(|one| self.spans.started.get(&one.id));
            started.any(|started| lasted(*started, policy.healthy_deadline))
        } else {
            return;
        };
        if !in_time {
            self.cx
                .violate("a deadline is no earlier than it should be", format!("{}: {reason}", service.key));
        }
    }
}
