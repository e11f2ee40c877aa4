//! A server's shell: the real manager on the real log, on a disk that takes its time and may lose power. `writing` is
//! what happens between the manager and that disk, `peers` what happens between servers.

mod life;
mod peers;
mod writing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use consensus::{MemberId, Persist, Recovered, Role, Snapshot, Status};
use manager::{Effect, Event, Manager, Standing, View};
use model::{Level, Millis, NodeId, Observed, ReplicaId, Timestamp};
use server::{chain::chain, log::Log};
use store::State;

use crate::{
    bug::Bug,
    clocks::HostClock,
    codec::SimCodec,
    disk::SimDisk,
    random::Random,
    world::{Happening, ServerSays, World},
};

/// How many times as long a late timer takes.
const LATE: u64 = 5;

pub(crate) use peers::Ways;

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) member: MemberId,
    /// What its data directory begins with.
    begins: Recovered,
    /// Whom it was told of when it joined.
    contacts: BTreeSet<MemberId>,
    pub(crate) disk: SimDisk,
    /// Counts its starts.
    pub(crate) life: u32,
    /// What the build of its present life knows.
    pub(crate) level: Level,
    pub(crate) slow_until: Timestamp,
    /// Until then its timers are late.
    pub(crate) late_until: Timestamp,
    /// Its host's clock. A process goes by what that showed at its start, and looks at it with each tick.
    pub(crate) wall: HostClock,
    /// The process dies before the effect that comes after so many more.
    pub(crate) crash_after: Option<u32>,
    /// What its present life published last.
    pub(crate) published: Option<View>,
    led: bool,
    /// It never starts again: it was removed, or its disk is lost.
    pub(crate) is_gone: bool,
    /// Whether each replica was ready when its agent last spoke of it, in this life of the server.
    pub(crate) heard_ready: BTreeMap<ReplicaId, bool>,
    /// When each node last said anything to it, in this life.
    heard: BTreeMap<NodeId, Timestamp>,
    /// Only if it leads.
    pub(crate) leads_since: Timestamp,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    clock: HostClock,
    manager: Manager<SimCodec>,
    log: Log<SimDisk>,
    inbox: Vec<Event>,
    steps_soon: bool,
    /// Not durable yet, in order.
    waiting: VecDeque<Persist>,
    /// How many of them are being written.
    writing: usize,
    snapshot: Option<Snapshot>,
    /// For a deliberate bug: the state of the snapshot before.
    stale: State,
    wakes_at: Option<Timestamp>,
}

impl Server {
    pub(crate) fn new(begins: Recovered, mut random: Random, disk_lies: bool) -> Server {
        Server {
            wall: HostClock::draw(&mut random.fork()),
            member: begins.id,
            begins,
            contacts: BTreeSet::new(),
            disk: SimDisk::new(random, disk_lies),
            life: 0,
            level: Level::NEWEST,
            slow_until: Timestamp(0),
            late_until: Timestamp(0),
            crash_after: None,
            published: None,
            led: false,
            is_gone: false,
            heard_ready: BTreeMap::new(),
            heard: BTreeMap::new(),
            leads_since: Timestamp(0),
            running: None,
        }
    }

