//! The containers of a replica that should run: which starts next, and what an exit means.

use model::{Exit, ExitCause, Health, Millis, Phase, RestartWhen, Stop, Timestamp};

use super::{
    Action, Fault, ProbeKind, Setback, Stage, StopSignal,
    action::ContainerExit,
    attempts::Attempts,
    probes::Prober,
    replica::{Effects, Replica},
};

/// How long after a SIGKILL another is sent: the first may have hit a runtime that was just failing.
pub(super) const KILL_AGAIN: Millis = Millis(5_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Init,
    Sidecar,
    Main,
}

/// What is known of a container beside its record; gone with the agent.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// While it waits to be started, and the node could not do it.
    pub(super) starting: Attempts,
    pub(super) startup: Option<Prober>,
    pub(super) readiness: Option<Prober>,
    pub(super) liveness: Option<Prober>,
    /// Of a probe that failed for good: it is told to end once its replica has left the balancer.
    pub(super) condemned: Option<EndingReason>,
    /// It was told to end.
    pub(super) ending: Option<Ending>,
    /// Since when it has been ready without a break.
    pub(super) healthy_since: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub(super) struct Ending {
    /// When SIGKILL follows, for the first time or again.
    pub(super) kill_at: Timestamp,
    pub(super) killed: bool,
    pub(super) why: EndingReason,
}

#[derive(Clone, Debug)]
pub(super) enum EndingReason {
    Stop,
    Probe { kind: ProbeKind, detail: String },
}

/// What an exit of a container means for its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    StartAgain,
    /// It has done its part; the others go on.
    Done,
    ReplicaCompleted,
    ReplicaFailed,
}

fn meaning(role: Role, when: RestartWhen, success: bool) -> Meaning {
    match (role, when, success) {
        (Role::Init, RestartWhen::Always | RestartWhen::OnFailure | RestartWhen::Never, true) => {
            Meaning::Done
        }
        (Role::Init, RestartWhen::Always | RestartWhen::OnFailure, false) => Meaning::StartAgain,
        (Role::Sidecar | Role::Main, RestartWhen::Always, true | false) => Meaning::StartAgain,
        (Role::Sidecar, RestartWhen::OnFailure | RestartWhen::Never, true) => Meaning::Done,
        (Role::Main, RestartWhen::OnFailure | RestartWhen::Never, true) => Meaning::ReplicaCompleted,
        (Role::Sidecar | Role::Main, RestartWhen::OnFailure, false) => Meaning::StartAgain,
        (Role::Init | Role::Sidecar | Role::Main, RestartWhen::Never, false) => Meaning::ReplicaFailed,
    }
}

impl Replica {
    /// Starts what may start and watches what runs.
    pub(super) fn run(&mut self, now: Timestamp, out: &mut Effects) {
        let has_sandbox = self.sandbox_is_ready(now, out);
        for index in 0..self.record.containers.len() {
            match self.record.containers[index].stage {
                Stage::Waiting if has_sandbox && self.may_start(index) => {
                    if self.live[index].starting.begin(now) {
                        self.start(index, out);
                    }
                }
                Stage::BackingOff { until } if has_sandbox && until <= now => self.start_again(index, out),
                Stage::Running { .. } => self.watch(index, now, out),
                Stage::Waiting | Stage::BackingOff { .. } | Stage::Starting | Stage::Ended => {}
            }
        }
    }

    /// Init containers have ended, and sidecars before it run and are warm.
    fn may_start(&self, index: usize) -> bool {
        (0..index).all(|earlier| match (self.role(earlier), self.record.containers[earlier].stage) {
            (Role::Init | Role::Sidecar | Role::Main, Stage::Ended) => true,
            (Role::Sidecar | Role::Main, Stage::Running { warm, .. }) => warm,
            (Role::Init, Stage::Running { .. }) => false,
            (_, Stage::Waiting | Stage::Starting | Stage::BackingOff { .. }) => false,
        })
    }

    fn start_again(&mut self, index: usize, out: &mut Effects) {
        self.record.containers[index].restarts += 1;
        self.start(index, out);
    }

    fn start(&mut self, index: usize, out: &mut Effects) {
        let Some(address) = self.address() else { return };
        let container = &mut self.record.containers[index];
        container.attempt += 1;
        container.stage = Stage::Starting;
        let starting = std::mem::take(&mut self.live[index].starting);
        self.live[index] = Live { starting, ..Live::default() };
        let (id, assignment) = (self.container_id(index), self.record.assignment.clone());
        out.actions.push(Action::StartContainer { id, assignment, address });
    }

    pub(super) fn started(
        &mut self,
        now: Timestamp,
        index: usize,
        result: Result<u32, Setback>,
        out: &mut Effects,
    ) {
        if self.record.containers[index].stage != Stage::Starting {
            return;
        }
        match result {
            Ok(pid) => {
                self.record.timeline.started.get_or_insert(now);
                self.begin_running(index, pid, now);
            }
            Err(Setback { reason, fault: Fault::Node }) => {
                // Its number is not used again: nobody knows how far it came.
                out.actions.push(Action::Discard { id: self.container_id(index) });
                self.record.containers[index].stage = Stage::Waiting;
                self.live[index].starting.failed(now, reason);
            }
            Err(Setback { reason, fault: Fault::Replica }) => {
                let cause = ExitCause::NotStarted { reason };
                self.exited(now, index, Exit { cause, at: now, ran_for: Millis::ZERO }, out);
            }
        }
    }

