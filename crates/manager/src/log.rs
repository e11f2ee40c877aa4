//! Between the manager and consensus: what is committed becomes the state, and who leads is noticed.

use consensus::{Committed, CommittedEntry, Role, Snapshot};
use model::Version;

use crate::{Codec, CodecError, Effect, Manager, proposals::Proposal};

/// What an administrator does about what an older build cannot read.
const NEWER: &str =
    "If it was written by a newer build, put that build on this server: what is on its disk stays as it is";

/// When snapshots are written.
#[derive(Debug)]
pub(crate) struct Snapshots {
    pub(crate) every: u64,
    /// The index of the one that is being written.
    pub(crate) in_flight: Option<u64>,
    /// Of the newest that is durable.
    pub(crate) newest: u64,
}

/// The state in a snapshot. Consensus begins a log with a snapshot of nothing.
pub(crate) fn decode_snapshot<C: Codec>(codec: &C, snapshot: &Snapshot) -> Result<store::State, CodecError> {
    match &snapshot.data[..] {
        [] => Ok(store::State::default()),
        data => codec.decode_snapshot(data),
    }
}

impl<C: Codec> Manager<C> {
    /// Takes everything that consensus has ready; says whether there was anything.
    pub(crate) fn advance_log(&mut self) -> bool {
        let mut any = false;
        while let Some(ready) = self.consensus.ready() {
            any = true;
            if !ready.messages.is_empty() {
                self.effects.push(Effect::Send(ready.messages));
            }
            self.effects.extend(ready.persist.map(Effect::Persist));
            if let Some(snapshot) = ready.install {
                self.install(&snapshot);
            }
            // Before the role: what of the own proposals is committed, is, whoever leads now.
            for committed in ready.committed {
                self.commit(committed);
            }
            for read in ready.reads {
                self.reads.confirm(read);
            }
            if let Some(role) = ready.role {
                self.role_changed(role);
            }
            self.notice_another_term();
        }
        any
    }

    fn install(&mut self, snapshot: &Snapshot) {
        let index = snapshot.meta.index;
        self.stop_leading();
        match decode_snapshot(&self.codec, snapshot) {
            Ok(state) => {
                self.clock.learn(state.latest());
                self.state = state;
                self.snapshots.newest = index;
                self.view_changed = true;
                self.consensus.applied(index);
                self.check_knows();
            }
            Err(error) => {
                self.give_up(format!(
                    "the snapshot at {index} that a peer sent cannot be read: {error}. {NEWER}"
                ));
            }
        }
    }

    fn commit(&mut self, committed: Committed) {
        let Committed { index, term, entry } = committed;
        let changes_members = matches!(entry, CommittedEntry::Membership(_));
        match (entry, self.proposals.remove(index)) {
            (CommittedEntry::Command(_), Some(own)) if own.term == term => self.commit_own(index, own),
            (entry, lost) => {
                if let Some(lost) = lost {
                    self.lost(lost.origin);
                }
                self.commit_read(index, entry);
            }
        }
        self.consensus.applied(index);
        self.view_changed |= changes_members;
        if !self.leader.leads() {
            // The first entry of its own term tells a leader that it has applied all that was committed before.
            let status = self.consensus.status();
            if status.role == Role::Leader && status.term == term {
                self.start_leading(term);
            }
        }
    }

    fn commit_own(&mut self, index: u64, own: Proposal) {
        assert_eq!(self.state.version(), own.before, "entry {index} was tried out on another state");
        self.state = own.after;
        self.view_changed = true;
        self.take_changes(own.changes);
        self.done(own.origin);
    }

    /// An entry of another leader, or of an earlier life of this server.
    fn commit_read(&mut self, index: u64, entry: CommittedEntry) {
        let CommittedEntry::Command(bytes) = entry else { return };
        match self.codec.decode_command(&bytes) {
            Ok(command) => {
                if let Some(at) = command.at().filter(|_| !self.leader.leads()) {
                    self.clock.learn(at);
                }
                self.view_changed = true;
                // A rejected command changes nothing, and whoever proposed it knows.
                if let Ok((_, changes)) = self.state.apply(Version(index), command) {
                    self.take_changes(changes);
                }
                self.check_knows();
            }
            // Passing over it would make this server's state differ from the others' for ever.
            Err(error) => self.give_up(format!("log entry {index} cannot be read: {error}. {NEWER}")),
        }
    }

    fn role_changed(&mut self, role: Role) {
        tracing::info!(?role, "the role of this server changed");
        self.view_changed = true;
        self.reads.ask_anew();
        match role {
            Role::Leader => {}
            Role::Follower { .. } | Role::Candidate => self.stop_leading(),
        }
    }

    /// Leading in one term says nothing of the next, even where no other leader was seen between them.
    fn notice_another_term(&mut self) {
        if self.leader.term.is_some_and(|term| term != self.consensus.status().term) {
            self.stop_leading();
        }
    }

    pub(crate) fn maybe_snapshot(&mut self) {
        let (status, snapshots) = (self.consensus.status(), &mut self.snapshots);
        let entries = status.applied.saturating_sub(snapshots.newest);
        let is_due = entries >= snapshots.every || (status.snapshot_wanted && entries > 0);
        if is_due && snapshots.in_flight.is_none() {
            let meta = self.consensus.snapshot_meta();
            snapshots.in_flight = Some(meta.index);
            self.effects.push(Effect::Snapshot { meta, state: self.state.clone() });
        }
    }

    pub(crate) fn snapshot_written(&mut self, snapshot: Snapshot) {
        let index = snapshot.meta.index;
        if self.snapshots.in_flight != Some(index) {
            return;
        }
        self.snapshots.in_flight = None;
        // One that a leader sent may have overtaken it.
        self.snapshots.newest = self.snapshots.newest.max(index);
        self.consensus.compact(snapshot);
    }

    /// What is on disk or came from a peer cannot be read: everything after this would rest on a wrong state.
    pub(crate) fn give_up(&mut self, reason: String) {
        self.fatal.get_or_insert(reason);
    }
}
