//! One member: what comes out, and what the shell says about how far it got.
//!
//! raft-rs says with each of its own `Ready`s which messages have to wait for the write. They wait here: the shell
//! gets them only after [`Consensus::persisted`]. A write that only moves the commit index is not worth a disk
//! access; it goes along with the next one that is. So a single voter needs one durable write per batch. The exception is a
//! commit of other members: a server that forgot it in a crash would ask those for their votes who are gone by then.

use raft::{
    StateRole,
    eraftpb::{self, EntryType},
};

use crate::{
    Committed, CommittedEntry, Consensus, Index, Payload, Persist, Read, Ready, Snapshot, SnapshotMeta,
    translate,
};

/// A `Ready` of raft whose write is not durable yet, or that came after one that is not.
pub(crate) struct InFlight {
    number: u64,
    /// Whether the shell will confirm this very number; else it becomes durable together with the one before.
    writes: bool,
    /// The commit index that is durable with it.
    commit: Index,
    messages: Vec<eraftpb::Message>,
    install: Option<Snapshot>,
}

impl Consensus {
    /// What is to be done next; `None` when there is nothing. Call it until then.
    pub fn ready(&mut self) -> Option<Ready> {
        self.hand_in();
        loop {
            let waiting = !self.released.is_empty() || self.install.is_some();
            if !waiting && !self.raw.has_ready() {
                return None;
            }
            let ready = self.next_ready();
            self.settle();
            // Some of what raft reports is kept here: a commit index that moved, and nothing else.
            if ready != Ready::default() {
                return Some(ready);
            }
        }
    }

    fn next_ready(&mut self) -> Ready {
        let mut ready = Ready { install: self.install.take(), ..Ready::default() };
        let mut messages = std::mem::take(&mut self.released);
        if self.raw.has_ready() {
            let mut raft = self.raw.ready();
            messages.extend(raft.take_messages());
            ready.reads = raft.take_read_states().iter().filter_map(|state| self.read(state)).collect();
            if let Some(soft_state) = raft.ss() {
                let role = translate::role(soft_state);
                ready.role = (role != self.role).then_some(role);
                self.role = role;
            }
            let committed = raft.take_committed_entries();
            let changes_members =
                committed.iter().any(|entry| entry.get_entry_type() != EntryType::EntryNormal);
            ready.persist = self.hand_out_write(raft, changes_members);
            messages.append(&mut self.released);
            // Membership changes take effect in here, and raft is not to be touched before its `Ready` is taken.
            ready.committed = committed.iter().map(|entry| self.committed(entry)).collect();
        }
        // Encoding fails only for messages beyond 2 GiB, and losing a message is allowed.
        ready.messages =
            messages.iter().filter_map(|message| translate::message_from_raft(message).ok()).collect();
        ready
    }

    /// The write with this number, and all before it, are durable.
    pub fn persisted(&mut self, number: u64) {
        self.hand_in();
        let mut last = None;
        while let Some(front) = self.in_flight.front() {
            if front.writes && front.number > number {
                break;
            }
            let Some(front) = self.in_flight.pop_front() else { break };
            last = Some(front.number);
            self.commit_saved = front.commit;
            self.released.extend(front.messages);
            self.install = front.install.or(self.install.take());
        }
        if let Some(last) = last {
            self.raw.on_persist_ready(last);
            self.settle();
        }
    }

    /// Everything up to `index` is part of the applied state now.
    pub fn applied(&mut self, index: Index) {
        if index <= self.raw.raft.raft_log.applied {
            return;
        }
        self.hand_in();
        while self.membership_ahead.front().is_some_and(|&(at, _)| at <= index) {
            if let Some((at, membership)) = self.membership_ahead.pop_front() {
                self.membership = membership;
                self.membership_since = at;
            }
        }
        if self.installing.is_some_and(|at| at <= index) {
            self.installing = None;
        }
        self.raw.advance_apply_to(index);
        self.settle();
    }

    /// Where a snapshot of the state as applied at this very moment stands. Capture the state in the same breath,
    /// write it in the background, and call [`Consensus::compact`] once it is durable.
    pub fn snapshot_meta(&self) -> SnapshotMeta {
        let log = &self.raw.raft.raft_log;
        let index = log.applied;
        // The term of the applied index is always known: compaction stops there.
        let term = log.term(index).unwrap_or_default();
        SnapshotMeta { index, term, membership: self.membership.clone() }
    }