    pub(super) fn begin_running(&mut self, index: usize, pid: u32, since: Timestamp) {
        let Health { startup, readiness, liveness: _ } = &self.spec(index).health;
        let (warm, ready) = (startup.is_none(), startup.is_none() && readiness.is_none());
        let startup = startup.as_ref().map(|_| Prober::eager(since));
        self.record.containers[index].stage = Stage::Running { pid, since, warm, ready };
        self.live[index] = Live { startup, healthy_since: ready.then_some(since), ..Live::default() };
        if warm {
            self.begin_steady_probes(index, since);
        }
    }

    /// Asks a running container to end; SIGKILL follows after the template's grace.
    pub(super) fn end(&mut self, index: usize, now: Timestamp, why: EndingReason, out: &mut Effects) {
        let spec = self.spec(index);
        let signal = match spec.stop_signal {
            Some(number) => StopSignal::Number(number),
            None => StopSignal::OfImage(spec.image.clone()),
        };
        out.actions.push(Action::Signal { id: self.container_id(index), signal });
        let kill_at = now + self.record.assignment.template.stop_grace;
        self.live[index].ending = Some(Ending { kill_at, killed: false, why });
    }

    pub(super) fn kill_if_due(&mut self, index: usize, now: Timestamp, out: &mut Effects) {
        let id = self.container_id(index);
        let Some(ending) = &mut self.live[index].ending else { return };
        if ending.kill_at <= now {
            ending.kill_at = now + KILL_AGAIN;
            ending.killed = true;
            out.actions.push(Action::Kill { id });
        }
    }

    /// The container's process ended, or never came to be.
    pub(super) fn exited(&mut self, now: Timestamp, index: usize, exit: Exit, out: &mut Effects) {
        match self.record.containers[index].stage {
            Stage::Starting | Stage::Running { .. } => {}
            // Told twice.
            Stage::Waiting | Stage::BackingOff { .. } | Stage::Ended => return,
        }
        let exit = self.explain(index, exit);
        let ending = std::mem::take(&mut self.live[index]).ending;
        self.record.containers[index].last_exit = Some(exit.clone());
        out.actions.push(Action::Discard { id: self.container_id(index) });
        if self.record.phase != Phase::Running {
            let stage = std::mem::replace(&mut self.record.containers[index].stage, Stage::Ended);
            if let (Stage::Running { .. }, Some(since)) = (stage, self.record.ending_since) {
                let killed = ending.is_some_and(|ending| ending.killed);
                let stop = Stop { took: exit.at.since(since), killed };
                out.exits.push(self.exit_report(index, exit, Some(stop)));
            }
            return;
        }
        let role = self.role(index);
        let meaning = meaning(role, self.record.assignment.template.restart.when, exit.cause.is_success());
        if (role, meaning) != (Role::Init, Meaning::Done) {
            out.exits.push(self.exit_report(index, exit.clone(), None));
        }
        self.apply_meaning(now, index, meaning, &exit);
    }

    fn apply_meaning(&mut self, now: Timestamp, index: usize, meaning: Meaning, exit: &Exit) {
        let backoff = self.record.assignment.template.restart.backoff;
        let container = &mut self.record.containers[index];
        container.stage = Stage::Ended;
        match meaning {
            Meaning::StartAgain => {
                container.streak = container.streak.saturating_add(1);
                // An exit from while the agent was away is not waited for again; one from the future (a clock was set
                // back) is no reason to wait longer.
                container.stage =
                    Stage::BackingOff { until: exit.at.min(now) + backoff.delay(container.streak) };
            }
            Meaning::Done => {}
            Meaning::ReplicaCompleted => self.record.phase = Phase::Completed,
            Meaning::ReplicaFailed => {
                let name = &self.spec(index).name;
                self.fail(format!("container {name}: {} (restart policy: never)", exit.cause));
            }
        }
    }

    /// A container that was ended for its probe died of the probe, not of the signal.
    fn explain(&self, index: usize, exit: Exit) -> Exit {
        let cause = match (&self.live[index].ending, exit.cause) {
            (
                Some(Ending { why: EndingReason::Probe { kind, detail }, .. }),
                ExitCause::Code(_) | ExitCause::Signal(_) | ExitCause::Unknown,
            ) => ExitCause::ProbeFailed { probe: kind.as_str().to_owned(), detail: detail.clone() },
            (_, cause) => cause,
        };
        Exit { cause, ..exit }
    }

    fn exit_report(&self, index: usize, exit: Exit, stop: Option<Stop>) -> ContainerExit {
        let assignment = &self.record.assignment;
        ContainerExit {
            replica: assignment.replica,
            service: assignment.service.clone(),
            slot: assignment.slot,
            container: self.spec(index).name.clone(),
            exit,
            restarts: self.record.containers[index].restarts,
            stop,
        }
    }

    pub(super) fn container_wake(&self, index: usize) -> Option<Timestamp> {
        let live = &self.live[index];
        let runs = self.record.phase == Phase::Running;
        match (self.record.containers[index].stage, &live.ending) {
            (Stage::Starting | Stage::Ended, _) => None,
            (Stage::Waiting, _) => {
                live.starting.wake().filter(|_| runs && self.address().is_some() && self.may_start(index))
            }
            // Without a sandbox it is the sandbox that is waited for.
            (Stage::BackingOff { until }, _) => self.address().filter(|_| runs).map(|_| until),
            (Stage::Running { .. }, Some(ending)) => Some(ending.kill_at),
            // One that is condemned waits for the balancer.
            (Stage::Running { .. }, None) if !runs || live.condemned.is_some() => None,
            (Stage::Running { .. }, None) => {
                let probers = [&live.startup, &live.readiness, &live.liveness];
                let probes = probers.into_iter().flatten().filter_map(Prober::wake);
                probes.chain(self.streak_ends_at(index)).min()
            }
        }
    }
}
