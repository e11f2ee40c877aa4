//! The world: servers, their agents and their hosts, the users, and the loop that lets things happen one by one.
//!
//! Each part of the world is a file with its state and the methods of [`World`] that let it act. Nothing acts directly on
//! anything far away: what takes time is planned as a [`Happening`], and what belongs to a life of a server or an agent
//! that is over is dropped when it comes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use agent::core::{ContainerId, Event as AgentEvent, ProbeKind};
use consensus::{MemberId, Membership, PeerMessage, Recovered};
use manager::{Hello, Report, SessionId};
use model::{DirectoryNews, Dispatch, ExitCause, Heard, Millis, ReplicaId, Timestamp};

use crate::{
    agents::Node,
    bug::Bug,
    check::{agreement::Agreement, history::History, logs::Logs, losses::Losses, rest::Rest, spans::Spans},
    outcome::Violation,
    plan::{Fault, Plan},
    queue::Queue,
    random::Random,
    server::{Server, Ways},
    trace::{BEGINNING, Trace},
    users::Users,
    wire::Wire,
};

/// How often the checkers look at the whole.
const LOOK_EVERY: Millis = Millis(1_000);

#[derive(Debug)]
pub(crate) enum Happening {
    UserAsks { ask: usize, attempt: u32 },
    UserGivesUp { number: u64 },
    ServerStarts { server: usize },
    ServerTick { server: usize, life: u32 },
    ServerSteps { server: usize, life: u32 },
    ServerWakes { server: usize, life: u32 },
    GroupWritten { server: usize, life: u32 },
    SnapshotWritten { server: usize, life: u32 },
    ToPeer { from: usize, life: u32, to: usize, message: PeerMessage },
    ToServer { session: SessionId, says: Box<AgentSays> },
    ToAgent { session: SessionId, says: Box<ServerSays> },
    ServerNotices { session: SessionId },
    AgentNotices { session: SessionId },
    AgentBeats { node: usize, life: u32, session: SessionId },
    LeaseIsOver { node: usize },
    AgentConnects { node: usize, life: u32 },
    AgentStarts { node: usize },
    AgentAdopts { node: usize, life: u32 },
    AgentWakes { node: usize, life: u32 },
    LedgerSaved { node: usize, life: u32 },
    LedgerIsDue { node: usize, life: u32 },
    OrderDone { node: usize, life: u32, replica: ReplicaId },
    Probed { node: usize, life: u32, id: ContainerId, kind: ProbeKind },
    Balanced { node: usize, life: u32 },
    ExitTold { node: usize, life: u32, event: Box<AgentEvent> },
    ProcessEnds { node: usize, id: ContainerId, cause: ExitCause, by_itself: bool },
    Fault(usize),
    Calm,
    Look,
}

#[derive(Debug)]
pub(crate) enum AgentSays {
    Hello(Hello),
    Report(Report),
    Heartbeat { number: u64 },
    InForce { version: u64 },
}

#[derive(Debug)]
pub(crate) enum ServerSays {
    Dispatch(Dispatch),
    Directory(Arc<DirectoryNews>),
    Heard(Heard),
}

/// What every part of the world needs: the time, the plan of what comes, chance, and where to tell what happens.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) now: Timestamp,
    pub(crate) random: Random,
    /// No more faults, from here on.
    pub(crate) calm: bool,
    pub(crate) bug: Option<Bug>,
    pub(crate) violation: Option<Violation>,
    pub(crate) at_rest: bool,
    queue: Queue<Happening>,
    trace: Trace,
}

impl Context {
    pub(crate) fn after(&mut self, span: Millis, what: Happening) {
        self.queue.add(self.now + span, what);
    }

    pub(crate) fn at(&mut self, at: Timestamp, what: Happening) {
        self.queue.add(at.max(self.now), what);
    }

    /// Something between `low` and `high` milliseconds from now.
    pub(crate) fn soon(&mut self, low: u64, high: u64, what: Happening) {
        let span = self.random.millis(low, high);
        self.after(span, what);
    }

