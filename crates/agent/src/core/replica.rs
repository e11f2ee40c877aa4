//! One replica: what is remembered of it, what is known of it now, and the step that brings it closer to what is desired.
//!
//! Every event changes the state; `step` then looks at the state alone and does what follows, again and again until
//! nothing more does. So it does not matter in which order events come, or that some were lost with an earlier agent.
//! Start reading at [`next_step`].

use std::net::Ipv4Addr;

use model::{ContainerSpec, Desired, Observed, Phase, ReplicaId, Timestamp};

use super::{
    Action, ContainerId, Fault, Record, Setback, Stage,
    action::ContainerExit,
    attempts::Attempts,
    balance::Standing,
    container::{Live, Role},
    lease::{Footing, Lease},
};

#[derive(Debug)]
pub(super) struct Replica {
    pub(super) record: Record,
    /// In the order of `record.containers`.
    pub(super) live: Vec<Live>,
    pub(super) sandbox: Sandbox,
    pub(super) joining: Joining,
    pub(super) leaving: Leaving,
    pub(super) cleaning: Attempts,
    /// What the last step went by.
    pub(super) footing: Footing,
    /// When that may be another though nothing happens.
    pub(super) footing_changes: Option<Timestamp>,
    /// As the balancer last took it into account.
    pub(super) weighed: Option<Standing>,
    /// What the ledger holds; none before the first save.
    pub(super) saved: Option<Record>,
    /// What the control plane was told last.
    pub(super) reported: Option<Observed>,
}

/// The place that the containers run in: network namespace, address, files, unpacked images.
#[derive(Clone, Debug)]
pub(super) enum Sandbox {
    /// Not there, or not known to be.
    Missing(Attempts),
    Ready(Ipv4Addr),
}

/// How far a ready replica is in the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joining {
    /// The set ordered last is without it.
    Out,
    Ordered {
        serial: u64,
    },
    /// A set with it is in force.
    In,
}

/// How far a replica is out of the balancer that stops, or of which a probe ends a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// Nobody asked it to leave.
    Stays,
    /// It may be in the balancer; the set without it is about to be ordered.
    Asked,
    /// Ordered under this serial number. If the answer does not come, the stop goes on at `patience`.
    Ordered {
        serial: u64,
        patience: Timestamp,
    },
    /// Out, but the kernel may still hold connections that its program has not accepted yet.
    Draining {
        until: Timestamp,
    },
    Out,
}

/// What one step asks for, besides the changed state.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) actions: Vec<Action>,
    pub(super) exits: Vec<ContainerExit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Prepare,
    /// Keep the sandbox ready, start nothing.
    Hold,
    /// From prepared to running.
    Launch,
    /// Start, watch and restart containers.
    Run,
    /// It ended by itself: end what still runs beside it, keep the rest to be looked at.
    Settle,
    /// Begin to stop.
    Retire,
    /// End the containers, then clean.
    Remove,
    Rest,
}

/// The one thing to do next with a replica in this phase.
fn next_step(phase: Phase, desired: Desired) -> Step {
    match (phase, desired) {
        (Phase::Assigned | Phase::Preparing, Desired::Prepared | Desired::Running) => Step::Prepare,
        (Phase::Prepared, Desired::Prepared) => Step::Hold,
        (Phase::Prepared, Desired::Running) => Step::Launch,
        (Phase::Running, Desired::Prepared | Desired::Running) => Step::Run,
        (Phase::Assigned | Phase::Preparing | Phase::Prepared | Phase::Running, Desired::Stopped) => {
            Step::Retire
        }
        // Also a shutdown that was cut short: it is finished first, then the replica begins anew.
        (Phase::Stopping, Desired::Prepared | Desired::Running | Desired::Stopped) => Step::Remove,
        (Phase::Completed | Phase::Failed, Desired::Prepared | Desired::Running) => Step::Settle,
        (Phase::Completed | Phase::Failed, Desired::Stopped) => Step::Remove,
        (Phase::Removed, Desired::Prepared | Desired::Running | Desired::Stopped) => Step::Rest,
    }
}

/// The same while the agent shuts down or the lease is over: everything ends, and what is clean is left as it is for the
/// next start.
fn next_step_of_ending(phase: Phase) -> Step {
    match phase {
        Phase::Preparing | Phase::Prepared | Phase::Running => Step::Retire,
        Phase::Stopping | Phase::Completed | Phase::Failed => Step::Remove,
        Phase::Assigned | Phase::Removed => Step::Rest,
    }
}

impl Replica {
    pub(super) fn new(record: Record) -> Replica {
        let live = record.containers.iter().map(|_| Live::default()).collect();
        Replica {
            record,
            live,
            sandbox: Sandbox::Missing(Attempts::Idle),
            joining: Joining::Out,
            leaving: Leaving::Stays,
            cleaning: Attempts::Idle,
            footing: Footing::Firm,
            footing_changes: None,
            weighed: None,
            saved: None,
            reported: None,
        }
    }

    pub(super) fn id(&self) -> ReplicaId {
        self.record.id()
    }

    pub(super) fn spec(&self, index: usize) -> &ContainerSpec {
        let template = &self.record.assignment.template;
        match self.role(index) {
            Role::Init => &template.init[index],
            Role::Sidecar => &template.sidecars[index - template.init.len()],
            Role::Main => &template.main,
        }
    }

