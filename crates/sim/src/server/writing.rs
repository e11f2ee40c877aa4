//! What the manager asks to be durable: writes in groups, snapshots beside them.

use consensus::{Persist, Snapshot, SnapshotMeta};
use manager::{Codec as _, Event};
use server::codec::WireCodec;
use store::State;

use super::chain;
use crate::{
    bug::Bug,
    world::{Happening, World},
};

impl World {
    pub(super) fn persist(&mut self, server: usize, persist: Persist) {
        let (life, number) = (self.servers[server].life, persist.number);
        self.note_entries(server, &persist);
        let Some(running) = self.servers[server].running_of(life) else { return };
        running.waiting.push_back(persist);
        if self.cx.has(Bug::AcknowledgeBeforeSync) {
            self.server_hears(server, Event::Persisted { number });
        }
        self.begin_write(server);
    }

    fn begin_write(&mut self, server: usize) {
        let life = self.servers[server].life;
        let slow = self.servers[server].slow_until > self.cx.now;
        let Some(running) = self.servers[server].running_of(life) else { return };
        if running.writing > 0 || running.waiting.is_empty() {
            return;
        }
        running.writing = running.waiting.len();
        let (low, high) = if slow { (100, 2_000) } else { (1, 12) };
        self.cx.soon(low, high, Happening::GroupWritten { server, life });
    }

    pub(crate) fn group_written(&mut self, server: usize, life: u32) {
        let Some(running) = self.servers[server].running_of(life) else { return };
        let group: Vec<Persist> = running.waiting.iter().take(running.writing).cloned().collect();
        if let Err(error) = running.log.append(&group) {
            return self.disk_failed(server, &error);
        }
        running.waiting.drain(..group.len());
        running.writing = 0;
        self.logs.synced(server, &group);
        if let Some(last) = group.last().filter(|_| !self.cx.has(Bug::AcknowledgeBeforeSync)) {
            self.server_hears(server, Event::Persisted { number: last.number });
        }
        self.begin_write(server);
    }

    pub(super) fn begin_snapshot(&mut self, server: usize, mut meta: SnapshotMeta, state: State) {
        let (life, is_stale) = (self.servers[server].life, self.cx.has(Bug::StaleSnapshot));
        let Some(running) = self.servers[server].running_of(life) else { return };
        let before = std::mem::replace(&mut running.stale, state.clone());
        if self.cx.has(Bug::ForgetMember) {
            meta.membership.voters.pop();
        }
        let data = WireCodec.encode_snapshot(if is_stale { &before } else { &state }).into();
        self.cx.say(format_args!("server {server}: snapshot at {}", meta.index));
        running.snapshot = Some(Snapshot { meta, data });
        self.cx.soon(5, 500, Happening::SnapshotWritten { server, life });
    }

    pub(crate) fn snapshot_written(&mut self, server: usize, life: u32) {
        let Some(running) = self.servers[server].running_of(life) else { return };
        let Some(snapshot) = running.snapshot.take() else { return };
        self.agreement.snapshot(&mut self.cx, server, &snapshot);
        let Some(running) = self.servers[server].running_of(life) else { return };
        let saved = running.log.snapshots().write(&snapshot);
        match saved.and_then(|saved| running.log.compact(&saved)) {
            Ok(()) => self.server_hears(server, Event::SnapshotWritten(snapshot)),
            Err(error) => self.disk_failed(server, &error),
        }
    }

    fn disk_failed(&mut self, server: usize, error: &dyn std::error::Error) {
        if self.servers[server].disk.has_blown() {
            self.server_crashes(server);
        } else {
            self.cx.violate("the disk can be written", chain(error));
        }
    }
}