    pub(crate) fn say(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.say(self.now, what);
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Only the first counts: what comes after may follow from it.
    pub(crate) fn violate(&mut self, rule: &'static str, detail: String) {
        self.say(format_args!("VIOLATION {rule}: {detail}"));
        self.violation.get_or_insert(Violation { rule, detail });
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) cx: Context,
    pub(crate) plan: Plan,
    pub(crate) servers: Vec<Server>,
    pub(crate) ways: Ways,
    pub(crate) wire: Wire,
    pub(crate) nodes: Vec<Node>,
    pub(crate) users: Users,
    pub(crate) logs: Logs,
    pub(crate) agreement: Agreement,
    pub(crate) history: History,
    pub(crate) rest: Rest,
    pub(crate) spans: Spans,
    pub(crate) losses: Losses,
}

impl World {
    pub(crate) fn new(plan: Plan, bug: Option<Bug>, keeps_lines: bool) -> World {
        let mut random = Random::new(plan.seed ^ 0x5eed);
        let members = 1..=plan.servers as MemberId;
        let lies = bug == Some(Bug::LoseLastGroup);
        let membership = Membership::of_voters(members.clone());
        let begins = members.map(|id| Recovered::bootstrap_with(id, membership.clone()));
        let servers = begins.map(|begins| Server::new(begins, random.fork(), lies)).collect();
        let nodes = plan.nodes.iter().enumerate().map(|(index, node)| Node::new(index, node)).collect();
        let mut cx = Context {
            now: BEGINNING,
            random,
            calm: false,
            bug,
            violation: None,
            at_rest: false,
            queue: Queue::new(),
            trace: Trace::new(keeps_lines),
        };
        for server in 0..plan.servers {
            cx.soon(0, 500, Happening::ServerStarts { server });
        }
        for node in 0..plan.nodes.len() {
            cx.soon(0, 2_000, Happening::AgentStarts { node });
        }
        for (ask, (at, _)) in plan.asks.iter().enumerate() {
            cx.at(*at, Happening::UserAsks { ask, attempt: 1 });
        }
        for (fault, (at, _)) in plan.faults.iter().enumerate() {
            cx.at(*at, Happening::Fault(fault));
        }
        cx.at(plan.calm_at, Happening::Calm);
        cx.after(LOOK_EVERY, Happening::Look);
        World {
            cx,
            servers,
            ways: Ways::default(),
            nodes,
            wire: Wire::default(),
            users: Users::default(),
            logs: Logs::default(),
            agreement: Agreement::default(),
            history: History::default(),
            rest: Rest::default(),
            spans: Spans::default(),
            losses: Losses::default(),
            plan,
        }
    }

    /// Until everything is at rest, or something is wrong.
    pub(crate) fn run(mut self) -> (Option<Violation>, Timestamp, Trace) {
        while let Some((at, happening)) = self.cx.queue.pop() {
            self.cx.now = at;
            let happened = catch_unwind(AssertUnwindSafe(|| self.happen(happening)));
            if let Err(panic) = happened {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                self.cx.violate("a core panicked", text.unwrap_or_default());
            }
            if self.cx.violation.is_some() || self.cx.at_rest {
                break;
            }
        }
        (self.cx.violation, self.cx.now, self.cx.trace)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::UserAsks { ask, attempt } => self.user_asks(ask, attempt),
            Happening::UserGivesUp { number } => self.user_gives_up(number),
            Happening::ServerStarts { server } => self.server_starts(server),
            Happening::ServerTick { server, life } => self.server_ticks(server, life),
            Happening::ServerSteps { server, life } => self.server_steps(server, life),
            Happening::ServerWakes { server, life } => self.server_wakes(server, life),
            Happening::GroupWritten { server, life } => self.group_written(server, life),
            Happening::SnapshotWritten { server, life } => self.snapshot_written(server, life),
            Happening::ToPeer { from, life, to, message } => self.arrive_at_peer(from, life, to, message),
            Happening::ToServer { session, says } => self.arrive_at_server(session, *says),
            Happening::ToAgent { session, says } => self.arrive_at_agent(session, *says),
            Happening::AgentBeats { node, life, session } => self.agent_beats(node, life, session),
            Happening::LeaseIsOver { node } => self.lease_is_over(node),
            Happening::ServerNotices { session } => self.server_notices(session),
            Happening::AgentNotices { session } => self.agent_notices(session),
            Happening::AgentConnects { node, life } => self.agent_connects(node, life),
            Happening::AgentStarts { node } => self.agent_starts(node),
            Happening::AgentAdopts { node, life } => self.agent_adopts(node, life),
            Happening::AgentWakes { node, life } => self.agent_wakes(node, life),
            Happening::LedgerSaved { node, life } => self.ledger_saved(node, life),
            Happening::LedgerIsDue { node, life } => self.ledger_is_due(node, life),
            Happening::OrderDone { node, life, replica } => self.order_done(node, life, replica),
            Happening::Probed { node, life, id, kind } => self.probed(node, life, id, kind),
            Happening::Balanced { node, life } => self.balanced(node, life),
            Happening::ExitTold { node, life, event } => self.agent_hears(node, life, *event),
            Happening::ProcessEnds { node, id, cause, by_itself } => {
                self.process_ends(node, &id, cause, by_itself)
            }
            Happening::Fault(fault) => self.strike(self.plan.faults[fault].1),
            Happening::Calm => self.calm_down(),
            Happening::Look => {
                self.look();
                self.cx.after(LOOK_EVERY, Happening::Look);
            }
        }
    }

