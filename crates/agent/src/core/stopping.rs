//! How a replica ends: out of the balancer, a pause, the stop signal, SIGKILL after the grace, and then nothing is left.
//!
//! The main container is asked first and alone; its sidecars follow in reverse order, each once what it served is
//! gone. All share one grace period, counted from the first signal.

use model::{Desired, Millis, Phase, Timestamp};

use super::{
    Action, Stage,
    attempts::Attempts,
    container::{Ending, EndingReason, Live},
    replica::{Effects, Leaving, Replica, Sandbox},
};

/// Between leaving the balancer and the stop signal. A connection that the balancer sent just before may still be in
/// the kernel's accept queue, and a program that closes its listener on SIGTERM would reset it.
pub(super) const DRAIN: Millis = Millis(100);

/// How long the balancer may take to let a replica go before it is stopped all the same: a stop must end.
pub(super) const BALANCER_PATIENCE: Millis = Millis(5_000);

impl Replica {
    pub(super) fn retire(&mut self) {
        self.leaving = self.must_leave();
        self.record.phase = Phase::Stopping;
        self.record.ready_since = None;
    }

    /// Also one that is not ready now: the change that took it out may not be in force yet. But where nothing runs, nor
    /// is about to, there is nothing to protect.
    pub(super) fn must_leave(&self) -> Leaving {
        let runs = |stage| matches!(stage, Stage::Starting | Stage::Running { .. });
        let runs = self.record.containers.iter().any(|container| runs(container.stage));
        if self.publishes_ports() && runs && self.address().is_some() { Leaving::Asked } else { Leaving::Out }
    }

    /// The balancer without it is in force.
    pub(super) fn balanced(&mut self, now: Timestamp, serial: u64) {
        match self.leaving {
            Leaving::Ordered { serial: wanted, .. } if wanted <= serial => {
                self.leaving = Leaving::Draining { until: now + DRAIN };
            }
            Leaving::Ordered { .. }
            | Leaving::Stays
            | Leaving::Asked
            | Leaving::Draining { .. }
            | Leaving::Out => {}
        }
    }

    pub(super) fn has_left_balancer(&mut self, now: Timestamp) -> bool {
        match self.leaving {
            // What is connected to it is lost in any case.
            _ if self.footing.kill_at().is_some_and(|at| at <= now) => {}
            Leaving::Stays => return true,
            Leaving::Asked => return false,
            Leaving::Ordered { patience: until, .. } | Leaving::Draining { until } if now < until => {
                return false;
            }
            Leaving::Ordered { .. } | Leaving::Draining { .. } | Leaving::Out => {}
        }
        self.leaving = Leaving::Out;
        true
    }

    pub(super) fn remove(&mut self, now: Timestamp, out: &mut Effects) {
        if !self.has_left_balancer(now) || !self.end_containers(now, out) {
            return;
        }
        if let Sandbox::Missing(attempts) = &self.sandbox
            && attempts.is_underway()
        {
            return; // What is being made now has to be there before it can be cleaned.
        }
        let ended_by_itself = matches!(self.record.phase, Phase::Completed | Phase::Failed);
        if self.footing.ends() && ended_by_itself && self.is_clean() {
            return; // How it ended stays known.
        }
        if self.cleaning.begin(now) {
            let service = Some(self.record.assignment.service.clone());
            out.actions.push(Action::Clean { replica: self.id(), service });
        }
    }

    /// Ends every container, the last started first. Whether none is left.
    pub(super) fn end_containers(&mut self, now: Timestamp, out: &mut Effects) -> bool {
        for container in &mut self.record.containers {
            match container.stage {
                Stage::Waiting | Stage::BackingOff { .. } => container.stage = Stage::Ended,
                Stage::Starting | Stage::Running { .. } | Stage::Ended => {}
            }
        }
        let is_left = |index: &usize| self.record.containers[*index].stage != Stage::Ended;
        let Some(last) = (0..self.record.containers.len()).rev().find(is_left) else { return true };
        let since = *self.record.ending_since.get_or_insert(now);
        let grace_ends = since + self.record.assignment.template.stop_grace;
        let deadline = self.footing.kill_at().map_or(grace_ends, |at| at.min(grace_ends));
        let runs = |index: usize| matches!(self.record.containers[index].stage, Stage::Running { .. });
        // One that is still starting is asked once it can be.
        if runs(last) && self.live[last].ending.is_none() {
            self.end(last, now, EndingReason::Stop, out);
        }
        for index in 0..=last {
            self.kill_by(index, deadline, now, out);
        }
        false
    }

    /// The grace is counted from the first signal of all: nobody, asked or not, outlasts `deadline`.
    fn kill_by(&mut self, index: usize, deadline: Timestamp, now: Timestamp, out: &mut Effects) {
        let runs = matches!(self.record.containers[index].stage, Stage::Running { .. });
        match &mut self.live[index].ending {
            Some(ending) if !ending.killed => ending.kill_at = ending.kill_at.min(deadline),
            ending @ None if runs && deadline <= now => {
                *ending = Some(Ending { kill_at: deadline, killed: false, why: EndingReason::Stop });
            }
            Some(_) | None => {}
        }
        self.kill_if_due(index, now, out);
    }

    /// Of a replica that ended: whether nothing of it is on the host, by what is known.
    pub(super) fn is_clean(&self) -> bool {
        let ended = |stage: Stage| matches!(stage, Stage::Ended | Stage::Waiting | Stage::BackingOff { .. });
        let containers_ended = self.record.containers.iter().all(|container| ended(container.stage));
        containers_ended && self.address().is_none() && matches!(self.cleaning, Attempts::Idle)
    }

    pub(super) fn cleaned(&mut self, now: Timestamp, result: Result<(), String>) {
        if !self.cleaning.is_underway() {
            return;
        }
        if let Err(reason) = result {
            self.cleaning.failed(now, reason);
            return;
        }
        self.cleaning = Attempts::Idle;
        self.sandbox = Sandbox::Missing(Attempts::Idle);
        self.record.address = None;
        self.record.ending_since = None;
        self.leaving = Leaving::Stays;
        match (self.record.phase, self.record.assignment.desired) {
            (_, Desired::Stopped) => self.record.phase = Phase::Removed,
            (Phase::Completed | Phase::Failed, Desired::Prepared | Desired::Running) => {}
            (_, Desired::Prepared | Desired::Running) => {
                self.record.begin_anew();
                self.live.fill_with(Live::default);
            }
        }
    }
}
