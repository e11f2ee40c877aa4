//! Orders on the host: how long they take, what they do, and what the agent is told.

use std::net::Ipv4Addr;

use agent::core::{Action, ContainerId, Event, ProbeKind, Setback};
use model::{Assignment, Desired, Exit, ExitCause, Millis, Phase, ReplicaId};

use super::{Node, Order};

use crate::{
    behaviour::{Behaviour, Fate},
    bug::Bug,
    world::{Happening, World},
};

/// Longer than the control plane waits for nodes that stay silent.
const HEARD_FOR: Millis = Millis(10_000);

impl World {
    pub(super) fn order(&mut self, node: usize, action: Action) {
        let replica = match &action {
            Action::Prepare { assignment, .. } => assignment.replica,
            Action::StartContainer { id, .. }
            | Action::Signal { id, .. }
            | Action::Kill { id }
            | Action::Probe { id, .. }
            | Action::Discard { id } => id.replica,
            Action::Clean { replica, .. } => *replica,
            Action::Save(_)
            | Action::Balance { .. }
            | Action::Report(_)
            | Action::Exits(_)
            | Action::GoBy { .. }
            | Action::ReopenSession => unreachable!("{action} is no order for a host"),
        };
        let Some(agent) = self.nodes[node].agent.as_mut() else { return };
        agent.lanes.entry(replica).or_default().orders.push_back(action);
        self.next_order(node, replica);
    }

    fn next_order(&mut self, node: usize, replica: ReplicaId) {
        let life = self.nodes[node].life;
        loop {
            let Some(agent) = self.nodes[node].agent.as_mut() else { return };
            let Some(lane) = agent.lanes.get_mut(&replica).filter(|lane| !lane.is_busy) else { return };
            let (low, high) = match lane.orders.front() {
                None => return,
                Some(Action::Probe { id, kind, timeout, .. }) => {
                    let (id, kind, timeout) = (id.clone(), *kind, *timeout);
                    lane.orders.pop_front();
                    let hangs = self.hangs(node, &id);
                    let span = if hangs { timeout } else { self.cx.random.millis(1, 20) };
                    self.cx.after(span, Happening::Probed { node, life, id, kind });
                    continue;
                }
                Some(Action::Prepare { .. }) => (20, 1_500),
                Some(Action::StartContainer { .. }) => (5, 80),
                Some(Action::Clean { .. }) => (5, 200),
                Some(_) => (1, 5),
            };
            lane.is_busy = true;
            return self.cx.soon(low, high, Happening::OrderDone { node, life, replica });
        }
    }

    pub(crate) fn order_done(&mut self, node: usize, life: u32, replica: ReplicaId) {
        let Some(agent) = self.nodes[node].agent_of(life) else { return };
        let Some(lane) = agent.lanes.get_mut(&replica) else { return };
        lane.is_busy = false;
        let Some(order) = lane.orders.pop_front() else { return };
        if let Some(event) = self.take_effect(node, order) {
            self.agent_hears(node, life, event);
        }
        self.next_order(node, replica);
    }

    /// What an order does, and what its agent, if it lives, is told.
    pub(super) fn take_effect(&mut self, node: usize, order: Action) -> Option<Event> {
        match order {
            Action::Prepare { assignment, address } => Some(self.prepare(node, &assignment, address)),
            Action::StartContainer { id, assignment, .. } => Some(self.start(node, id, &assignment)),
            Action::Signal { id, .. } => {
                self.check_told_to_end(node, &id);
                self.signal(node, &id);
                None
            }
            Action::Kill { id } => {
                self.check_may_end(node, &id);
                let happening =
                    Happening::ProcessEnds { node, id, cause: ExitCause::Signal(9), by_itself: false };
                self.cx.soon(1, 10, happening);
                None
            }
            Action::Discard { id } => {
                if self.nodes[node].host.processes.get(&id).is_some_and(|process| process.runs()) {
                    self.cx.violate("what runs is not discarded", id.to_string());
                }
                self.nodes[node].host.processes.remove(&id);
                None
            }
            Action::Clean { replica, .. } => Some(self.clean(node, replica)),
            Action::Probe { .. }
            | Action::Save(_)
            | Action::Balance { .. }
            | Action::Report(_)
            | Action::Exits(_)
            | Action::GoBy { .. }
            | Action::ReopenSession => None,
        }
    }

    fn prepare(&mut self, node: usize, assignment: &Assignment, address: Option<Ipv4Addr>) -> Event {
        let replica = assignment.replica;
        if !self.cx.calm && self.cx.random.one_in(15) {
            return Event::Prepared { replica, result: Err(Setback::of_node("no luck")) };
        }
        Event::Prepared { replica, result: Ok(self.nodes[node].host.prepare(replica, address)) }
    }

