//! One or three servers and some agents, one event at a time. What they do is said in lines, and checked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use consensus::PeerMessage;
use manager::{Effect, Event, ReadId, Request, RequestId, SessionId};
use model::{Level, MemberId, Millis, NodeId, Timestamp};

use crate::{agent::Agent, checks::Checks, codec::Table, member::Member, print::Printer};

/// How often events may cause others before a test has failed.
const ROUNDS: u32 = 1_000;

pub(crate) struct Cluster {
    pub(crate) now: Timestamp,
    /// How far servers' clocks are ahead, in milliseconds.
    pub(crate) clocks: BTreeMap<u64, i64>,
    /// The same of their hosts' wall clocks, where that is another.
    pub(crate) walls: BTreeMap<u64, i64>,
    pub(crate) members: BTreeMap<u64, Member>,
    pub(crate) agents: BTreeMap<NodeId, Agent>,
    pub(crate) printer: Printer,
    pub(crate) checks: Checks,
    pub(crate) snapshot_every: u64,
    note_within: Millis,
    /// Servers that hear and reach nobody.
    pub(crate) cut: BTreeSet<u64>,
    /// Servers are of several builds; so some may meet what they do not know.
    is_mixed: bool,
    table: Table,
    wire: VecDeque<PeerMessage>,
    last_session: u64,
}

fn shows(ahead_ms: Option<&i64>, now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_add_signed(*ahead_ms.unwrap_or(&0)))
}

impl Cluster {
    pub(crate) fn new(members: u64, snapshot_every: u64, note_within: Millis) -> Cluster {
        let table = Table::default();
        let mut cluster = Cluster {
            now: Timestamp(1_000_000),
            clocks: BTreeMap::new(),
            walls: BTreeMap::new(),
            members: (1..=members).map(|id| (id, Member::new(id, members))).collect(),
            agents: BTreeMap::new(),
            printer: Printer::new(table.clone()),
            checks: Checks::new(table.clone()),
            snapshot_every,
            note_within,
            cut: BTreeSet::new(),
            is_mixed: false,
            table,
            wire: VecDeque::new(),
            last_session: 0,
        };
        (1..=members).for_each(|id| cluster.start(id));
        cluster
    }

    pub(crate) fn join(&mut self, id: u64) {
        let contacts = self.members.keys().copied().collect();
        self.members.insert(id, Member::joining(id, contacts));
        self.start(id);
    }

    /// How far the cluster's time is from the world's, by this server.
    pub(crate) fn deviation(&self, server: u64) -> Option<String> {
        let view = self.members.get(&server)?.manager.as_ref()?.view();
        let time = view.reckoning.time(shows(self.clocks.get(&server), self.now));
        Some(match time < self.now {
            true => format!("{} behind", self.now.since(time)),
            false => format!("{} ahead", time.since(self.now)),
        })
    }

    pub(crate) fn show_members(&mut self) {
        let leader = self.leader().unwrap();
        let view = self.members[&leader].manager.as_ref().unwrap().view();
        let (voters, learners) = (&view.membership.voters, &view.membership.learners);
        self.printer.say(format!("{voters:?} vote, {learners:?} learn"));
        for (member, waiting) in &view.members_waiting {
            self.printer.say(format!("{} waits: {waiting}", member.0));
        }
        if self.is_mixed {
            let known: Vec<String> =
                view.levels.iter().map(|(id, level)| format!("{} {level}", id.0)).collect();
            self.printer.say(format!("{} is in use; known: {}", view.state.level(), known.join(", ")));
        }
    }

    /// Whatever the server ran is stopped, and the build that knows this is started in its place.
    pub(crate) fn install(&mut self, id: u64, level: Level) {
        self.is_mixed = true;
        self.sync(id);
        self.crash(id, 0);
        self.members.get_mut(&id).unwrap().level = level;
        self.start(id);
    }

    /// What a server knows that is there; of one that is not, the least.
    pub(crate) fn level_of(&self, id: MemberId) -> Level {
        self.members.get(&id.0).map_or(Level::FIRST, |member| member.level)
    }

