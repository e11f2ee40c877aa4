//! Heartbeats, the leases that are given for them, and the keepers that end what runs without one.
//!
//! The rule that is checked: of two replicas in one slot that their nodes stop without the control plane
//! (`onPartition: stop`), never two have a process at the same time, wherever they are and whoever knows.

use agent::core::{ContainerId, Event as AgentEvent, FoundState};
use manager::SessionId;
use model::{Assignment, ExitCause, Heard, Millis, OnPartition, Settings, Timestamp};

use crate::{
    bug::Bug,
    host::Process,
    world::{AgentSays, Happening, World},
};

/// Until a server says otherwise.
const FIRST_INTERVAL: Millis = Millis(3_000);

/// Longer than a start takes. What was on its way when a lease was over may begin after the next one came, to be stopped.
const STARTS_WITHIN: Millis = Millis(100);

/// The heartbeats of one session.
#[derive(Debug)]
pub(crate) struct Heartbeats {
    session: SessionId,
    last: u64,
    sent: Vec<(u64, Timestamp)>,
    interval: Millis,
}

impl Heartbeats {
    pub(crate) fn of(session: SessionId) -> Heartbeats {
        Heartbeats { session, last: 0, sent: Vec::new(), interval: FIRST_INTERVAL }
    }
}

impl Process {
    fn needs_lease(&self) -> bool {
        needs_lease(self.template.on_partition)
    }
}

fn needs_lease(on_partition: OnPartition) -> bool {
    on_partition == OnPartition::Stop
}

impl World {
    pub(crate) fn agent_beats(&mut self, node: usize, life: u32, session: SessionId) {
        let now = self.cx.now;
        let Some(agent) = self.nodes[node].agent_of(life).filter(|agent| agent.session == Some(session))
        else {
            return;
        };
        let beats = &mut agent.heartbeats;
        if beats.session != session {
            *beats = Heartbeats::of(session);
        }
        beats.last += 1;
        beats.sent.push((beats.last, now));
        let (number, interval) = (beats.last, beats.interval);
        self.send_to_server(session, AgentSays::Heartbeat { number });
        self.cx.after(interval, Happening::AgentBeats { node, life, session });
    }

    /// The agent writes down for the keepers until when its node has the lease, and then uses it.
    pub(crate) fn agent_is_heard(&mut self, node: usize, life: u32, heard: Heard) {
        let now = self.cx.now;
        let Some(agent) = self.nodes[node].agent_of(life) else { return };
        agent.heartbeats.interval = heard.next;
        let sent = &agent.heartbeats.sent;
        let Some((_, sent_at)) = sent.iter().find(|(number, _)| *number == heard.number) else { return };
        let lease = if self.cx.has(Bug::EndlessLease) { Millis(heard.lease.0 * 10) } else { heard.lease };
        let until = *sent_at + lease;
        let host = &mut self.nodes[node].host;
        if host.leased_until <= now {
            host.lapsed_until = now;
        }
        host.leased_until = host.leased_until.max(until);
        self.plan_end_of_lease(node);
        let until = self.nodes[node].clock.shows(until);
        self.agent_hears(node, life, AgentEvent::Leased { until });
    }

    fn plan_end_of_lease(&mut self, node: usize) {
        let kill_at = self.nodes[node].host.leased_until + Settings::LEASE_GRACE;
        self.cx.at(kill_at, Happening::LeaseIsOver { node });
    }

    /// What keepers do, whether or not there is an agent.
    pub(crate) fn lease_is_over(&mut self, node: usize) {
        let host = &self.nodes[node].host;
        let is_renewed = self.cx.now < host.leased_until + Settings::LEASE_GRACE;
        if is_renewed || self.cx.has(Bug::IdleKeepers) {
            return;
        }
        let over = host.running().filter(|(_, process)| process.needs_lease());
        let over: Vec<ContainerId> = over.map(|(id, _)| id.clone()).collect();
        for id in over {
            self.cx.say(format_args!("node {node}: the keeper of {id} ends it with the lease"));
            let happening =
                Happening::ProcessEnds { node, id, cause: ExitCause::Signal(9), by_itself: false };
            self.cx.soon(1, 10, happening);
        }
    }

    /// A container was started: whether it may be beside what runs elsewhere. Its keeper looks at the lease as well.
    pub(crate) fn note_start(&mut self, node: usize, id: &ContainerId, assignment: &Assignment) {
        if !needs_lease(assignment.template.on_partition) {
            return;
        }
        self.plan_end_of_lease(node);
        let is_other = |other: &Process| {
            other.needs_lease() && other.slot == (assignment.service.clone(), assignment.slot)
        };
        for (at, host) in self.nodes.iter().map(|node| &node.host).enumerate() {
            let mut others = host.running().filter(|(other, _)| other.replica != id.replica);
            if let Some((other, _)) = others.find(|(_, process)| is_other(process)) {
                let detail = format!("{id} starts on node {node} while {other} runs on node {at}");
                return self.cx.violate("at most one of those that stop on a partition runs", detail);
            }
        }
    }

    /// Whether its keeper ends it in this moment.
    pub(crate) fn is_killed_for_lease(&self, node: usize, id: &ContainerId) -> bool {
        let host = &self.nodes[node].host;
        let needs = host.processes.get(id).is_some_and(Process::needs_lease);
        needs && host.leased_until + Settings::LEASE_GRACE <= self.cx.now
    }

    /// Whether something may be ended because its node is not heard, or was not for a while since it was started: a stop
    /// that was begun is brought to its end.
    pub(crate) fn was_without_lease(&self, node: usize, id: &ContainerId) -> bool {
        let host = &self.nodes[node].host;
        let Some(process) = host.processes.get(id).filter(|process| process.needs_lease()) else {
            return false;
        };
        let lapsed = |since| host.leased_until <= self.cx.now || since <= host.lapsed_until + STARTS_WITHIN;
        matches!(process.state, FoundState::Running { since, .. } if lapsed(since))
    }
}
