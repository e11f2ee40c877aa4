//! One server: a manager, its disk, and what is on the way to the disk.

use std::collections::{BTreeSet, VecDeque};

use consensus::{Entry, HardState, Membership, Persist, Recovered, Snapshot, SnapshotMeta};
use manager::{Codec as _, Config, Event, Manager, RestoreError};
use model::{Level, Millis};
use store::State;

use crate::codec::Table;

/// Small, so that scripts reach them.
const MAX_COMMAND_BYTES: u64 = 1_000;
const MAX_UNCOMMITTED_BYTES: u64 = 3_000;

pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) manager: Option<Manager<Table>>,
    pub(crate) disk: Disk,
    /// Handed out and not durable, oldest first.
    pub(crate) unsynced: VecDeque<Persist>,
    /// Being written.
    pub(crate) snapshot: Option<(SnapshotMeta, State)>,
    /// Writes are durable only when a script says so.
    pub(crate) is_slow: bool,
    /// The same of snapshots.
    pub(crate) snapshots_slowly: bool,
    /// As last printed.
    pub(crate) led: bool,
    lives: u64,
    contacts: BTreeSet<u64>,
    /// What its build knows.
    pub(crate) level: Level,
}

/// What survives.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    snapshot: Option<Snapshot>,
    /// Also those that the snapshot covers, unless it came from another server: for the checks.
    pub(crate) entries: Vec<Entry>,
    hard_state: HardState,
}

impl Disk {
    fn write(&mut self, persist: Persist) {
        if let Some(snapshot) = persist.snapshot {
            self.snapshot = Some(snapshot);
            self.entries.clear();
        }
        if let Some(first) = persist.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
        }
        self.entries.extend(persist.entries);
        self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
    }

    /// Whether this very entry is here, or was before a snapshot covered it.
    pub(crate) fn has(&self, index: u64, term: u64) -> bool {
        let covered = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.meta.index);
        index <= covered || self.entries.iter().any(|entry| entry.index == index && entry.term == term)
    }
}

impl Member {
    pub(crate) fn new(id: u64, members: u64) -> Member {
        Member::begin(id, Recovered::bootstrap_with(id, Membership::of_voters(1..=members)))
    }

    /// With an empty disk, and told of these.
    pub(crate) fn joining(id: u64, contacts: BTreeSet<u64>) -> Member {
        Member { contacts, ..Member::begin(id, Recovered::joining(id)) }
    }

    fn begin(id: u64, recovered: Recovered) -> Member {
        let Recovered { hard_state, snapshot, entries, .. } = recovered;
        Member {
            id,
            manager: None,
            disk: Disk { snapshot, entries, hard_state },
            unsynced: VecDeque::new(),
            snapshot: None,
            is_slow: false,
            snapshots_slowly: false,
            led: false,
            lives: 0,
            contacts: BTreeSet::new(),
            level: Level::FIRST,
        }
    }

    pub(crate) fn start(
        &mut self,
        table: &Table,
        snapshot_every: u64,
        note_within: Millis,
    ) -> Result<(), RestoreError> {
        self.lives += 1;
        let Disk { snapshot, mut entries, mut hard_state } = self.disk.clone();
        let covered = snapshot.as_ref().map_or(0, |snapshot| snapshot.meta.index);
        entries.retain(|entry| entry.index > covered);
        hard_state.commit = hard_state.commit.max(covered);
        let mut consensus = consensus::Config::new(self.id);
        // Scripts name who is elected, which follows from this.
        consensus.election_ticks = 10;
        consensus.max_command_bytes = MAX_COMMAND_BYTES;
        consensus.max_uncommitted_bytes = MAX_UNCOMMITTED_BYTES;
        consensus.max_message_bytes = MAX_COMMAND_BYTES;
        consensus.entries_kept = 2;
        let seed = self.id << 32 | self.lives;
        let (contacts, level) = (self.contacts.clone(), self.level);
        let config = Config { consensus, snapshot_every, note_within, seed, itself: None, contacts, level };
        let recovered = Recovered { id: self.id, hard_state, snapshot, entries };
        self.manager = Some(Manager::restore(config, table.of_build(level), recovered)?);
        Ok(())
    }

    /// What was not durable is lost, except for the first `kept` writes: the disk may have been that far.
    pub(crate) fn crash(&mut self, kept: usize) {
        self.manager = None;
        self.snapshot = None;
        self.led = false;
        for persist in std::mem::take(&mut self.unsynced).into_iter().take(kept) {
            self.disk.write(persist);
        }
    }

    /// Makes everything durable that was handed out.
    pub(crate) fn sync(&mut self) -> Option<Event> {
        let number = self.unsynced.back()?.number;
        self.unsynced.drain(..).for_each(|persist| self.disk.write(persist));
        Some(Event::Persisted { number })
    }

    pub(crate) fn save_snapshot(&mut self, table: &Table) -> Option<Event> {
        let (meta, state) = self.snapshot.take()?;
        let snapshot = Snapshot { meta, data: table.encode_snapshot(&state).into() };
        // One from the leader may have overtaken it.
        if self.disk.snapshot.as_ref().is_none_or(|newest| newest.meta.index < snapshot.meta.index) {
            self.disk.snapshot = Some(snapshot.clone());
        }
        Some(Event::SnapshotWritten(snapshot))
    }

    pub(crate) fn writes_soon(&self) -> bool {
        !self.is_slow && !self.unsynced.is_empty()
    }

    pub(crate) fn snapshots_soon(&self) -> bool {
        !self.snapshots_slowly && self.snapshot.is_some()
    }

    pub(crate) fn leads(&self) -> bool {
        self.manager.as_ref().is_some_and(|manager| manager.view().is_leader)
    }
}
