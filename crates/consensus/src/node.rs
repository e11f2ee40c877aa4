//! One member: what goes in.
//!
//! Everything that comes out is in `outputs.rs`. After any call here, fetch [`Consensus::ready`] until there is none.
//!
//! A broken invariant inside raft panics, and the only safe answer to that is to abort the process and recover
//! from disk: run this on a thread whose panic does so.

use std::{collections::VecDeque, fmt};

use raft::{
    Changer, ProgressTracker, RawNode, SnapshotStatus, StateRole,
    eraftpb::{self, ConfChangeV2, MessageType},
};

use crate::{
    Config, Delivery, HardState, Index, MemberChange, MemberId, Membership, PeerMessage, ProposeError,
    Proposed, ReadError, Recovered, Role, Snapshot, StartError, Status, StepError, drain,
    message::{self, MISSED_ELECTIONS, needs_known_sender},
    outputs::InFlight,
    tail::Tail,
    translate,
};

pub struct Consensus {
    pub(crate) config: Config,
    pub(crate) raw: RawNode<Tail>,
    /// Commands that were accepted and that raft does not have yet: it gets all of a step at once, and makes one message
    /// of them for each peer. It has them before anything else happens to it.
    proposed: Vec<eraftpb::Entry>,
    /// As of the applied index; raft itself is ahead by what was handed out and not yet applied.
    pub(crate) membership: Membership,
    /// The entry that made it so, or a later one.
    pub(crate) membership_since: Index,
    pub(crate) membership_ahead: VecDeque<(Index, Membership)>,
    /// What raft handed out that is not durable yet, oldest first.
    pub(crate) in_flight: VecDeque<InFlight>,
    /// Durable by now, so these may leave with the next `Ready`.
    pub(crate) released: Vec<eraftpb::Message>,
    pub(crate) install: Option<Snapshot>,
    /// The index of a snapshot from the leader, from when it arrives until it is applied.
    pub(crate) installing: Option<Index>,
    pub(crate) hard_state_saved: HardState,
    /// The commit index that is durable.
    pub(crate) commit_saved: Index,
    pub(crate) role: Role,
    pub(crate) read_prefix: [u8; 8],
}

impl Consensus {
    /// Starts from what was recovered. A member that decides alone leads at once, without waiting for a timeout.
    pub fn new(config: Config, recovered: Recovered) -> Result<Consensus, StartError> {
        check(&config, &recovered)?;
        let applied = recovered.snapshot.as_ref().map_or(0, |snapshot| snapshot.meta.index);
        let membership = recovered.snapshot.as_ref().map(|s| s.meta.membership.clone()).unwrap_or_default();
        let raw = RawNode::new(&config.raft(applied), Tail::new(&recovered), &drain::logger())
            .map_err(|error| StartError::Config(error.to_string()))?;
        let mut consensus = Consensus {
            read_prefix: config.id.to_le_bytes(),
            config,
            raw,
            proposed: Vec::new(),
            membership,
            membership_since: applied,
            membership_ahead: VecDeque::new(),
            in_flight: VecDeque::new(),
            released: Vec::new(),
            install: None,
            installing: None,
            hard_state_saved: recovered.hard_state,
            commit_saved: recovered.hard_state.commit,
            role: Role::Follower { leader: None },
        };
        consensus.settle();
        Ok(consensus)
    }

    /// One step of the clock.
    pub fn tick(&mut self) {
        self.hand_in();
        if self.leads() || self.may_campaign() {
            self.raw.tick();
            self.ask_again();
        }
        self.leave_joint_state();
        self.settle();
    }

    /// Whether it would be elected, a member asks again with every tick. Whoever heard the leader a moment later than it did
    /// does not listen yet, and whoever has a shorter log cannot be elected instead: without this, both would wait for
    /// another election timeout. Asking changes nobody's term.
    fn ask_again(&mut self) {
        let raft = &self.raw.raft;
        // Where none has elapsed, it has asked just now.
        if raft.state == StateRole::PreCandidate && raft.election_elapsed > 0 {
            // Refused only while a membership change waits to be applied; then the next round tries again.
            let _ = self.raw.campaign();
        }
    }

