//! Between the manager and the log: what was proposed and waits for its commit, what is committed and applied.

use std::collections::BTreeMap;

use consensus::{Committed, CommittedEntry, ProposeError, Role, Snapshot};
use model::{ServiceKey, Version};
use store::{Changes, Command, Outcome, Rejected};

use crate::{Codec, Effect, Manager, ReadId, RequestError, RequestId, requests::Ticket};

/// Proposals and reads on their way.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// By log index: who waits for it. The entry that commits there may be another leader's.
    proposals: BTreeMap<u64, Proposal>,
    /// Reads that wait for a quorum to confirm the leader, by context.
    unconfirmed: BTreeMap<u64, ReadId>,
    /// Reads that wait until this index is applied.
    confirmed: Vec<(u64, ReadId)>,
}

#[derive(Debug)]
struct Proposal {
    term: u64,
    command: Command,
    origin: Origin,
}

/// Who proposed a command.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// One command of a user's request.
    User(Ticket),
    /// The reconcile loop.
    Plan(ServiceKey),
    Placement,
    /// Nobody waits for it.
    Record,
}

impl<C: Codec> Manager<C> {
    pub(crate) fn propose(&mut self, command: Command, origin: Origin) -> Result<(), RequestError> {
        let bytes = self.codec.encode_command(&command);
        match self.consensus.propose(bytes) {
            Ok(proposed) => {
                self.log.proposals.insert(proposed.index, Proposal { term: proposed.term, command, origin });
                Ok(())
            }
            Err(ProposeError::NotLeader { leader }) => Err(RequestError::NotLeader { leader }),
            Err(ProposeError::TooLarge { bytes, max }) => Err(RequestError::TooLarge { bytes, max }),
            Err(error) => {
                tracing::debug!(%error, "a proposal was refused");
                Err(RequestError::Overloaded)
            }
        }
    }

    /// Takes everything that consensus has ready; says whether there was anything.
    pub(crate) fn advance_log(&mut self) -> bool {
        let mut any = false;
        while let Some(ready) = self.consensus.ready() {
            any = true;
            if !ready.messages.is_empty() {
                self.effects.push(Effect::Send(ready.messages));
            }
            self.effects.extend(ready.persist.map(Effect::Persist));
            if let Some(role) = ready.role {
                self.role_changed(role);
            }
            if let Some(snapshot) = ready.install {
                self.install(&snapshot);
            }
            for committed in ready.committed {
                self.commit(committed);
            }
            for read in ready.reads {
                if let Some(id) = self.log.unconfirmed.remove(&read.context) {
                    self.log.confirmed.push((read.index, id));
                }
            }
        }
        self.answer_reads();
        any
    }

    fn install(&mut self, snapshot: &Snapshot) {
        let index = snapshot.meta.index;
        match self.codec.decode_snapshot(&snapshot.data) {
            Ok(state) => {
                self.state = state;
                self.snapshotted = index;
                self.view_changed = true;
                self.consensus.applied(index);
            }
            Err(error) => {
                let reason = format!("the snapshot at {index} that a peer sent cannot be read: {error}");
                self.effects.push(Effect::Fatal { reason });
            }
        }
    }

    fn commit(&mut self, committed: Committed) {
        let Committed { index, term, entry } = committed;
        let proposal = self.log.proposals.remove(&index);
        let (command, origin) = match (entry, proposal) {
            (CommittedEntry::Command(_), Some(own)) if own.term == term => {
                (Some(own.command), Some(own.origin))
            }
            (entry, lost) => {
                if let Some(lost) = lost {
                    self.lost(lost.origin);
                }
                (self.decode(index, entry), None)
            }
        };
        if let Some(command) = command {
            let result = self.state.apply(Version(index), command);
            self.applied(origin, result);
        }
        self.consensus.applied(index);
        // The first entry of its own term tells a leader that it has applied all that was committed before.
        if !self.leader.leading && self.is_leader() && term == self.consensus.status().term {
            self.start_leading();
        }
    }

