//! What probes decide about a container that runs: startup holds the others back, readiness only says ready or not,
//! startup and liveness end it, once its replica has left the balancer.

use model::{Health, Phase, ProbeAction, Timestamp, probe::ProbePort};

use super::{
    Action, ProbeKind, ProbeTarget, Setback, Stage,
    container::EndingReason,
    probes::{Prober, Verdict},
    replica::{Effects, Leaving, Replica},
};

impl Replica {
    /// Of a container that runs: the kill that is due, the probes that are due, the health that has lasted, the end that a
    /// probe asked for.
    pub(super) fn watch(&mut self, index: usize, now: Timestamp, out: &mut Effects) {
        if self.live[index].ending.is_some() {
            self.kill_if_due(index, now, out);
            return;
        }
        if self.live[index].condemned.is_none() {
            self.probe_if_due(index, now, out);
        }
        if self.streak_ends_at(index).is_some_and(|at| at <= now) {
            self.record.containers[index].streak = 0;
        }
        if self.live[index].condemned.is_some()
            && self.has_left_balancer(now)
            && let Some(why) = self.live[index].condemned.take()
        {
            self.end(index, now, why, out);
        }
    }

    fn probe_if_due(&mut self, index: usize, now: Timestamp, out: &mut Effects) {
        for kind in [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness] {
            if self.prober(index, kind).is_some_and(|prober| prober.begin(now)) {
                self.probe(index, kind, now, out);
            }
        }
    }

    fn prober(&mut self, index: usize, kind: ProbeKind) -> Option<&mut Prober> {
        let live = &mut self.live[index];
        match kind {
            ProbeKind::Startup => live.startup.as_mut(),
            ProbeKind::Readiness => live.readiness.as_mut(),
            ProbeKind::Liveness => live.liveness.as_mut(),
        }
    }

    fn probe(&mut self, index: usize, kind: ProbeKind, now: Timestamp, out: &mut Effects) {
        let Some(spec) = probe_spec(&self.spec(index).health, kind) else { return };
        let timeout = spec.timeout;
        match self.probe_target(&spec.action) {
            Ok(target) => {
                out.actions.push(Action::Probe { id: self.container_id(index), kind, target, timeout });
            }
            Err(setback) => self.probed(now, index, kind, Err(setback)),
        }
    }

    fn probe_target(&self, action: &ProbeAction) -> Result<ProbeTarget, Setback> {
        let address = |port: &ProbePort| {
            let ports = &self.record.assignment.template.ports;
            let number = match port {
                ProbePort::Number(number) => Some(*number),
                ProbePort::Named(name) => ports.iter().find(|port| port.name == *name).map(|port| port.port),
            };
            let nameless = || Setback::of_replica(format!("the replica has no port of the name in {port:?}"));
            let number = number.ok_or_else(nameless)?;
            let host = self.address().ok_or_else(|| Setback::of_node("the replica has no address"))?;
            Ok::<_, Setback>(std::net::SocketAddrV4::new(host, number))
        };
        Ok(match action {
            ProbeAction::Http { port, path } => {
                ProbeTarget::Http { address: address(port)?, path: path.clone() }
            }
            ProbeAction::Tcp { port } => ProbeTarget::Tcp { address: address(port)? },
            ProbeAction::Exec { command } => ProbeTarget::Exec { command: command.clone() },
        })
    }

    pub(super) fn probed(
        &mut self,
        now: Timestamp,
        index: usize,
        kind: ProbeKind,
        result: Result<(), Setback>,
    ) {
        let Some(spec) = probe_spec(&self.spec(index).health, kind).cloned() else { return };
        let Some(prober) = self.prober(index, kind) else { return };
        let verdict = prober.answer(now, &spec, result);
        // What ends already, alone or with its replica, is not judged any more.
        let live = &self.live[index];
        if self.record.phase != Phase::Running || live.condemned.is_some() || live.ending.is_some() {
            return;
        }
        match (kind, verdict) {
            (_, Verdict::Undecided) | (ProbeKind::Liveness, Verdict::Succeeds) => {}
            (ProbeKind::Startup, Verdict::Succeeds) => self.warmed_up(index, now),
            (ProbeKind::Readiness, Verdict::Succeeds) => self.set_ready(index, true, now),
            (ProbeKind::Readiness, Verdict::Fails(_)) => self.set_ready(index, false, now),
            (ProbeKind::Startup | ProbeKind::Liveness, Verdict::Fails(detail)) => {
                self.set_ready(index, false, now);
                self.live[index].condemned = Some(EndingReason::Probe { kind, detail });
                if self.leaving == Leaving::Stays {
                    self.leaving = self.must_leave();
                }
            }
        }
    }

    fn warmed_up(&mut self, index: usize, now: Timestamp) {
        self.live[index].startup = None;
        let has_readiness = self.spec(index).health.readiness.is_some();
        if let Stage::Running { warm, .. } = &mut self.record.containers[index].stage {
            *warm = true;
        }
        self.begin_steady_probes(index, now);
        self.set_ready(index, !has_readiness, now);
    }

    fn set_ready(&mut self, index: usize, is: bool, now: Timestamp) {
        if let Stage::Running { ready, .. } = &mut self.record.containers[index].stage {
            *ready = is;
        }
        let healthy_since = &mut self.live[index].healthy_since;
        *healthy_since = is.then(|| healthy_since.unwrap_or(now));
    }

    /// After the startup probe, if there is one.
    pub(super) fn begin_steady_probes(&mut self, index: usize, now: Timestamp) {
        let health = &self.spec(index).health;
        let readiness = health.readiness.as_ref().map(|_| Prober::eager(now));
        let liveness = health.liveness.as_ref().map(|probe| Prober::steady(now + probe.interval));
        self.live[index].readiness = readiness;
        self.live[index].liveness = liveness;
    }

    /// When it will have run healthy for so long that its restarts are forgotten.
    pub(super) fn streak_ends_at(&self, index: usize) -> Option<Timestamp> {
        let reset_after = self.record.assignment.template.restart.backoff.reset_after;
        let healthy_since = self.live[index].healthy_since?;
        (self.record.containers[index].streak > 0).then(|| healthy_since + reset_after)
    }
}

fn probe_spec(health: &Health, kind: ProbeKind) -> Option<&model::Probe> {
    match kind {
        ProbeKind::Startup => health.startup.as_ref(),
        ProbeKind::Readiness => health.readiness.as_ref(),
        ProbeKind::Liveness => health.liveness.as_ref(),
    }
}