    fn start(&mut self, node: usize, id: ContainerId, assignment: &Assignment) -> Event {
        // Not to be startable is a fault of the replica, or of a node that has run out of something.
        if !self.cx.calm && !self.plan.gentle && self.cx.random.one_in(25) {
            let setback = if id.attempt.is_multiple_of(2) { Setback::of_node } else { Setback::of_replica };
            return Event::Started { id, result: Err(setback("no luck".to_owned())) };
        }
        if let Err(detail) = self.nodes[node].host.may_start(&id, &assignment.template) {
            self.cx.violate("containers start alone, once and where there is room", detail);
        }
        let (now, calm) = (self.cx.now, self.cx.calm);
        let fate = match id.container.as_str() {
            "main" => Fate::draw(Behaviour::of(&assignment.template.main), calm, now, &mut self.cx.random),
            "fetch" => Fate::draw_init(calm, now, &mut self.cx.random),
            _ => Fate::draw(Behaviour::Healthy, calm, now, &mut self.cx.random),
        };
        let by_itself = id.container.as_str() == "main";
        if let Some((at, cause)) = fate.ends.clone() {
            self.cx.at(at, Happening::ProcessEnds { node, id: id.clone(), cause, by_itself });
        }
        let pid = self.nodes[node].host.start(now, &id, assignment, fate);
        self.note_start(node, &id, assignment);
        self.note_beginning(node, &id);
        Event::Started { id, result: Ok(pid) }
    }

    fn signal(&mut self, node: usize, id: &ContainerId) {
        let (now, calm) = (self.cx.now, self.cx.calm);
        let Some(process) = self.nodes[node].host.processes.get_mut(id) else { return };
        let Some(delay) = process.fate.heeds_stop.filter(|_| !process.fate.hangs(calm, now)) else { return };
        process.is_ending = true;
        let happening =
            Happening::ProcessEnds { node, id: id.clone(), cause: ExitCause::Code(0), by_itself: false };
        self.cx.after(delay, happening);
    }

    pub(crate) fn process_ends(&mut self, node: usize, id: &ContainerId, cause: ExitCause, by_itself: bool) {
        let (now, calm, life) = (self.cx.now, self.cx.calm, self.nodes[node].life);
        let host = &mut self.nodes[node].host;
        let spared =
            by_itself && calm && host.processes.get(id).is_some_and(|p| p.behaviour().comes_to_rest());
        if spared {
            return;
        }
        let Some(exit) = host.end(now, id, cause) else { return };
        let exit = Exit { at: self.nodes[node].clock.shows(exit.at), ..exit };
        self.note_end(id);
        self.cx.say(format_args!("node {node}: {id} ends: {}", exit.cause));
        let swallowed = self.cx.has(Bug::SwallowExit) && self.cx.random.one_in(4);
        let is_told = self.nodes[node].agent.as_ref().is_some_and(|agent| agent.has_adopted);
        if is_told && !swallowed {
            let event = Box::new(Event::Exited { id: id.clone(), exit });
            self.cx.soon(0, 30, Happening::ExitTold { node, life, event });
        }
    }

    fn clean(&mut self, node: usize, replica: ReplicaId) -> Event {
        if !self.cx.calm && self.cx.random.one_in(20) {
            return Event::Cleaned { replica, result: Err("busy".to_owned()) };
        }
        let host = &mut self.nodes[node].host;
        if let Some((id, _)) = host.running().find(|(id, _)| id.replica == replica) {
            let detail = format!("{id} runs");
            self.cx.violate("what runs is not cleaned away", detail);
        }
        let host = &mut self.nodes[node].host;
        host.processes.retain(|id, _| id.replica != replica);
        host.sandboxes.remove(&replica);
        Event::Cleaned { replica, result: Ok(()) }
    }

    fn hangs(&self, node: usize, id: &ContainerId) -> bool {
        let process = self.nodes[node].host.processes.get(id);
        process.is_some_and(|process| process.fate.hangs(self.cx.calm, self.cx.now))
    }

    pub(crate) fn probed(&mut self, node: usize, life: u32, id: ContainerId, kind: ProbeKind) {
        let (now, calm) = (self.cx.now, self.cx.calm);
        let process = self.nodes[node].host.processes.get(&id).filter(|process| process.runs());
        let result = match (process.map(|process| &process.fate), kind) {
            (None, _) => Err("nothing listens"),
            (Some(fate), _) if fate.hangs(calm, now) => Err("timeout"),
            (Some(_), ProbeKind::Liveness) => Ok(()),
            (Some(fate), ProbeKind::Startup | ProbeKind::Readiness) if fate.is_ready(calm, now) => Ok(()),
            (Some(_), ProbeKind::Startup | ProbeKind::Readiness) => Err("refused"),
        };
        let result = result.map_err(Setback::of_replica);
        if let Err(reason) = &result {
            self.cx.say(format_args!("node {node}: {} probe of {id} fails: {reason}", kind.as_str()));
        }
        self.agent_hears(node, life, Event::Probed { id, kind, result });
    }