    /// This snapshot of the member's own state is durable: forget the log that it covers.
    ///
    /// One that was overtaken by a newer snapshot is ignored.
    pub fn compact(&mut self, snapshot: Snapshot) {
        let index = snapshot.meta.index;
        let applied = self.raw.raft.raft_log.applied;
        assert!(index <= applied, "a snapshot at {index} of a state that is applied up to {applied}");
        if index > self.raw.store().snapshot_index() && self.installing.is_none() {
            let kept = self.config.entries_kept;
            self.raw.mut_store().compact(translate::snapshot_to_raft(&snapshot), kept);
        }
    }

    /// Takes the write out of raft's `Ready`, and holds back what depends on it.
    fn hand_out_write(&mut self, mut raft: raft::Ready, changes_members: bool) -> Option<Persist> {
        let number = raft.number();
        let must_sync = raft.must_sync() || changes_members;
        let messages = raft.take_persisted_messages();
        let install = (!raft.snapshot().is_empty()).then(|| translate::snapshot_from_raft(raft.snapshot()));
        let persist = must_sync.then(|| self.persist(&raft, install.clone()));
        if let Some(snapshot) = &install {
            self.raw.mut_store().install(raft.snapshot());
            self.installing = Some(snapshot.meta.index);
            // Behind those of an earlier snapshot that is not applied yet: until then its members are the members.
            self.membership_ahead.push_back((snapshot.meta.index, snapshot.meta.membership.clone()));
        }
        self.raw.mut_store().append(raft.entries());
        self.raw.advance_append_async(raft);
        self.in_flight.push_back(InFlight {
            number,
            writes: must_sync,
            commit: self.hard_state_saved.commit,
            messages,
            install,
        });
        if !must_sync && self.in_flight.len() == 1 {
            self.persisted(number);
        }
        persist
    }

    fn persist(&mut self, raft: &raft::Ready, snapshot: Option<Snapshot>) -> Persist {
        let hard_state = translate::hard_state_from_raft(&self.raw.raft.hard_state());
        let changed = (hard_state != self.hard_state_saved).then_some(hard_state);
        self.hard_state_saved = hard_state;
        let entries = raft.entries().iter().map(translate::entry_from_raft).collect();
        Persist { number: raft.number(), snapshot, entries, hard_state: changed }
    }

    fn read(&self, state: &raft::ReadState) -> Option<Read> {
        let (_, context) = state.request_ctx.split_at_checked(self.read_prefix.len())?;
        Some(Read { context: u64::from_le_bytes(context.try_into().ok()?), index: state.index })
    }

    fn committed(&mut self, raft: &eraftpb::Entry) -> Committed {
        let entry = translate::entry_from_raft(raft);
        let committed = match entry.payload {
            Payload::Empty => CommittedEntry::Empty,
            Payload::Command(data) => CommittedEntry::Command(data),
            Payload::Membership(data) => {
                CommittedEntry::Membership(self.change_membership(entry.index, &data))
            }
        };
        Committed { index: entry.index, term: entry.term, entry: committed }
    }

    /// A committed change takes effect as soon as it is handed out. One that is not possible changes nothing, and
    /// every member comes to that same conclusion, because all have the same members before it.
    fn change_membership(&mut self, index: Index, data: &bytes::Bytes) -> crate::Membership {
        let now = translate::change_from_bytes(data)
            .map_err(raft::Error::from)
            .and_then(|change| self.raw.apply_conf_change(&change));
        let membership = match now {
            Ok(now) => translate::membership_from_raft(&now),
            Err(error) => {
                tracing::error!(index, %error, "a committed membership change is not possible; nothing changes");
                translate::membership_from_raft(&self.raw.raft.prs().conf().to_conf_state())
            }
        };
        self.membership_ahead.push_back((index, membership.clone()));
        if self.leads() && !self.raw.raft.promotable() {
            // raft lets a leader that has no vote any more lead on, and panics when its own next write is confirmed.
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, 0);
        }
        membership
    }

    pub(crate) fn leads(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }
}
