//! What the control plane is told of a replica.

use model::{ContainerObserved, ContainerState, Desired, Observed, Phase};

use super::{
    Fault, Setback, Stage,
    container::Role,
    probes::Prober,
    replica::{Replica, Sandbox},
};

impl Replica {
    /// What the control plane has not been told yet; it then counts as told.
    pub(super) fn news(&mut self) -> Option<Observed> {
        let observed = self.observed();
        if self.reported.as_ref() == Some(&observed) {
            return None;
        }
        self.reported = Some(observed.clone());
        Some(observed)
    }

    pub(super) fn observed(&self) -> Observed {
        let record = &self.record;
        let containers = (0..record.containers.len()).map(|index| self.container_observed(index));
        Observed {
            replica: record.assignment.replica,
            phase: record.phase,
            // Who is told that it is ready may send it a request in the same moment.
            ready_since: record.ready_since.filter(|_| self.is_reached()),
            timeline: record.timeline,
            address: record.address,
            containers: containers.collect(),
            message: self.message(),
        }
    }

    fn container_observed(&self, index: usize) -> ContainerObserved {
        let container = &self.record.containers[index];
        // Nothing is ready that is being ended, nor is an init container ready for anything.
        let serves = self.record.phase == Phase::Running && self.role(index) != Role::Init;
        ContainerObserved {
            name: self.spec(index).name.clone(),
            state: match container.stage {
                Stage::Waiting | Stage::Starting => ContainerState::Waiting,
                Stage::Running { pid, since, ready, .. } => {
                    ContainerState::Running { pid, since, ready: ready && serves }
                }
                Stage::BackingOff { until } => ContainerState::BackingOff { until },
                Stage::Ended => ContainerState::Ended,
            },
            restarts: container.restarts,
            last_exit: container.last_exit.clone(),
        }
    }

    /// What it waits for or what went wrong last. Says nothing that changes by itself, such as a remaining time.
    fn message(&self) -> Option<String> {
        if let Some(reason) = self.cleaning.complaint() {
            return Some(format!("cannot be cleaned up yet: {reason}"));
        }
        if self.footing.kill_at().is_some() && self.record.assignment.desired != Desired::Stopped {
            return Some("held back until a leader hears this node (onPartition: stop)".to_owned());
        }
        match self.record.phase {
            Phase::Failed => self.record.failure.clone(),
            Phase::Assigned | Phase::Preparing | Phase::Prepared | Phase::Running => self.complaint(),
            Phase::Stopping | Phase::Completed | Phase::Removed => None,
        }
    }

    fn complaint(&self) -> Option<String> {
        if let Sandbox::Missing(attempts) = &self.sandbox
            && let Some(reason) = attempts.complaint()
        {
            return Some(format!("cannot be prepared yet: {reason}"));
        }
        (0..self.record.containers.len()).find_map(|index| self.container_complaint(index))
    }

    fn container_complaint(&self, index: usize) -> Option<String> {
        let (container, live) = (&self.record.containers[index], &self.live[index]);
        let name = &self.spec(index).name;
        match container.stage {
            Stage::BackingOff { .. } => {
                let exit = container.last_exit.as_ref()?;
                Some(format!("container {name}: {}; waiting to start it again", exit.cause))
            }
            Stage::Running { ready, .. } => {
                let failing = |prober: &Option<Prober>| prober.as_ref()?.complaint.clone();
                let say = |kind: &str, Setback { reason, fault }| match fault {
                    Fault::Replica => format!("container {name}: {kind} probe fails: {reason}"),
                    Fault::Node => {
                        format!(
                            "container {name}: {kind} probe cannot be asked, which is this node's trouble: {reason}"
                        )
                    }
                };
                let startup = failing(&live.startup).map(|detail| say("startup", detail));
                let readiness = || failing(&live.readiness).filter(|_| !ready).map(|d| say("readiness", d));
                let liveness = || failing(&live.liveness).map(|detail| say("liveness", detail));
                startup.or_else(readiness).or_else(liveness)
            }
            Stage::Waiting => {
                let reason = live.starting.complaint()?;
                Some(format!(
                    "container {name} cannot be started yet, which is this node's trouble: {reason}"
                ))
            }
            Stage::Starting | Stage::Ended => None,
        }
    }
}
