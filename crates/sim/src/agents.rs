//! An agent's shell: the real core, the ledger that its actions wait for, and the orders it carries out on its host.
//!
//! `journal` holds back what waits for a save, `orders` is what is done on the host.

mod journal;
mod orders;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use agent::core::{Action, Change, Core, Event, Published, Record};
use manager::{Report, SessionId};
use model::{Directory, EventKind, Millis, Name, NodeId, NodeInfo, ReplicaId, Timestamp};

use crate::{
    bug::Bug,
    clocks::HostClock,
    host::Host,
    leases::Heartbeats,
    ledger::Ledger,
    plan::{NodePlan, name},
    world::{Happening, World},
};

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) info: NodeInfo,
    /// Counts the starts of its agent.
    pub(crate) life: u32,
    pub(crate) agent: Option<Agent>,
    pub(crate) ledger: Ledger,
    pub(crate) host: Host,
    /// The agent dies before the action that comes after so many more.
    pub(crate) crash_after: Option<u32>,
    pub(crate) unreachable_until: Timestamp,
    pub(crate) wall: HostClock,
    /// That its agents go by, from one start of the host to the next.
    pub(crate) clock: HostClock,
}

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) core: Core,
    pub(crate) session: Option<SessionId>,
    pub(crate) heartbeats: Heartbeats,
    /// From then on it is told of exits.
    pub(crate) has_adopted: bool,
    /// It was asked to end.
    is_closing: bool,
    wakes_at: Option<Timestamp>,
    /// What the core returned and is not carried out yet, oldest first.
    lists: VecDeque<VecDeque<Action>>,
    /// How many of the lists wait for the save that is under way, if one is.
    saving: Option<usize>,
    /// Saves that nothing waits for, older than all those in the lists.
    lazy: Vec<Change>,
    lanes: BTreeMap<ReplicaId, Lane>,
    balancing: Option<Order>,
    balances_next: Option<Order>,
}

/// For the balancer.
#[derive(Debug)]
struct Order {
    serial: u64,
    ports: Vec<Published>,
    directory: Arc<Directory>,
}

#[derive(Debug, Default)]
struct Lane {
    orders: VecDeque<Action>,
    is_busy: bool,
}

impl Node {
    pub(crate) fn new(index: usize, plan: &NodePlan) -> Node {
        let host = Host::new(index, plan.cpu, plan.memory);
        let node_name: Name = name(&format!("node-{index}"));
        let info = NodeInfo {
            id: NodeId(index as u64 + 1),
            name: node_name,
            labels: BTreeMap::new(),
            cpu: plan.cpu,
            memory: plan.memory,
            address: std::net::Ipv4Addr::new(192, 0, 2, index as u8 + 1),
            subnet: Some(host.subnet()),
            agent_version: "simulated".to_owned(),
        };
        Node {
            info,
            life: 0,
            agent: None,
            ledger: Ledger::default(),
            host,
            crash_after: None,
            unreachable_until: Timestamp(0),
            wall: plan.clock,
            clock: plan.clock,
        }
    }

    pub(crate) fn agent_of(&mut self, life: u32) -> Option<&mut Agent> {
        self.agent.as_mut().filter(|_| self.life == life)
    }

