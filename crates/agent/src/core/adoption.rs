//! What a new agent does with what an earlier one left: it matches the ledger with what is really there.
//!
//! | the ledger says | and the host has | then |
//! |---|---|---|
//! | starting or running | it running | it goes on, its probes begin again, ready stays ready |
//! | starting or running | its exit | the exit is processed as if it happened now, but with its own time |
//! | starting | nothing | the start never happened, or left nothing: another attempt is made |
//! | running | nothing | it ended for an unknown reason (the host restarted) |
//! | anything else | it running | an intruder: killed |
//! | anything else | its exit | already known: discarded |

use std::collections::{BTreeMap, BTreeSet};

use model::{Exit, ExitCause, Phase, ReplicaId, Timestamp};

use super::{
    Action, ContainerId, Core, Found, FoundState, Stage,
    attempts::Attempts,
    container::Live,
    probes::Prober,
    replica::{Effects, Leaving, Replica, Sandbox},
};

impl Core {
    pub(super) fn adopt(&mut self, now: Timestamp, found: Found, out: &mut Effects) -> BTreeSet<ReplicaId> {
        let mut by_replica: BTreeMap<ReplicaId, Vec<(ContainerId, FoundState)>> = BTreeMap::new();
        for (id, state) in found.containers {
            by_replica.entry(id.replica).or_default().push((id, state));
        }
        for (id, replica) in &mut self.replicas {
            replica.adopt_sandbox(found.sandboxes.contains(id));
            let containers = by_replica.remove(id).unwrap_or_default();
            for intruder in replica.adopt_containers(now, containers, out) {
                self.intruders.add(intruder);
            }
        }
        let strangers =
            by_replica.keys().chain(&found.sandboxes).filter(|id| !self.replicas.contains_key(id));
        self.intruders.add_replicas(strangers.copied().collect::<Vec<_>>());
        for (id, state) in by_replica.into_values().flatten() {
            if let FoundState::Running { .. } = state {
                self.intruders.add(id);
            }
        }
        self.replicas.keys().copied().collect()
    }
}

impl Replica {
    fn adopt_sandbox(&mut self, is_there: bool) {
        self.sandbox = match self.record.address {
            Some(address) if is_there => Sandbox::Ready(address),
            // Made but not noted, or gone with a restart of the host: preparing it again does what is missing.
            Some(_) | None => Sandbox::Missing(Attempts::Idle),
        };
        // The earlier agent may have died before the balancer heard of it.
        self.leaving = if self.record.phase == Phase::Stopping { self.must_leave() } else { Leaving::Stays };
    }

    /// Returns the intruders among them.
    fn adopt_containers(
        &mut self,
        now: Timestamp,
        found: Vec<(ContainerId, FoundState)>,
        out: &mut Effects,
    ) -> Vec<ContainerId> {
        let mut intruders = Vec::new();
        let mut present = BTreeSet::new();
        for (id, state) in found {
            let index = self.index_of(&id).filter(|&index| {
                matches!(self.record.containers[index].stage, Stage::Starting | Stage::Running { .. })
            });
            match (index, state) {
                (Some(index), FoundState::Running { pid, since }) => {
                    present.insert(index);
                    self.adopt_running(now, index, pid, since);
                }
                (Some(index), FoundState::Exited(exit)) => {
                    present.insert(index);
                    self.note_missed_start(index, &exit);
                    self.exited(now, index, exit, out);
                }
                (None, FoundState::Running { .. }) => {
                    self.skip_attempts_to(&id);
                    intruders.push(id);
                }
                (None, FoundState::Exited(_)) => {
                    self.skip_attempts_to(&id);
                    out.actions.push(Action::Discard { id });
                }
            }
        }
        for index in (0..self.record.containers.len()).filter(|index| !present.contains(index)) {
            self.miss(now, index, out);
        }
        intruders
    }

    fn adopt_running(&mut self, now: Timestamp, index: usize, pid: u32, since: Timestamp) {
        let (warm, ready) = match self.record.containers[index].stage {
            Stage::Running { warm, ready, .. } => (warm, ready),
            Stage::Starting | Stage::Waiting | Stage::BackingOff { .. } | Stage::Ended => {
                self.record.timeline.started.get_or_insert(since);
                self.begin_running(index, pid, since);
                return;
            }
        };
        self.record.containers[index].stage = Stage::Running { pid, since, warm, ready };
        let health = &self.spec(index).health;
        let startup = health.startup.as_ref().filter(|_| !warm).map(|_| Prober::eager(now));
        // What was ready stays ready until a probe has failed often enough; what was not is asked eagerly.
        let resumed = || if ready { Prober::steady(now) } else { Prober::eager(now) };
        let readiness = health.readiness.as_ref().filter(|_| warm).map(|_| resumed());
        let liveness = health.liveness.as_ref().filter(|_| warm).map(|_| Prober::steady(now));
        let healthy_since = ready.then(|| self.record.ready_since.unwrap_or(now));
        self.live[index] = Live { startup, readiness, liveness, healthy_since, ..Live::default() };
    }

    fn note_missed_start(&mut self, index: usize, exit: &Exit) {
        if self.record.containers[index].stage == Stage::Starting {
            let started = Timestamp(exit.at.0.saturating_sub(exit.ran_for.0));
            self.record.timeline.started.get_or_insert(started);
        }
    }

    /// Neither running nor exited, as far as the runtime knows.
    fn miss(&mut self, now: Timestamp, index: usize, out: &mut Effects) {
        match self.record.containers[index].stage {
            Stage::Starting => {
                // Its number is not used again: it may have run until the host restarted, and left something behind.
                out.actions.push(Action::Discard { id: self.container_id(index) });
                self.record.containers[index].stage = Stage::Waiting;
            }
            Stage::Running { since, .. } => {
                let exit = Exit { cause: ExitCause::Unknown, at: now, ran_for: now.since(since) };
                self.exited(now, index, exit, out);
            }
            Stage::Waiting | Stage::BackingOff { .. } | Stage::Ended => {}
        }
    }

    /// No number is used twice, even where the ledger is older than the host.
    fn skip_attempts_to(&mut self, id: &ContainerId) {
        let mut specs = self.record.assignment.template.containers();
        if let Some(index) = specs.position(|spec| spec.name == id.container) {
            let attempt = &mut self.record.containers[index].attempt;
            *attempt = id.attempt.max(*attempt);
        }
    }
}
