//! The server's shell: the real manager on the real log, on a disk that takes its time and may lose power. `writing` is
//! what happens between the manager and that disk.

mod writing;

use std::collections::{BTreeMap, VecDeque};

use consensus::{Persist, Recovered, Snapshot};
use manager::{Config, Effect, Event, Manager, View};
use model::{Millis, Observed, ReplicaId, Timestamp};
use server::{
    codec::WireCodec,
    log::{Log, Opened, SegmentSizes},
};
use store::State;

use crate::{
    bug::Bug,
    disk::SimDisk,
    random::Random,
    world::{Happening, World},
};

const MEMBER: u64 = 1;
/// Small, so that a run goes through many.
const SEGMENTS: SegmentSizes = SegmentSizes { smallest_bytes: 8 << 10, largest_bytes: 64 << 10 };
/// A single voter does not live by its ticks; a real server has five times as many.
const TICK: Millis = Millis(500);

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) disk: SimDisk,
    /// Counts its starts.
    pub(crate) life: u32,
    pub(crate) slow_until: Timestamp,
    /// The process dies before the effect that comes after so many more.
    pub(crate) crash_after: Option<u32>,
    /// What its present life published last.
    pub(crate) published: Option<View>,
    /// Whether each replica was ready when its agent last spoke of it, in this life of the server.
    pub(crate) heard_ready: BTreeMap<ReplicaId, bool>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    manager: Manager<WireCodec>,
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
    pub(crate) fn new(random: Random, disk_lies: bool) -> Server {
        Server {
            disk: SimDisk::new(random, disk_lies),
            life: 0,
            slow_until: Timestamp(0),
            crash_after: None,
            published: None,
            heard_ready: BTreeMap::new(),
            running: None,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
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
    pub(crate) fn server_starts(&mut self) {
        if self.server.is_up() {
            return;
        }
        let Opened { log, recovered, report } =
            match Log::open_on(self.server.disk.clone(), SEGMENTS, || Recovered::bootstrap(MEMBER)) {
                Ok(opened) => opened,
                Err(_) if self.server.disk.has_blown() => {
                    self.cx.say(format_args!("server: loses power while it starts"));
                    self.server.disk.crash();
                    return self.cx.soon(50, 3_000, Happening::ServerStarts);
                }
                Err(error) => return self.cx.violate("the log opens after every crash", chain(&error)),
            };
        self.server.life += 1;
        let life = self.server.life;
        let torn = report.torn.map(|torn| torn.bytes);
        self.cx
            .say(format_args!("server: life {life} starts, log up to {:?}, torn {torn:?}", recovered.last()));
        self.history.recovered(&mut self.cx, &recovered);
        let seed = if self.cx.has(Bug::SameIdsAgain) { 7 } else { self.cx.random.seed() };
        let mut consensus = consensus::Config::new(MEMBER);
        consensus.entries_kept = 10;
        let config = Config { consensus, snapshot_every: self.plan.snapshot_every, seed };
        let manager = match Manager::restore(config, WireCodec, recovered) {
            Ok(manager) => manager,
            Err(error) => return self.cx.violate("what was recovered can be restored", chain(&error)),
        };
        self.server.heard_ready.clear();
        self.server.running = Some(Running {
            manager,
            log,
            inbox: Vec::new(),
            steps_soon: false,
            waiting: VecDeque::new(),
            writing: 0,
            snapshot: None,
            stale: State::default(),
            wakes_at: None,
        });
        self.cx.after(Millis::ZERO, Happening::ServerTick { life });
    }

    pub(crate) fn server_ticks(&mut self, life: u32) {
        if self.server.running_of(life).is_some() {
            self.server_hears(Event::Tick);
            self.cx.after(TICK, Happening::ServerTick { life });
        }
    }

    /// What comes at about the same time is worked on together.
    pub(crate) fn server_hears(&mut self, event: Event) {
        let life = self.server.life;
        let Some(running) = self.server.running_of(life) else { return };
        running.inbox.push(event);
        if !std::mem::replace(&mut running.steps_soon, true) {
            self.cx.soon(0, 1, Happening::ServerSteps { life });
        }
    }

    pub(crate) fn server_wakes(&mut self, life: u32) {
        let now = self.cx.now;
        if let Some(running) = self.server.running_of(life).filter(|running| running.wakes_at == Some(now)) {
            running.wakes_at = None;
            self.server_steps(life);
        }
    }

    pub(crate) fn server_steps(&mut self, life: u32) {
        let now = self.cx.now;
        let Some(running) = self.server.running_of(life) else { return };
        running.steps_soon = false;
        let events = std::mem::take(&mut running.inbox);
        let effects = running.manager.step(now, events);
        if let Some(at) = running.manager.next_wake().map(|at| at.max(now + Millis(1)))
            && running.wakes_at.is_none_or(|planned| at < planned || planned <= now)
        {
            running.wakes_at = Some(at);
            self.cx.at(at, Happening::ServerWakes { life });
        }
        for effect in effects {
            if !self.server.spends_effect() {
                return self.server_crashes();
            }
            self.execute(effect);
        }
    }

    fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(persist) => self.persist(persist),
            Effect::Send(messages) => assert!(messages.is_empty(), "a lonely server has no peers"),
            Effect::Reply { id, result } => self.user_is_answered(id, result),
            Effect::ReadReady { id, view } => self.user_reads(id, &view),
            Effect::Dispatch { session, dispatch } => {
                self.cx.say(format_args!("server: to session {}: {}", session.0, Said(&dispatch)));
                self.send_to_agent(session, dispatch);
            }
            Effect::CloseSession { session, reason } => {
                self.cx.say(format_args!("server: closes session {}: {reason}", session.0));
                self.cut(session);
            }
            Effect::Snapshot { meta, state } => self.begin_snapshot(meta, state),
            Effect::Publish(view) => {
                self.history.published(&mut self.cx, &view.state);
                self.server.published = Some(view);
            }
            Effect::Fatal { reason } => self.cx.violate("the server can go on", reason),
        }
    }

    /// Power loss: what was being written may be there in part.
    pub(crate) fn server_crashes(&mut self) {
        self.server.crash_after = None;
        let Some(mut running) = self.server.running.take() else { return };
        self.cx.say(format_args!("server: crashes"));
        self.server.published = None;
        if !self.server.disk.has_blown() {
            // A group takes two operations, its write and its sync; a new segment or a snapshot takes more.
            let operations = match self.cx.random.between(1, 4) {
                1 => 0,
                2 | 3 => 1,
                _ => self.cx.random.between(2, 8),
            };
            self.server.disk.set_fuse(operations as u32);
            // Whether these get done is what the crash leaves open.
            let group: Vec<Persist> = running.waiting.drain(..running.writing).collect();
            let _ = running.log.append(&group);
            if let Some(snapshot) = running.snapshot {
                let _ = running.log.snapshots().write(&snapshot);
            }
        }
        self.server.disk.crash();
        self.cut_all();
        self.server_left_users();
        self.cx.soon(20, 4_000, Happening::ServerStarts);
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

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