    fn spends_action(&mut self) -> bool {
        match &mut self.crash_after {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

impl World {
    pub(crate) fn agent_starts(&mut self, node: usize) {
        if self.nodes[node].agent.is_some() {
            return;
        }
        self.nodes[node].life += 1;
        let life = self.nodes[node].life;
        self.cx.say(format_args!("node {node}: agent starts, life {life}"));
        self.nodes[node].agent = Some(Agent {
            core: Core::new(),
            session: None,
            heartbeats: Heartbeats::of(SessionId(0)),
            has_adopted: false,
            is_closing: false,
            wakes_at: None,
            lists: VecDeque::new(),
            saving: None,
            lazy: Vec::new(),
            lanes: BTreeMap::new(),
            balancing: None,
            balances_next: None,
        });
        let remembered = Directory::remembered(self.nodes[node].host.directory.nodes().clone());
        self.agent_hears(node, life, Event::Remembered(remembered));
        let leased_until = self.nodes[node].host.leased_until;
        if leased_until > Timestamp(0) {
            self.agent_hears(node, life, Event::Leased { until: self.nodes[node].clock.shows(leased_until) });
        }
        let records: Vec<Record> = self.nodes[node].ledger.records().cloned().collect();
        self.agent_hears(node, life, Event::Restored(records));
        self.cx.soon(0, 200, Happening::AgentAdopts { node, life });
        self.cx.soon(0, 300, Happening::AgentConnects { node, life });
    }

    pub(crate) fn agent_adopts(&mut self, node: usize, life: u32) {
        let clock = self.nodes[node].clock;
        let mut found = self.nodes[node].host.found(clock);
        if self.cx.has(Bug::FindNothing) {
            found.containers.clear();
        }
        if let Some(agent) = self.nodes[node].agent_of(life) {
            agent.has_adopted = true;
            self.agent_hears(node, life, Event::Adopted(found));
        }
    }

    pub(crate) fn agent_wakes(&mut self, node: usize, life: u32) {
        let now = self.cx.now;
        let Some(agent) = self.nodes[node].agent_of(life).filter(|agent| agent.wakes_at == Some(now)) else {
            return;
        };
        agent.wakes_at = None;
        let wakes = agent.core.next_wake();
        if wakes.is_some_and(|at| at <= self.nodes[node].clock.shows(now)) {
            self.agent_hears(node, life, Event::Wake);
        } else {
            self.plan_wake(node, life);
        }
    }

    pub(crate) fn agent_hears(&mut self, node: usize, life: u32, event: Event) {
        let now = self.nodes[node].clock.shows(self.cx.now);
        let Some(agent) = self.nodes[node].agent_of(life) else { return };
        let actions = agent.core.handle(now, event);
        if !actions.is_empty() {
            let actions = agent.put_off(actions.into());
            agent.lists.push_back(actions);
            if !agent.lazy.is_empty() {
                self.cx.soon(20, 500, Happening::LedgerIsDue { node, life });
            }
            self.work_off(node);
        }
        self.plan_wake(node, life);
        self.end_if_closed(node);
    }

    pub(crate) fn agent_stops(&mut self, node: usize) {
        let life = self.nodes[node].life;
        // In the moment between its start and its adoption nothing can be asked of it yet.
        if let Some(agent) = self.nodes[node].agent.as_mut().filter(|agent| agent.has_adopted) {
            agent.is_closing = true;
            self.agent_hears(node, life, Event::Shutdown);
        }
    }

    fn end_if_closed(&mut self, node: usize) {
        let Some(agent) = self.nodes[node].agent.as_mut().filter(|agent| agent.is_closing) else { return };
        if agent.core.is_closed() && agent.lists.is_empty() && agent.saving.is_none() {
            self.cx.say(format_args!("node {node}: agent has left nothing behind"));
            let left = std::mem::take(&mut agent.lazy);
            self.nodes[node].ledger.begin(left);
            self.nodes[node].ledger.commit();
            let left = self.nodes[node].host.running().next().map(|(id, _)| id.to_string());
            if let Some(id) = left {
                self.cx
                    .violate("an agent that ends leaves nothing behind", format!("{id} runs on node {node}"));
            }
            self.agent_crashes(node);
        }
    }

    fn plan_wake(&mut self, node: usize, life: u32) {
        let now = self.cx.now;
        let clock = self.nodes[node].clock;
        let Some(agent) = self.nodes[node].agent_of(life) else { return };
        let Some(at) = agent.core.next_wake() else { return };
        let at = clock.in_world(at).max(now + Millis(1));
        if agent.wakes_at.is_none_or(|planned| at < planned || planned <= now) {
            agent.wakes_at = Some(at);
            self.cx.at(at, Happening::AgentWakes { node, life });
        }
    }

    fn carry_out(&mut self, node: usize, action: Action) {
        // Of probes only the failures are worth a line.
        if !matches!(action, Action::Probe { .. }) {
            self.cx.say(format_args!("node {node}: {action}"));
        }
        match action {
            Action::Save(changes) => self.begin_save(node, changes),
            Action::Balance { serial, ports, directory } => {
                self.balance(node, Order { serial, ports, directory });
            }
            Action::GoBy { version } => self.goes_by(node, version),
            Action::Report(observed) => self.report(node, Report { observed, ..Report::default() }),
            Action::Exits(exits) => {
                let told = exits.into_iter().map(|exit| model::Event {
                    at: exit.exit.at,
                    service: Some(exit.service),
                    kind: EventKind::ContainerExited {
                        replica: exit.replica,
                        slot: exit.slot,
                        container: exit.container,
                        exit: exit.exit,
                        restarts: exit.restarts,
                        stop: exit.stop,
                    },
                });
                self.report(node, Report { exits: told.collect(), ..Report::default() });
            }
            Action::ReopenSession => self.reopen(node),
            Action::Prepare { .. }
            | Action::StartContainer { .. }
            | Action::Signal { .. }
            | Action::Kill { .. }
            | Action::Probe { .. }
            | Action::Discard { .. }
            | Action::Clean { .. } => self.order(node, action),
        }
    }

    /// What was under way on the host may have come about, or not.
    pub(crate) fn agent_crashes(&mut self, node: usize) {
        self.nodes[node].crash_after = None;
        let Some(agent) = self.nodes[node].agent.take() else { return };
        self.cx.say(format_args!("node {node}: agent crashes"));
        if self.cx.has(Bug::LoseLastSave) {
            self.nodes[node].ledger.lose_last();
        }
        if self.cx.random.one_in(2) && !self.cx.has(Bug::ActBeforeSave) {
            self.nodes[node].ledger.commit();
        } else {
            self.nodes[node].ledger.abandon();
        }
        for lane in agent.lanes.into_values().filter(|lane| lane.is_busy) {
            if let Some(order) = lane.orders.into_iter().next().filter(|_| self.cx.random.one_in(2)) {
                self.cx.say(format_args!("node {node}: it came about: {order}"));
                self.take_effect(node, order);
            }
        }
        if let Some(order) = agent.balancing.filter(|_| self.cx.random.one_in(2)) {
            self.nodes[node].host.in_force = order.ports;
            self.nodes[node].host.directory = order.directory;
        }
        if let Some(session) = agent.session {
            self.cut(session);
        }
        // Long enough for the node to be given up, while everything on it runs on.
        let longest = if self.cx.random.one_in(3) { 90_000 } else { 5_000 };
        self.cx.soon(20, longest, Happening::AgentStarts { node });
    }

    pub(crate) fn reboot(&mut self, node: usize) {
        self.agent_crashes(node);
        self.nodes[node].host.reboot();
        let remembered = self.nodes[node].ledger.records().map(Record::latest).max();
        let wall = self.nodes[node].wall;
        let goes_on = |newest| HostClock::that_shows(newest, self.cx.now);
        self.nodes[node].clock = remembered.filter(|newest| *newest > Timestamp(0)).map_or(wall, goes_on);
        self.cx.say(format_args!("node {node}: reboots"));
    }
}