    /// With an empty disk, and told of these.
    pub(crate) fn joining(
        id: MemberId,
        contacts: BTreeSet<MemberId>,
        random: Random,
        disk_lies: bool,
    ) -> Server {
        Server { contacts, ..Server::new(Recovered::joining(id), random, disk_lies) }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Of its present life.
    pub(crate) fn status(&self) -> Option<Status> {
        self.running.as_ref().map(|running| running.manager.status())
    }

    pub(crate) fn note_word(&mut self, node: NodeId, now: Timestamp) {
        self.heard.insert(node, now);
    }

    /// At the beginning of time, if never.
    pub(crate) fn heard_at(&self, node: NodeId) -> Timestamp {
        self.heard.get(&node).copied().unwrap_or_default()
    }

    /// Whether it knows where that one is: from the state, or before that by what it was told when it joined.
    fn knows(&self, member: MemberId) -> bool {
        let Some(view) = &self.published else { return false };
        let is_told = || view.state.members().next().is_none() && self.contacts.contains(&member);
        view.standing(member) != Standing::Unknown || is_told()
    }

    pub(crate) fn note_heard(&mut self, observed: &[Observed]) {
        self.heard_ready.extend(observed.iter().map(|seen| (seen.replica, seen.ready_since.is_some())));
    }

    fn running_of(&mut self, life: u32) -> Option<&mut Running> {
        self.running.as_mut().filter(|_| self.life == life)
    }

    fn spends_effect(&mut self) -> bool {
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
    pub(crate) fn server_ticks(&mut self, server: usize, life: u32) {
        let wall = self.servers[server].wall.shows(self.cx.now);
        if let Some(running) = self.servers[server].running_of(life) {
            running.manager.look_at_the_wall(wall);
            self.server_hears(server, Event::Tick);
            let is_late = self.servers[server].late_until > self.cx.now;
            let span = if is_late { Millis(self.plan.tick.0 * LATE) } else { self.plan.tick };
            self.cx.after(span, Happening::ServerTick { server, life });
        }
    }

    /// What comes at about the same time is worked on together.
    pub(crate) fn server_hears(&mut self, server: usize, event: Event) {
        let life = self.servers[server].life;
        let Some(running) = self.servers[server].running_of(life) else { return };
        running.inbox.push(event);
        if !std::mem::replace(&mut running.steps_soon, true) {
            self.cx.soon(0, 1, Happening::ServerSteps { server, life });
        }
    }

    pub(crate) fn server_wakes(&mut self, server: usize, life: u32) {
        let now = self.cx.now;
        let woken = self.servers[server].running_of(life).filter(|running| running.wakes_at == Some(now));
        if let Some(running) = woken {
            running.wakes_at = None;
            self.server_steps(server, life);
        }
    }

    pub(crate) fn server_steps(&mut self, server: usize, life: u32) {
        let now = self.cx.now;
        let (wall, by_the_wall) = (self.servers[server].wall, self.cx.has(Bug::ServerByTheWall));
        let Some(running) = self.servers[server].running_of(life) else { return };
        if by_the_wall {
            running.clock = wall;
        }
        running.steps_soon = false;
        let events = std::mem::take(&mut running.inbox);
        let effects = running.manager.step(running.clock.shows(now), events);
        let status = running.manager.status();
        self.plan_server_wake(server, life);
        self.agreement.look(&mut self.cx, &self.logs, server, life, &status);
        self.note_role(server, &status);
        for effect in effects {
            if !self.servers[server].spends_effect() {
                return self.server_crashes(server);
            }
            self.execute(server, effect);
        }
    }

    fn plan_server_wake(&mut self, server: usize, life: u32) {
        let now = self.cx.now;
        let Some(running) = self.servers[server].running_of(life) else { return };
        let planned = running.wakes_at;
        let Some(wake) = running.manager.next_wake() else { return };
        let at = running.clock.in_world(wake).max(now + Millis(1));
        if planned.is_none_or(|planned| at < planned || planned <= now)
            && let Some(running) = self.servers[server].running_of(life)
        {
            running.wakes_at = Some(at);
            self.cx.at(at, Happening::ServerWakes { server, life });
        }
    }

    /// A server that does not lead forgets what agents told it.
    fn note_role(&mut self, server: usize, status: &Status) {
        let leads = status.role == Role::Leader;
        if leads != std::mem::replace(&mut self.servers[server].led, leads) {
            let word = if leads { "leads" } else { "does not lead any more" };
            self.cx.say(format_args!("server {server}: {word}, term {}", status.term));
            self.servers[server].heard_ready.clear();
            self.servers[server].leads_since = self.cx.now;
        }
    }

    fn execute(&mut self, server: usize, effect: Effect) {
        match effect {
            Effect::Persist(persist) => self.persist(server, persist),
            Effect::Send(messages) => self.send_to_peers(server, messages),
            Effect::Reply { id, result } => self.user_is_answered(id, result),
            Effect::ReadReady { id, view } => self.user_reads(id, &view),
            Effect::Dispatch { session, dispatch } => {
                self.cx.say(format_args!("server {server}: to session {}: {}", session.0, Said(&dispatch)));
                self.send_to_agent(session, ServerSays::Dispatch(dispatch));
            }
            Effect::Directory { session, news } => self.send_to_agent(session, ServerSays::Directory(news)),
            Effect::Heard { session, heard } => self.send_to_agent(session, ServerSays::Heard(heard)),
            Effect::CloseSession { session, reason } => {
                self.cx.say(format_args!("server {server}: closes session {}: {reason}", session.0));
                self.cut(session);
            }
            Effect::Snapshot { meta, state } => self.begin_snapshot(server, meta, state),
            Effect::Publish(view) => {
                if let Some(status) = self.servers[server].status() {
                    let applied = status.applied;
                    self.agreement.published(&mut self.cx, &self.logs, server, applied, &view.state);
                }
                self.servers[server].published = Some(view);
            }
            Effect::MembersReply { id, result } => self.members_are_answered(id, result),
            Effect::Removed { reason } => self.server_is_removed(server, &reason),
            Effect::Fatal { reason } => self.cx.violate("a server can go on", format!("{server}: {reason}")),
        }
    }

    /// The one that leads, as far as it knows: of several the one elected last.
    pub(crate) fn leading(&self) -> Option<usize> {
        let leads = |(_, server): &(usize, &Server)| {
            server.is_up() && server.published.as_ref().is_some_and(|view| view.is_leader)
        };
        let leaders = self.servers.iter().enumerate().filter(leads);
        leaders.max_by_key(|(_, server)| server.status().map(|status| status.term)).map(|(at, _)| at)
    }
}

/// A dispatch in a line.
struct Said<'a>(&'a model::Dispatch);

impl std::fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (assignments, removed) = match self.0 {
            model::Dispatch::Full { sequence, assignments } => {
                write!(f, "full #{sequence}")?;
                (assignments, &[][..])
            }
            model::Dispatch::Increment { follows, sequence, changed, removed } => {
                write!(f, "#{follows} -> #{sequence}")?;
                (changed, &removed[..])
            }
        };
        assignments.iter().try_for_each(|a| write!(f, " {}={}", a.replica, a.desired.as_str()))?;
        removed.iter().try_for_each(|id| write!(f, " -{id}"))
    }
}