    pub(super) fn role(&self, index: usize) -> Role {
        let template = &self.record.assignment.template;
        if index < template.init.len() {
            Role::Init
        } else if index < template.init.len() + template.sidecars.len() {
            Role::Sidecar
        } else {
            Role::Main
        }
    }

    /// The attempt that container `index` is at.
    pub(super) fn container_id(&self, index: usize) -> ContainerId {
        let attempt = self.record.containers[index].attempt;
        ContainerId { replica: self.id(), container: self.spec(index).name.clone(), attempt }
    }

    /// The index of the container whose present attempt this is.
    pub(super) fn index_of(&self, id: &ContainerId) -> Option<usize> {
        let index =
            self.record.assignment.template.containers().position(|spec| spec.name == id.container)?;
        (self.record.containers[index].attempt == id.attempt).then_some(index)
    }

    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        match self.sandbox {
            Sandbox::Ready(address) => Some(address),
            Sandbox::Missing(_) => None,
        }
    }

    /// Does all that follows from the state. `closing`: the agent shuts down, so every replica stops.
    pub(super) fn step(&mut self, now: Timestamp, closing: bool, lease: Lease, out: &mut Effects) {
        self.footing = self.footing(now, closing, lease);
        self.footing_changes = self.lease_wake(now, lease);
        loop {
            let phase = self.record.phase;
            let step = match self.footing.ends() {
                true => next_step_of_ending(phase),
                false => next_step(phase, self.record.assignment.desired),
            };
            match step {
                Step::Prepare => self.prepare(now, out),
                Step::Hold => {
                    self.sandbox_is_ready(now, out);
                }
                Step::Launch => self.record.phase = Phase::Running,
                Step::Run => self.run(now, out),
                Step::Settle => {
                    if self.has_left_balancer(now) {
                        self.end_containers(now, out);
                    }
                }
                Step::Retire => self.retire(),
                Step::Remove => self.remove(now, out),
                Step::Rest => {}
            }
            if self.record.phase == phase {
                break;
            }
        }
        self.settle_readiness(now);
    }

    fn prepare(&mut self, now: Timestamp, out: &mut Effects) {
        self.record.phase = Phase::Preparing;
        if self.sandbox_is_ready(now, out) {
            self.record.phase = Phase::Prepared;
        }
    }

    /// Asks for the sandbox where it is missing.
    pub(super) fn sandbox_is_ready(&mut self, now: Timestamp, out: &mut Effects) -> bool {
        match &mut self.sandbox {
            Sandbox::Ready(_) => true,
            Sandbox::Missing(attempts) => {
                if attempts.begin(now) {
                    let (assignment, address) = (self.record.assignment.clone(), self.record.address);
                    out.actions.push(Action::Prepare { assignment, address });
                }
                false
            }
        }
    }

    pub(super) fn prepared(&mut self, now: Timestamp, result: Result<Ipv4Addr, Setback>) {
        let Sandbox::Missing(attempts) = &mut self.sandbox else { return };
        match result {
            Ok(address) => {
                self.sandbox = Sandbox::Ready(address);
                self.record.address = Some(address);
                self.record.timeline.image_ready.get_or_insert(now);
            }
            Err(Setback { reason, fault: Fault::Node }) => attempts.failed(now, reason),
            Err(Setback { reason, fault: Fault::Replica }) => {
                *attempts = Attempts::Idle;
                if self.record.phase < Phase::Stopping {
                    self.fail(format!("cannot be prepared: {reason}"));
                }
            }
        }
    }

    pub(super) fn fail(&mut self, reason: String) {
        self.record.phase = Phase::Failed;
        self.record.failure = Some(reason);
    }

    /// Ready is what every balancer and rollout goes by: all that should run does, and no readiness probe objects.
    fn settle_readiness(&mut self, now: Timestamp) {
        let ready = self.record.phase == Phase::Running && self.containers_are_ready();
        if !ready {
            self.record.ready_since = None;
        } else if self.record.ready_since.is_none() {
            self.leaving = Leaving::Stays;
            self.record.ready_since = Some(now);
            self.record.timeline.ready.get_or_insert(now);
        }
    }

    fn containers_are_ready(&self) -> bool {
        self.record.containers.iter().zip(&self.live).all(|(container, live)| match container.stage {
            Stage::Running { ready, .. } => ready && live.condemned.is_none() && live.ending.is_none(),
            // An init container that succeeded, or a sidecar that ended in peace under a policy that lets it.
            Stage::Ended => true,
            Stage::Waiting | Stage::Starting | Stage::BackingOff { .. } => false,
        })
    }

    /// When there is something to do again without any event.
    pub(super) fn wake(&self) -> Option<Timestamp> {
        let sandbox = match &self.sandbox {
            Sandbox::Missing(attempts) if self.record.phase < Phase::Stopping => attempts.wake(),
            Sandbox::Missing(_) | Sandbox::Ready(_) => None,
        };
        // One that ends by itself is not waited for any more.
        let is_awaited = |live: &Live| live.condemned.is_some();
        let leaving = match self.leaving {
            _ if self.record.phase == Phase::Running && !self.live.iter().any(is_awaited) => None,
            Leaving::Ordered { patience, .. } => Some(patience),
            Leaving::Draining { until } => Some(until),
            Leaving::Stays | Leaving::Asked | Leaving::Out => None,
        };
        let containers = (0..self.live.len()).filter_map(|index| self.container_wake(index));
        let others = [self.cleaning.wake(), self.footing_changes].into_iter().flatten();
        containers.chain(sandbox).chain(leaving).chain(others).min()
    }
}