    pub(crate) fn start(&mut self, id: u64) {
        let member = self.members.get_mut(&id).unwrap();
        if member.manager.is_none() {
            if let Err(error) = member.start(&self.table, self.snapshot_every, self.note_within) {
                assert!(self.is_mixed, "server {id} does not start: {error}");
                return self.printer.say(format!("{id} does not start: {error}"));
            }
            self.hears(id, Vec::new());
        }
    }

    /// All connections break with it.
    pub(crate) fn crash(&mut self, id: u64, kept: usize) {
        self.members.get_mut(&id).unwrap().crash(kept);
        self.checks.member_died(id);
        for other in self.members.keys().copied().collect::<Vec<_>>() {
            self.hears(other, vec![Event::PeerEnded { peer: id }]);
        }
        for agent in self.agents.values_mut().filter(|agent| agent.session.is_some_and(|(at, _)| at == id)) {
            agent.session = None;
        }
    }

    pub(crate) fn leader(&self) -> Option<u64> {
        self.members.values().find(|member| member.leads()).map(|member| member.id)
    }

    /// Of the server that leads.
    pub(crate) fn term(&self) -> u64 {
        let leader = self.leader().and_then(|id| self.members[&id].manager.as_ref());
        leader.expect("a leader").status().term
    }

    /// All of these in one step of one server.
    pub(crate) fn hears(&mut self, id: u64, events: Vec<Event>) {
        let Some(manager) = self.members.get_mut(&id).and_then(|member| member.manager.as_mut()) else {
            return;
        };
        let own = shows(self.clocks.get(&id), self.now);
        let effects = manager.step(own, events);
        let leader = manager.view().leader;
        for effect in effects {
            self.printer.effect(id, leader, &effect, &self.agents);
            self.execute(id, effect);
        }
        self.notice_leadership(id);
    }

    fn notice_leadership(&mut self, id: u64) {
        let member = self.members.get_mut(&id).unwrap();
        let leads = member.leads();
        if leads != member.led {
            member.led = leads;
            self.printer.say(format!("{id} {}", if leads { "leads" } else { "does not lead any more" }));
        }
    }

    fn execute(&mut self, id: u64, effect: Effect) {
        match effect {
            Effect::Persist(persist) => self.members.get_mut(&id).unwrap().unsynced.push_back(persist),
            Effect::Send(messages) => self.wire.extend(messages),
            Effect::Reply { id: request, result } => self.checks.answered(id, request, &result),
            Effect::ReadReady { id: read, view } => self.checks.read(read, &view),
            Effect::Dispatch { session, dispatch } => {
                let to = self.agents.values_mut().find(|agent| agent.session == Some((id, session)));
                if let Some(agent) = to {
                    agent.hear(dispatch);
                    self.checks.told(id, agent);
                }
            }
            Effect::CloseSession { session, .. } => {
                let of = self.agents.values_mut().find(|agent| agent.session == Some((id, session)));
                if let Some(agent) = of {
                    agent.session = None;
                }
            }
            Effect::Snapshot { meta, state } => {
                self.members.get_mut(&id).unwrap().snapshot = Some((meta, state));
            }
            Effect::Publish(view) => self.checks.published(id, view, &self.members),
            Effect::MembersReply { .. } | Effect::Heard { .. } | Effect::Directory { .. } => {}
            Effect::Removed { .. } => self.members.get_mut(&id).unwrap().manager = None,
            Effect::Fatal { reason } => {
                assert!(self.is_mixed, "server {id} gives up: {reason}");
                self.members.get_mut(&id).unwrap().manager = None;
            }
        }
    }