    /// Takes a message from a peer. An error concerns this message only, except for [`StepError::LostLog`].
    pub fn step(&mut self, message: PeerMessage) -> Result<(), StepError> {
        self.hand_in();
        let raft = message::decode(self.config.id, &message)?;
        let kind = raft.get_msg_type();
        if self.raw.raft.prs().get(raft.from).is_none() {
            self.check_unknown(&raft)?;
        }
        self.check_log_not_lost(&raft)?;
        if kind == MessageType::MsgTimeoutNow && !self.may_campaign() {
            return Ok(()); // The transfer times out at the leader, and it goes on leading.
        }
        // What `decode` let through is refused only for an unknown sender, and that was checked.
        let _ = self.raw.step(raft);
        self.settle();
        Ok(())
    }

    /// Appends a command to the log of the leader. Accepted is not committed: see [`Proposed`].
    pub fn propose(&mut self, command: Vec<u8>) -> Result<Proposed, ProposeError> {
        let (bytes, max) = (command.len() as u64, self.config.max_command_bytes);
        if bytes > max {
            return Err(ProposeError::TooLarge { bytes, max });
        }
        if command.is_empty() {
            return Err(ProposeError::Empty);
        }
        self.check_may_propose()?;
        let waiting: u64 = self.proposed.iter().map(|entry| entry.data.len() as u64).sum();
        let waiting = waiting + self.raw.raft.uncommitted_size() as u64;
        if waiting > 0 && waiting + bytes > self.config.max_uncommitted_bytes {
            return Err(ProposeError::Overloaded);
        }
        self.proposed.push(eraftpb::Entry { data: command.into(), ..Default::default() });
        Ok(self.last_proposed())
    }

    /// Gives raft what was accepted.
    pub(crate) fn hand_in(&mut self) {
        if self.proposed.is_empty() {
            return;
        }
        let mut message = eraftpb::Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.config.id;
        message.set_entries(std::mem::take(&mut self.proposed).into());
        let taken = self.raw.raft.step(message);
        assert!(taken.is_ok(), "raft refuses what it was certain to take: {taken:?}");
    }

    /// Proposes other members: one change alone, or several as a joint change that completes itself.
    pub fn propose_membership(&mut self, changes: &[MemberChange]) -> Result<Proposed, ProposeError> {
        self.hand_in();
        self.check_may_propose()?;
        // raft answers Ok to a change that it turns into an empty entry, so look first.
        if self.raw.raft.has_pending_conf() {
            return Err(ProposeError::ChangePending);
        }
        if self.membership.is_joint() {
            return Err(ProposeError::ChangePending);
        }
        if changes.is_empty() {
            return Err(ProposeError::Impossible("it changes nothing".to_owned()));
        }
        let change = translate::change_to_raft(changes);
        check_possible(self.raw.raft.prs(), &change).map_err(|e| ProposeError::Impossible(e.to_string()))?;
        self.raw.propose_conf_change(Vec::new(), change).map_err(|_| ProposeError::Overloaded)?;
        Ok(self.last_proposed())
    }

    /// Asks for the index that a read has to wait for; the answer comes in [`crate::Ready::reads`], or never: raft
    /// forgets a question when the leader changes. Ask again after a timeout, each time with a `context` that this
    /// member never used before.
    pub fn read_index(&mut self, context: u64) -> Result<(), ReadError> {
        self.hand_in();
        let raft = &self.raw.raft;
        let ready = match raft.state {
            StateRole::Leader => raft.commit_to_current_term(),
            StateRole::Follower => raft.leader_id != 0,
            StateRole::Candidate | StateRole::PreCandidate => false,
        };
        if !ready {
            return Err(ReadError::NotReady { leader: self.leader() });
        }
        // Contexts of different members meet at the leader, so each carries its member's id.
        let context = [self.read_prefix, context.to_le_bytes()].concat();
        self.raw.read_index(context);
        Ok(())
    }