    fn decode(&mut self, index: u64, entry: CommittedEntry) -> Option<Command> {
        let CommittedEntry::Command(bytes) = entry else { return None };
        match self.codec.decode_command(&bytes) {
            Ok(command) => Some(command),
            Err(error) => {
                // Passing over it would make this server's state differ from the others' for ever.
                let reason =
                    format!("log entry {index} cannot be read: {error}; was it written by a newer version?");
                self.effects.push(Effect::Fatal { reason });
                None
            }
        }
    }

    fn applied(&mut self, origin: Option<Origin>, result: Result<(Outcome, Changes), Rejected>) {
        self.view_changed = true;
        let outcome = match result {
            Ok((outcome, changes)) => {
                self.take_changes(changes);
                Ok(outcome)
            }
            Err(rejected) => Err(rejected),
        };
        match origin {
            Some(Origin::User(ticket)) => self.answer(ticket, outcome),
            Some(Origin::Plan(service)) => self.plan_ended(service),
            Some(Origin::Placement) => self.leader.placing = false,
            Some(Origin::Record) | None => {}
        }
    }

    /// A proposal that another leader's entry took the place of.
    fn lost(&mut self, origin: Origin) {
        match origin {
            Origin::User(ticket) => self.fail(ticket.request, RequestError::LeadershipLost),
            Origin::Plan(service) => self.plan_ended(service),
            Origin::Placement => self.leader.placing = false,
            Origin::Record => {}
        }
    }

    fn role_changed(&mut self, role: Role) {
        tracing::info!(?role, "the role of this server changed");
        self.view_changed = true;
        match role {
            Role::Leader => {}
            Role::Follower { .. } | Role::Candidate => self.stop_leading(),
        }
    }

    /// Everything that waits for a commit may still commit, but not under this leader: say so now.
    pub(crate) fn abandon_proposals(&mut self) {
        for (_, proposal) in std::mem::take(&mut self.log.proposals) {
            self.lost(proposal.origin);
        }
    }

    pub(crate) fn read(&mut self, id: ReadId) {
        self.log.unconfirmed.insert(id.0, id);
        self.ask_to_read(id.0);
    }

    fn ask_to_read(&mut self, context: u64) {
        if let Err(error) = self.consensus.read_index(context) {
            tracing::debug!(%error, "a read has to wait");
        }
    }

    /// Raft forgets reads silently (before the first commit of a term, without a leader): ask again at every tick.
    pub(crate) fn retry_reads(&mut self) {
        let contexts: Vec<u64> = self.log.unconfirmed.keys().copied().collect();
        for context in contexts {
            self.ask_to_read(context);
        }
    }

    fn answer_reads(&mut self) {
        let applied = self.consensus.status().applied;
        let (ready, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.log.confirmed).into_iter().partition(|(index, _)| *index <= applied);
        self.log.confirmed = waiting;
        for (_, id) in ready {
            let view = self.view();
            self.effects.push(Effect::ReadReady { id, view });
        }
    }

    pub(crate) fn maybe_snapshot(&mut self) {
        let status = self.consensus.status();
        let due = status.applied.saturating_sub(self.snapshotted) >= self.snapshot_every;
        if due && self.snapshot_in_flight.is_none() {
            let meta = self.consensus.snapshot_meta();
            self.snapshot_in_flight = Some(meta.index);
            self.effects.push(Effect::Snapshot { meta, state: self.state.clone() });
        }
    }

    pub(crate) fn snapshot_written(&mut self, snapshot: Snapshot) {
        let index = snapshot.meta.index;
        if self.snapshot_in_flight == Some(index) {
            self.snapshot_in_flight = None;
            self.snapshotted = index;
            self.consensus.compact(snapshot);
        }
    }

    pub(crate) fn fail(&mut self, id: RequestId, error: RequestError) {
        if self.leader.batches.remove(&id).is_some() {
            self.effects.push(Effect::Reply { id, result: Err(error) });
        }
    }
}