    /// The newest set counts; one that waits for its turn is replaced.
    pub(super) fn balance(&mut self, node: usize, order: Order) {
        let life = self.nodes[node].life;
        let lies = self.cx.has(Bug::BalancedTooEarly);
        let serial = order.serial;
        let Some(agent) = self.nodes[node].agent.as_mut() else { return };
        if agent.balancing.is_some() {
            agent.balances_next = Some(order);
        } else {
            agent.balancing = Some(order);
            let (low, high) = if lies { (500, 3_000) } else { (1, 60) };
            self.cx.soon(low, high, Happening::Balanced { node, life });
        }
        if lies {
            let event = Box::new(Event::Balanced { serial });
            self.cx.soon(0, 1, Happening::ExitTold { node, life, event });
        }
    }

    pub(crate) fn balanced(&mut self, node: usize, life: u32) {
        let Some(agent) = self.nodes[node].agent_of(life) else { return };
        let Some(Order { serial, ports, directory }) = agent.balancing.take() else { return };
        let next = agent.balances_next.take();
        let is_stuck = self.cx.has(Bug::StuckBalancer) && !self.nodes[node].host.in_force.is_empty();
        if !is_stuck {
            self.nodes[node].host.in_force = ports;
            self.nodes[node].host.directory = directory;
        }
        self.agent_hears(node, life, Event::Balanced { serial });
        if let Some(order) = next {
            self.balance(node, order);
        }
    }

    /// A program is told to end only where nobody sends it connections any more, or where it is killed for the lease.
    fn check_told_to_end(&mut self, node: usize, id: &ContainerId) {
        self.check_may_end(node, id);
        let is_killed = self.is_killed_for_lease(node, id);
        let node_state = &self.nodes[node];
        // For a probe or for good. One whose main container ended by itself has lost its connections already.
        let stops = node_state
            .ledger
            .get(id.replica)
            .is_some_and(|record| matches!(record.phase, Phase::Running | Phase::Stopping));
        let runs = node_state.host.processes.get(id).is_some_and(|process| process.runs());
        if stops && runs && !is_killed && node_state.host.balances(id.replica) {
            let detail =
                format!("{id} on node {node} is told to end while the balancer sends it connections");
            self.cx.violate("what stops has left the balancer", detail);
        }
        if runs && !self.is_ended_by_its_node(node, id) {
            self.check_left_elsewhere(node, id.replica);
        }
    }

    /// Whether a node ends it without an order, so that it waits for nobody: its agent ends, its lease is over, or it is what
    /// is left of a replica whose main container has ended.
    fn is_ended_by_its_node(&self, node: usize, id: &ContainerId) -> bool {
        let Node { agent, host, .. } = &self.nodes[node];
        agent.as_ref().is_some_and(|agent| agent.is_closing)
            || self.was_without_lease(node, id)
            || host.main_of(id.replica).is_none()
    }

    /// Whoever the control plane stops is out of the balancers of all nodes that heard the same server all the time. Until the
    /// node is told, it may still end a container for a probe that failed.
    fn check_left_elsewhere(&mut self, node: usize, replica: ReplicaId) {
        let told = self.nodes[node].ledger.get(replica).map(|record| record.assignment.desired);
        let is_ordered = told == Some(Desired::Stopped);
        let Some(address) = self.nodes[node].host.sandboxes.get(&replica).copied() else { return };
        let Some(server) = self.hears(node, HEARD_FOR).filter(|_| is_ordered) else { return };
        let hears = |other: &usize| *other != node && self.hears(*other, HEARD_FOR) == Some(server);
        let sender =
            (0..self.nodes.len()).filter(hears).find(|other| self.nodes[*other].host.sends_to(address));
        if let Some(other) = sender {
            let detail = format!("{replica} on node {node} is told to end while node {other} sends to it");
            self.cx.violate("what stops has left the balancers of all nodes", detail);
        }
    }

    /// Whether a replica should run or be prepared, by all that is committed.
    fn is_wanted(&self, id: ReplicaId) -> bool {
        let state = self.logs.state_at(self.agreement.newest());
        let replica = state.and_then(|state| state.replica(id));
        replica.is_some_and(|replica| replica.desired != Desired::Stopped)
    }

    /// Where replicas have no faults, none is ended that should run.
    fn check_may_end(&mut self, node: usize, id: &ContainerId) {
        let runs = self.nodes[node].host.processes.get(id).is_some_and(|process| process.runs());
        if self.plan.gentle && runs && self.is_wanted(id.replica) && !self.was_without_lease(node, id) {
            let detail = format!("{id} on node {node} is told to end, and nobody asked for it");
            self.cx.violate("what is wanted goes on running", detail);
        }
    }
}
