//! A server's start, from what its disk has, and its end in a crash.

use std::collections::VecDeque;

use consensus::Persist;
use manager::{Config, Manager};
use model::Level;
use server::log::{Log, Opened, SegmentSizes};
use store::State;

use super::{Running, chain};
use crate::{
    bug::Bug,
    codec::SimCodec,
    members::itself,
    world::{Happening, World},
};

/// Small, so that a run goes through many.
const SEGMENTS: SegmentSizes = SegmentSizes { smallest_bytes: 8 << 10, largest_bytes: 64 << 10 };

impl World {
    pub(crate) fn server_starts(&mut self, server: usize) {
        if self.servers[server].is_up() || self.servers[server].is_gone {
            return;
        }
        let (disk, begins) = (self.servers[server].disk.clone(), &self.servers[server].begins);
        let Opened { log, mut recovered, report } =
            match Log::open_on(disk, SEGMENTS, None, || begins.clone()) {
                Ok(opened) => opened,
                Err(_) if self.servers[server].disk.has_blown() => {
                    self.cx.say(format_args!("server {server}: loses power while it starts"));
                    self.servers[server].disk.crash();
                    return self.cx.soon(50, 3_000, Happening::ServerStarts { server });
                }
                Err(error) => return self.cx.violate("the log opens after every crash", chain(&error)),
            };
        self.servers[server].life += 1;
        let life = self.servers[server].life;
        let torn = report.torn.map(|torn| torn.bytes);
        let last = recovered.last();
        let level = self.level_in(server, life);
        self.servers[server].level = level;
        self.cx.say(format_args!(
            "server {server}: life {life} of {level} starts, log up to {last:?}, torn {torn:?}"
        ));
        self.logs.recovered(&mut self.cx, server, &recovered);
        if self.cx.has(Bug::ForgetVote) {
            recovered.hard_state.vote = 0;
        }
        let seed = if self.cx.has(Bug::SameIdsAgain) { 7 } else { self.cx.random.seed() };
        let mut consensus = consensus::Config::new(self.servers[server].member);
        consensus.entries_kept = 10;
        let config = Config {
            consensus,
            snapshot_every: self.plan.snapshot_every,
            note_within: server::NOTE_WITHIN,
            seed,
            itself: Some(itself(server)),
            contacts: self.servers[server].contacts.clone(),
            level,
        };
        let manager = match Manager::restore(config, SimCodec::new(self.cx.bug, level), recovered) {
            Ok(manager) => manager,
            Err(error) => return self.cx.violate("what was recovered can be restored", chain(&error)),
        };
        self.servers[server].heard_ready.clear();
        self.servers[server].heard.clear();
        let clock = self.servers[server].wall;
        self.servers[server].running = Some(Running {
            clock,
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
        let first = self.cx.random.millis(0, self.plan.tick.0);
        self.cx.after(first, Happening::ServerTick { server, life });
        self.server_steps(server, life);
    }

    /// Some servers begin with a build that knows less, and are upgraded when they start again.
    fn level_in(&self, server: usize, life: u32) -> Level {
        let begins_older = server < self.plan.servers && self.plan.seed >> (server % 8) & 1 == 1;
        if begins_older && life == 1 { Level::FIRST } else { Level::NEWEST }
    }

    /// Power loss: what was being written may be there in part.
    pub(crate) fn server_crashes(&mut self, server: usize) {
        self.servers[server].crash_after = None;
        let Some(mut running) = self.servers[server].running.take() else { return };
        self.cx.say(format_args!("server {server}: crashes"));
        self.servers[server].published = None;
        self.servers[server].led = false;
        let group: Vec<Persist> = running.waiting.drain(..running.writing).collect();
        if !self.servers[server].disk.has_blown() {
            // A group takes two operations, its write and its sync; a new segment or a snapshot takes more.
            let operations = match self.cx.random.between(1, 4) {
                1 => 0,
                2 | 3 => 1,
                _ => self.cx.random.between(2, 8),
            };
            self.servers[server].disk.set_fuse(operations as u32);
            // Whether these get done is what the crash leaves open.
            let _ = running.log.append(&group);
            if let Some(snapshot) = running.snapshot {
                let _ = running.log.snapshots().write(&snapshot);
            }
        }
        self.logs.crashed(server, group);
        self.servers[server].disk.crash();
        self.cut_all(server);
        self.server_left_users(server);
        self.cx.soon(20, 4_000, Happening::ServerStarts { server });
    }
}
