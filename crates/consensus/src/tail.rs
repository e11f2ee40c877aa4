//! The log as raft sees it: everything since the last snapshot (and a little before it), in memory.
//!
//! raft-rs asks for a `Storage` that can be read at any time; with asynchronous persistence it may be ahead of the
//! disk. What is durable is tracked by raft itself, through `on_persist_ready`.

use std::{cell::Cell, collections::VecDeque};

use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry, Snapshot},
    util::limit_size,
};

use crate::{Index, Recovered, Term, translate};

pub(crate) struct Tail {
    initial: RaftState,
    snapshot: Snapshot,
    /// The position before the first entry. At most the snapshot's.
    before: (Index, Term),
    entries: VecDeque<Entry>,
    snapshot_wanted: Cell<bool>,
}

impl Tail {
    pub(crate) fn new(recovered: &Recovered) -> Tail {
        let snapshot = recovered.snapshot.as_ref().map(translate::snapshot_to_raft).unwrap_or_default();
        let meta = snapshot.get_metadata();
        Tail {
            initial: RaftState {
                hard_state: translate::hard_state_to_raft(recovered.hard_state),
                conf_state: meta.get_conf_state().clone(),
            },
            before: (meta.index, meta.term),
            entries: recovered.entries.iter().map(translate::entry_to_raft).collect(),
            snapshot_wanted: Cell::new(false),
            snapshot,
        }
    }

    /// The first of `entries` replaces everything from its index on.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.before.0, "entry {} would replace compacted entries", first.index);
        assert!(first.index <= self.last() + 1, "entry {} leaves a gap after {}", first.index, self.last());
        self.entries.truncate((first.index - self.before.0 - 1) as usize);
        self.entries.extend(entries.iter().cloned());
    }

    /// The log starts again after a snapshot that came from the leader.
    pub(crate) fn install(&mut self, snapshot: &Snapshot) {
        let meta = snapshot.get_metadata();
        self.before = (meta.index, meta.term);
        self.entries.clear();
        self.set_snapshot(snapshot.clone());
    }

    /// Forgets what a snapshot of this member's own state covers, except for the last `kept` entries.
    pub(crate) fn compact(&mut self, snapshot: Snapshot, kept: u64) {
        let to = snapshot.get_metadata().index.saturating_sub(kept);
        while self.entries.front().is_some_and(|entry| entry.index <= to) {
            if let Some(entry) = self.entries.pop_front() {
                self.before = (entry.index, entry.term);
            }
        }
        self.set_snapshot(snapshot);
    }

    fn set_snapshot(&mut self, snapshot: Snapshot) {
        self.snapshot = snapshot;
        self.snapshot_wanted.set(false);
    }

    pub(crate) fn snapshot_index(&self) -> Index {
        self.snapshot.get_metadata().index
    }

    pub(crate) fn snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.get()
    }

    fn last(&self) -> Index {
        self.before.0 + self.entries.len() as u64
    }
}

impl Storage for Tail {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.before.0 {
            return Err(StorageError::Compacted.into());
        }
        assert!(high <= self.last() + 1, "entries up to {high} asked for, there are {}", self.last());
        let (from, to) = ((low - self.before.0 - 1) as usize, (high - self.before.0 - 1) as usize);
        let mut entries: Vec<Entry> = self.entries.range(from..to).cloned().collect();
        limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before.0 {
            return Ok(self.before.1);
        }
        if index < self.before.0 {
            return Err(StorageError::Compacted.into());
        }
        let entry = self.entries.get((index - self.before.0 - 1) as usize);
        entry.map(|entry| entry.term).ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// A member ignores a snapshot in whose membership it does not appear, without a word. So one that was taken before
    /// the member was added is not offered; the shell is asked for a new one.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let meta = self.snapshot.get_metadata();
        if meta.index == 0 || meta.index < request_index || !names(meta.get_conf_state(), to) {
            self.snapshot_wanted.set(true);
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        Ok(self.snapshot.clone())
    }
}

fn names(members: &ConfState, id: u64) -> bool {
    [&members.voters, &members.learners, &members.voters_outgoing, &members.learners_next]
        .into_iter()
        .any(|ids| ids.contains(&id))
}