    /// Hands leadership over, for a graceful stop. It is done when [`Status::role`] says so, or it times out.
    pub fn transfer_leadership(&mut self, to: MemberId) {
        self.hand_in();
        if self.leads() {
            self.raw.transfer_leader(to);
        }
    }

    /// Whether leadership is being handed over. Ends after an election timeout without success: who was to take over may have had
    /// a membership change to apply first.
    pub fn is_transferring(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// A message to `peer` could not be sent. Without this word raft keeps sending in the dark.
    pub fn report_unreachable(&mut self, peer: MemberId) {
        self.hand_in();
        self.raw.report_unreachable(peer);
    }

    /// How a message of the kind `Snapshot` fared. Without this word the peer stays stuck.
    pub fn report_snapshot(&mut self, peer: MemberId, delivery: Delivery) {
        self.hand_in();
        let status = match delivery {
            Delivery::Arrived => SnapshotStatus::Finish,
            Delivery::Failed => SnapshotStatus::Failure,
        };
        self.raw.report_snapshot(peer, status);
    }

    /// How much of the log a member is known to have. Only the leader knows; of anybody else, and elsewhere, it is 0.
    pub fn matched(&self, member: MemberId) -> Index {
        self.raw.raft.prs().get(member).filter(|_| self.leads()).map_or(0, |progress| progress.matched)
    }

    /// A membership change is proposed and not complete yet.
    pub fn is_changing(&self) -> bool {
        self.raw.raft.has_pending_conf() || self.membership.is_joint()
    }

    /// Whether most voters know the present members, and would after a crash: then nobody who is no member any more is
    /// ever needed for an election. Only the leader can tell.
    pub fn is_membership_settled(&self) -> bool {
        if !self.leads() || self.is_changing() {
            return false;
        }
        let knows = |id: &&MemberId| {
            let known = match **id == self.config.id {
                true => self.commit_saved,
                // A member says how far it knows the log to be committed only once the members in it are durable.
                false => self.raw.raft.prs().get(**id).map_or(0, |progress| progress.committed_index),
            };
            known >= self.membership_since
        };
        let voters = &self.membership.voters;
        voters.iter().filter(knows).count() * 2 > voters.len()
    }

    /// Who takes part, as far as it is applied here.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    pub fn status(&self) -> Status {
        let raft = &self.raw.raft;
        Status {
            id: self.config.id,
            role: translate::role(&raft.soft_state()),
            term: raft.term,
            leader: self.leader(),
            last_index: self.last_index(),
            persisted: raft.raft_log.persisted,
            committed: raft.raft_log.committed,
            applied: raft.raft_log.applied,
            snapshot_index: raft.store().snapshot_index(),
            snapshot_wanted: raft.store().snapshot_wanted(),
            membership: self.membership.clone(),
        }
    }

    /// Of the log, with everything that was proposed.
    pub fn last_index(&self) -> Index {
        self.raw.raft.raft_log.last_index() + self.proposed.len() as u64
    }

    fn leader(&self) -> Option<MemberId> {
        Some(self.raw.raft.leader_id).filter(|&id| id != 0)
    }

    fn last_proposed(&self) -> Proposed {
        Proposed { term: self.raw.raft.term, index: self.last_index() }
    }

    fn check_may_propose(&self) -> Result<(), ProposeError> {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader || raft.prs().get(self.config.id).is_none() {
            return Err(ProposeError::NotLeader { leader: self.leader().filter(|&id| id != self.config.id) });
        }
        if self.is_transferring() {
            return Err(ProposeError::Transferring);
        }
        Ok(())
    }