    /// Disks that are not slow write, and messages arrive, until nothing more happens.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ROUNDS {
            let (writes, snapshots) = (self.having(Member::writes_soon), self.having(Member::snapshots_soon));
            let is_quiet = writes.is_empty() && snapshots.is_empty() && self.wire.is_empty();
            writes.into_iter().for_each(|id| self.sync(id));
            snapshots.into_iter().for_each(|id| self.save_snapshot(id));
            while let Some(message) = self.wire.pop_front() {
                if !self.cut.contains(&message.from) && !self.cut.contains(&message.to) {
                    let to = message.to;
                    let level = Some(self.members[&message.from].level);
                    self.hears(to, vec![Event::Peer { message, level }]);
                }
            }
            if is_quiet {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn having(&self, is: impl Fn(&Member) -> bool) -> Vec<u64> {
        self.members.values().filter(|member| is(member)).map(|member| member.id).collect()
    }

    pub(crate) fn sync(&mut self, id: u64) {
        let written = self.members.get_mut(&id).unwrap().sync();
        self.hears(id, written.into_iter().collect());
    }

    pub(crate) fn save_snapshot(&mut self, id: u64) {
        let written = self.members.get_mut(&id).unwrap().save_snapshot(&self.table);
        self.hears(id, written.into_iter().collect());
    }

    pub(crate) fn tick(&mut self) {
        self.advance(Millis(100));
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            let wall = shows(self.walls.get(&id).or(self.clocks.get(&id)), self.now);
            if let Some(manager) = self.members.get_mut(&id).and_then(|member| member.manager.as_mut()) {
                manager.look_at_the_wall(wall);
            }
            self.hears(id, vec![Event::Tick]);
        }
        self.settle();
    }

    /// Time passes, and whoever wanted to be woken is. Servers that run take a step every second at least.
    pub(crate) fn advance(&mut self, span: Millis) {
        let mut left = span;
        while left > Millis::ZERO {
            let step = left.min(Millis::from_secs(1));
            self.advance_at_once(step);
            self.agents_say_that_they_are_there();
            for id in self.members.keys().copied().collect::<Vec<_>>() {
                self.hears(id, Vec::new());
            }
            left = left - step;
        }
        self.settle();
    }

    fn agents_say_that_they_are_there(&mut self) {
        let beats: Vec<(u64, SessionId)> =
            self.agents.values().filter(|agent| !agent.hangs).filter_map(|agent| agent.session).collect();
        for (at, session) in beats {
            self.hears(at, vec![Event::SessionHeartbeat { session, number: 0, usage: None }]);
        }
    }

    /// Time passes in which no server runs; then whoever wanted to be woken is.
    pub(crate) fn advance_at_once(&mut self, span: Millis) {
        self.now = self.now + span;
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            let now = shows(self.clocks.get(&id), self.now);
            let is_due = move |member: &Member| {
                let wake = member.manager.as_ref().and_then(|manager| manager.next_wake());
                wake.is_some_and(|at| at <= now)
            };
            if is_due(&self.members[&id]) {
                self.hears(id, Vec::new());
                assert!(!is_due(&self.members[&id]), "server {id} asks to be woken again and again");
            }
        }
        self.settle();
    }

    pub(crate) fn request(&mut self, at: u64, id: RequestId, request: Request) -> Event {
        self.checks.asked(at, id, &request);
        Event::Request { id, request }
    }

    pub(crate) fn read(&mut self, at: u64, id: ReadId) -> Event {
        self.checks.asked_to_read(at, id);
        Event::Read { id }
    }

    /// A node opens a session with a server, whatever became of its last one.
    pub(crate) fn open_session(&mut self, node: NodeId, at: u64) -> Event {
        self.last_session += 1;
        let session = SessionId(self.last_session);
        let agent = self.agents.entry(node).or_insert_with(|| Agent::new(node));
        agent.session = Some((at, session));
        self.printer.name_session(session, node);
        Event::SessionOpened { session, hello: agent.hello(self.now) }
    }

    pub(crate) fn introduce(&mut self, node: NodeId) -> Event {
        self.last_session += 1;
        let session = SessionId(self.last_session);
        self.printer.name_session(session, node);
        Event::NodeIntroduced { session, info: self.agents[&node].info() }
    }

    /// Every agent does what it was told, and reports, until nothing more comes of it.
    pub(crate) fn obey(&mut self) {
        for _ in 0..ROUNDS {
            let mut is_quiet = true;
            for node in self.agents.keys().copied().collect::<Vec<_>>() {
                let agent = self.agents.get_mut(&node).unwrap();
                let said_at = agent.clock(self.now);
                let observed = agent.obey(said_at);
                let Some((at, session)) = agent.session.filter(|_| !observed.is_empty()) else { continue };
                is_quiet = false;
                let report =
                    manager::Report { observed, said_at: Some(said_at), ..manager::Report::default() };
                self.hears(at, vec![Event::SessionReport { session, report }]);
                self.settle();
            }
            if is_quiet {
                return;
            }
        }
        panic!("agents have something to do again and again");
    }
}
