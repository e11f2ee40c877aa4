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
    pub(super) fn persist(&mut self, persist: Persist) {
        let (life, number) = (self.server.life, persist.number);
        self.note_entries(&persist.entries);
        let Some(running) = self.server.running_of(life) else { return };
        running.waiting.push_back(persist);
        if self.cx.has(Bug::AcknowledgeBeforeSync) {
            self.server_hears(Event::Persisted { number });
        }
        self.begin_write();
    }

    fn begin_write(&mut self) {
        let life = self.server.life;
        let slow = self.server.slow_until > self.cx.now;
        let Some(running) = self.server.running_of(life) else { return };
        if running.writing > 0 || running.waiting.is_empty() {
            return;
        }
        running.writing = running.waiting.len();
        let (low, high) = if slow { (100, 2_000) } else { (1, 12) };
        self.cx.soon(low, high, Happening::GroupWritten { life });
    }

    pub(crate) fn group_written(&mut self, life: u32) {
        let Some(running) = self.server.running_of(life) else { return };
        let group: Vec<Persist> = running.waiting.iter().take(running.writing).cloned().collect();
        if let Err(error) = running.log.append(&group) {
            return self.disk_failed(&error);
        }
        running.waiting.drain(..group.len());
        running.writing = 0;
        for persist in &group {
            self.history.durable(&persist.entries);
        }
        if let Some(last) = group.last().filter(|_| !self.cx.has(Bug::AcknowledgeBeforeSync)) {
            self.server_hears(Event::Persisted { number: last.number });
        }
        self.begin_write();
    }

    pub(super) fn begin_snapshot(&mut self, meta: SnapshotMeta, state: State) {
        let (life, is_stale) = (self.server.life, self.cx.has(Bug::StaleSnapshot));
        let Some(running) = self.server.running_of(life) else { return };
        let before = std::mem::replace(&mut running.stale, state.clone());
        let data = WireCodec.encode_snapshot(if is_stale { &before } else { &state }).into();
        self.cx.say(format_args!("server: snapshot at {}", meta.index));
        running.snapshot = Some(Snapshot { meta, data });
        self.cx.soon(5, 500, Happening::SnapshotWritten { life });
    }

    pub(crate) fn snapshot_written(&mut self, life: u32) {
        let Some(running) = self.server.running_of(life) else { return };
        let Some(snapshot) = running.snapshot.take() else { return };
        let saved = running.log.snapshots().write(&snapshot);
        match saved.and_then(|saved| running.log.compact(&saved)) {
            Ok(()) => self.server_hears(Event::SnapshotWritten(snapshot)),
            Err(error) => self.disk_failed(&error),
        }
    }

    fn disk_failed(&mut self, error: &dyn std::error::Error) {
        if self.server.disk.has_blown() {
            self.server_crashes();
        } else {
            self.cx.violate("the disk can be written", chain(error));
        }
    }
}