    /// Of somebody who is no member as far as is known here, and may be one by now.
    fn check_unknown(&self, message: &eraftpb::Message) -> Result<(), StepError> {
        let (from, term, kind) = (message.from, message.term, message.get_msg_type());
        if needs_known_sender(kind) {
            return Err(StepError::UnknownSender { from, kind: format!("{kind:?}") });
        }
        // Who has just joined knows nobody, and no term.
        let knows_others = self.membership.members().next().is_some();
        if knows_others && term.saturating_sub(self.raw.raft.term) > MISSED_ELECTIONS {
            return Err(StepError::Term { from, term });
        }
        Ok(())
    }

    /// A leader never tells a follower to commit more than that follower acknowledged as durable.
    fn check_log_not_lost(&self, message: &eraftpb::Message) -> Result<(), StepError> {
        let last_index = self.raw.raft.raft_log.last_index();
        let current = message.term >= self.raw.raft.term;
        if message.get_msg_type() == MessageType::MsgHeartbeat && current && message.commit > last_index {
            return Err(StepError::LostLog { acknowledged: message.commit, last_index });
        }
        Ok(())
    }

    /// Two things must not happen in an election, or raft panics: entries before an unapplied snapshot are looked at,
    /// and a member that decides alone becomes leader while older writes are in flight.
    fn may_campaign(&self) -> bool {
        let alone_with_writes = self.decides_alone() && !self.in_flight.is_empty();
        self.installing.is_none() && !alone_with_writes
    }

    fn decides_alone(&self) -> bool {
        self.raw.raft.promotable() && self.raw.raft.prs().is_singleton()
    }

    /// Brings raft to rest after any input: a lonely voter leads at once, and the random election timeout that raft
    /// drew is replaced before anything can look at it.
    pub(crate) fn settle(&mut self) {
        let raft = &self.raw.raft;
        let leaderless = raft.state != StateRole::Leader && raft.leader_id == 0;
        if leaderless && self.decides_alone() && self.may_campaign() {
            // Refused only while a membership change waits to be applied; then the next `applied` tries again.
            let _ = self.raw.campaign();
        }
        let voters = self.raw.raft.prs().conf().voters().ids();
        let timeout = self.config.election_timeout(self.raw.raft.term, voters.iter());
        self.raw.raft.set_randomized_election_timeout(timeout);
    }

    /// A joint state can outlive the leader that meant to leave it; raft itself only tries while it applies entries.
    fn leave_joint_state(&mut self) {
        let outlived = self.membership.is_joint() && self.membership.auto_leave;
        if outlived && self.leads() && !self.raw.raft.has_pending_conf() {
            let _ = self.raw.propose_conf_change(Vec::new(), translate::change_to_raft(&[]));
        }
    }
}

/// What raft would say on applying `change`: by then it is too late to refuse.
fn check_possible(members: &ProgressTracker, change: &ConfChangeV2) -> raft::Result<()> {
    let mut changer = Changer::new(members);
    match change.enter_joint() {
        Some(auto_leave) => changer.enter_joint(auto_leave, change.get_changes()).map(drop),
        None => changer.simple(change.get_changes()).map(drop),
    }
}

fn check(config: &Config, recovered: &Recovered) -> Result<(), StartError> {
    if config.id != recovered.id {
        return Err(StartError::OtherMember { configured: config.id, recovered: recovered.id });
    }
    let before = recovered.snapshot.as_ref().map_or(0, |snapshot| snapshot.meta.index);
    let follow = recovered.entries.iter().zip(before + 1..).all(|(entry, index)| entry.index == index);
    if !follow {
        return Err(StartError::Inconsistent(format!("the entries after index {before} have a gap")));
    }
    let (last_index, last_term) = recovered.last();
    let HardState { term, commit, .. } = recovered.hard_state;
    if commit < before || commit > last_index || term < last_term {
        let hard_state = recovered.hard_state;
        return Err(StartError::Inconsistent(format!(
            "{hard_state:?} with the log from {before} to {last_index}"
        )));
    }
    Ok(())
}

impl fmt::Debug for Consensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consensus").field("status", &self.status()).finish_non_exhaustive()
    }
}
