//! What a script's commands answer.

use std::fmt::Write;

use model::{Desired, ReplicaId, RolloutPhase};
use orchestrator::Plan;
use store::Step;

use crate::Script;

impl Script {
    pub(crate) fn reconcile(&mut self) {
        let plan = self.step();
        for step in &plan.steps {
            self.print_step(step);
        }
        for waiting in &plan.waiting_on {
            writeln!(self.out, "waiting: {waiting}").unwrap();
        }
        if let Some(at) = plan.wake_at {
            assert!(at > self.cluster.now, "a plan never asks to be woken at once");
            writeln!(self.out, "wake in {}", at.since(self.cluster.now)).unwrap();
        }
        if plan == Plan::default() {
            self.out.push_str("nothing\n");
        }
    }

    fn print_step(&mut self, step: &Step) {
        let label = |id: &ReplicaId| self.cluster.label(*id).to_owned();
        let line = match step {
            Step::Create { id, desired: Desired::Running, .. } => format!("create {}", label(id)),
            Step::Create { id, desired, .. } => format!("create {} {}", label(id), desired.as_str()),
            Step::Start { id } => format!("start {}", label(id)),
            Step::Stop { id, reason } => format!("stop {} ({reason})", label(id)),
            Step::Forget { id } => format!("forget {}", label(id)),
            Step::Progressed { available } => format!("progressed to {available} available"),
            Step::Complete => "complete".to_owned(),
            Step::RollBack { back_to, reason } => format!("roll back to revision {back_to} ({reason})"),
            Step::RolledBack => "rolled back".to_owned(),
            Step::Pause { reason } => format!("pause ({reason})"),
            Step::Remove => "remove the service".to_owned(),
        };
        writeln!(self.out, "{line}").unwrap();
    }

    pub(crate) fn show(&mut self) {
        if !self.cluster.exists(&self.service) {
            self.out.push_str("no such service\n");
            return;
        }
        for replica in self.cluster.state.replicas_of(&self.service) {
            let seen = self.cluster.observed.replica(replica.id);
            let phase = seen.map_or("unknown", |seen| match seen.ready_since {
                Some(_) => "ready",
                None => seen.phase.as_str(),
            });
            let label = self.cluster.label(replica.id);
            writeln!(self.out, "{label} wanted {}, is {phase}", replica.desired.as_str()).unwrap();
        }
        let service = self.cluster.service(&self.service);
        let reason = match &service.rollout.phase {
            RolloutPhase::RollingBack { reason, .. }
            | RolloutPhase::RolledBack { reason, .. }
            | RolloutPhase::Paused { reason, .. } => format!(" ({reason})"),
            RolloutPhase::Progressing | RolloutPhase::Completed { .. } => String::new(),
        };
        let phase = service.rollout.phase.as_str();
        writeln!(self.out, "revision {}, {phase}{reason}", service.revision).unwrap();
    }
}