    fn strike(&mut self, fault: Fault) {
        if self.cx.calm {
            return;
        }
        self.cx.say(format_args!("fault: {fault:?}"));
        match fault {
            Fault::ServerCrash { server, effects } => self.servers[server].crash_after = Some(effects),
            Fault::LeaderCrash { effects } => {
                if let Some(leader) = self.leading() {
                    self.servers[leader].crash_after = Some(effects);
                }
            }
            Fault::PowerLoss { server, operations } => self.servers[server].disk.set_fuse(operations),
            // Servers that joined late are beyond what a plan can name: they are on the other side.
            Fault::Split { side, lasts } => {
                self.split(|server| side.checked_shr(server as u32).is_some_and(|bits| bits & 1 == 1), lasts);
            }
            Fault::LeaderSplit { lasts, is_late } => {
                if let Some(leader) = self.leading() {
                    self.split(|server| server == leader, lasts);
                    if is_late {
                        self.servers[leader].late_until = self.cx.now + lasts;
                    }
                }
            }
            Fault::OneWay { from, to, lasts } => self.ways.close(from, to, self.cx.now + lasts),
            Fault::DiskLost { server } => self.lose_disk(server),
            Fault::ClockJump { server, by_ms } => self.servers[server].wall.jump(by_ms),
            Fault::LeaderClockJump { by_ms } => {
                if let Some(leader) = self.leading() {
                    self.servers[leader].wall.jump(by_ms);
                }
            }
            Fault::NodeClockJump { node, by_ms } => {
                self.nodes[node].wall.jump(by_ms);
                if self.cx.has(Bug::AgentByTheWall) {
                    self.nodes[node].clock = self.nodes[node].wall;
                }
            }
            Fault::AgentCrash { node, actions } => self.nodes[node].crash_after = Some(actions),
            Fault::AgentStop { node } => self.agent_stops(node),
            Fault::NodeReboot { node } => self.reboot(node),
            Fault::SessionCut { node } => self.cut_session(node),
            Fault::Partition { node, lasts } => {
                self.nodes[node].unreachable_until = self.cx.now + lasts;
                self.cut_session(node);
            }
            Fault::SlowDisk { server, lasts } => self.servers[server].slow_until = self.cx.now + lasts,
            Fault::BothCrash { server, node } => {
                self.server_crashes(server);
                self.agent_crashes(node);
            }
        }
    }

    fn calm_down(&mut self) {
        self.cx.say(format_args!("calm from here on"));
        self.cx.calm = true;
        self.ways.open_all();
        for server in &mut self.servers {
            server.crash_after = None;
            server.slow_until = self.cx.now;
            server.late_until = self.cx.now;
            server.disk.clear_fuse();
        }
        for server in 0..self.servers.len() {
            self.user_reads_at(server);
        }
        self.remove_the_lost();
        for node in &mut self.nodes {
            node.crash_after = None;
            node.unreachable_until = self.cx.now;
        }
    }
}
