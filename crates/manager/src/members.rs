//! Who takes part. What users want of it is part of the state; the leader brings consensus there, one change at a time,
//! and a new leader simply goes on.
//!
//! - A server begins as a learner. Who shall vote is given a vote once its log is nearly the leader's.
//! - What can be done now is one change; several at once are a joint one, so that replacing a server never costs a vote.
//! - No change leaves a cluster in which those who can be reached are no majority. That is asked twice: when a user wants
//!   it, for an answer, and when it is about to happen, because servers die in between. Then only who was heard of in the
//!   last few heartbeats counts: a vote that one who has just died is given may be what the others cannot do without.
//! - A leader that shall lose its vote hands over first: consensus would let it lead on without one.
//! - What older members would not understand is not written, and once it may be, no older one comes in: see `levels`.
//! - Who was removed is told so once the others can do without it: see `farewell`.
//! - Who is no member has no say: see `standing`.
//! - A server that lost its disk takes the place of the one that it was: see `succession`.

mod farewell;
mod levels;
mod standing;
mod succession;
mod tend;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdMap;
use model::{Level, Member, MemberId, MemberPart, Name, Timestamp};

use crate::{Codec, Effect, Manager, RequestId, proposals::Origin, reads::Answer};

pub use levels::TooNew;
pub use standing::Standing;
pub use words::{MemberError, MemberRequest, MemberWaiting};

/// So many heartbeats may go by without an answer of a peer that is counted on when votes are given or taken.
const HEARTBEATS_MISSED: u32 = 3;

#[derive(Debug)]
pub(crate) struct Members {
    id: MemberId,
    /// How this server is called and reached, where it says so itself.
    itself: Option<(Name, String)>,
    /// Whom it was told of when it joined.
    contacts: BTreeSet<u64>,
    /// For as long a peer may be silent before it counts as gone.
    patience_ticks: u32,
    /// And for as long as it is counted on when votes are given or taken.
    attention_ticks: u32,
    /// For how many ticks each peer has been silent.
    silent: BTreeMap<u64, u32>,
    /// For how many ticks all of them have been.
    lonely_ticks: u32,
    /// For so long nobody heard of whoever is gone; and for how long this server has led, and could hear them.
    gone_ticks: u32,
    leading_ticks: u32,
    /// For how many ticks no farewell was said.
    farewell_ticks: u32,
    handover: Option<Handover>,
    /// What each member knows that is heard; also this one.
    pub(crate) levels: OrdMap<MemberId, Level>,
    /// What each member's part waits for.
    pub(crate) waiting: BTreeMap<MemberId, MemberWaiting>,
    /// Why this server has no part in the cluster any more.
    pub(crate) removed: Option<String>,
    /// Who spoke last that has no part in it.
    stranger: Option<u64>,
    /// As the last view says.
    pub(crate) said_hears_leader: bool,
}

/// Somebody asked for another leader.
#[derive(Debug)]
struct Handover {
    id: RequestId,
    to: MemberId,
    ticks: u32,
}

impl Members {
    pub(crate) fn new(
        config: &consensus::Config,
        level: Level,
        itself: Option<(Name, String)>,
        contacts: BTreeSet<u64>,
    ) -> Members {
        Members {
            id: MemberId(config.id),
            itself,
            contacts,
            patience_ticks: config.election_ticks,
            attention_ticks: (config.heartbeat_ticks * HEARTBEATS_MISSED).min(config.election_ticks),
            silent: BTreeMap::new(),
            lonely_ticks: 0,
            gone_ticks: config.election_ticks * succession::GONE_TIMEOUTS,
            leading_ticks: 0,
            farewell_ticks: 0,
            handover: None,
            levels: OrdMap::unit(MemberId(config.id), level),
            waiting: BTreeMap::new(),
            removed: None,
            stranger: None,
            said_hears_leader: false,
        }
    }

    fn can_be_reached(&self, id: u64) -> bool {
        self.was_heard_within(self.patience_ticks, id)
    }

    /// So far as can be known at all: it has just answered.
    fn is_there(&self, id: u64) -> bool {
        self.was_heard_within(self.attention_ticks, id)
    }

    /// For so long that it is another's turn.
    fn is_gone(&self, id: u64) -> bool {
        self.leading_ticks > self.gone_ticks && !self.was_heard_within(self.gone_ticks, id)
    }

    fn was_heard_within(&self, ticks: u32, id: u64) -> bool {
        id == self.id.0 || self.silent.get(&id).is_some_and(|silent| *silent <= ticks)
    }

    /// Whether of these voters those who count could decide without the rest.
    fn check_quorum(&self, voters: &[u64], counts: impl Fn(u64) -> bool) -> Result<(), (usize, usize)> {
        let reachable = voters.iter().filter(|id| counts(**id)).count();
        if reachable * 2 > voters.len() { Ok(()) } else { Err((reachable, voters.len() / 2 + 1)) }
    }
}

impl<C: Codec> Manager<C> {
    pub(crate) fn members_request(&mut self, now: Timestamp, id: RequestId, request: MemberRequest) {
        let result = if self.leader.leads() {
            self.try_members_request(now, id, request)
        } else {
            Err(MemberError::NotLeader { leader: self.consensus.status().leader })
        };
        match result {
            Ok(()) => {}
            Err(refusal) if refusal.is_of_the_state() => {
                self.answer_as_leader(Answer::Members { id, refusal }, self.next_index() - 1);
            }
            Err(error) => self.effects.push(Effect::MembersReply { id, result: Err(error) }),
        }
    }

    fn try_members_request(
        &mut self,
        now: Timestamp,
        id: RequestId,
        request: MemberRequest,
    ) -> Result<(), MemberError> {
        let member = match request {
            MemberRequest::Add { id, name, address, part, level } => {
                self.check_build(&name, level)?;
                self.check_new(id, name, address, part, now)?
            }
            MemberRequest::Announce { id, name, address, level } => {
                self.check_build(&name, level)?;
                self.make_way(id, &address, now)?;
                self.check_announced(id, name, address, now)?
            }
            // Asked again after an answer that was lost. Who was removed stays so, whoever leads.
            MemberRequest::SetPart { member, part: MemberPart::Removed }
                if self.was_removed_for_good(member) =>
            {
                self.effects.push(Effect::MembersReply { id, result: Ok(()) });
                return Ok(());
            }
            MemberRequest::SetPart { member, part } => {
                let known = self.known_member(member)?;
                if part != MemberPart::Voter {
                    self.check_can_spare(&known)?;
                }
                Member { part, since: now, ..known }
            }
            MemberRequest::Transfer { to } => return self.hand_over(id, to),
        };
        self.put_member(member, Origin::Members(id))
    }

    /// Whether a server of this build can read what is written.
    fn check_build(&self, name: &Name, level: Level) -> Result<(), MemberError> {
        let in_use = self.ahead().level();
        if level < in_use { Err(MemberError::TooOld { name: name.clone(), level, in_use }) } else { Ok(()) }
    }

    fn check_new(
        &self,
        id: MemberId,
        name: Name,
        address: String,
        part: MemberPart,
        since: Timestamp,
    ) -> Result<Member, MemberError> {
        if let Some(known) = self.ahead().member(id) {
            if known.part == MemberPart::Removed {
                return Err(MemberError::WasRemoved { member: id, name: known.name.clone() });
            }
            if known.name != name || known.address != address {
                return Err(MemberError::IdTaken { member: id, by: known.name.clone() });
            }
        }
        self.check_not_anothers(id, &name, &address)?;
        Ok(Member { id, name, address, part, since })
    }

    /// A server that is known may have moved.
    fn check_announced(
        &self,
        id: MemberId,
        name: Name,
        address: String,
        now: Timestamp,
    ) -> Result<Member, MemberError> {
        let known = match self.ahead().member(id) {
            Some(_) => Some(self.known_member(id)?),
            None => None,
        };
        self.check_not_anothers(id, &name, &address)?;
        let (part, since) = known.map_or((MemberPart::Voter, now), |known| (known.part, known.since));
        Ok(Member { id, name, address, part, since })
    }

    fn check_not_anothers(&self, id: MemberId, name: &Name, address: &str) -> Result<(), MemberError> {
        let others = self.ahead().members();
        for other in others.filter(|other| other.id != id && other.part != MemberPart::Removed) {
            if other.address == address {
                return Err(MemberError::AddressTaken {
                    address: address.to_owned(),
                    by: other.name.clone(),
                });
            }
            if other.name == *name {
                return Err(MemberError::NameTaken { name: name.clone() });
            }
        }
        Ok(())
    }

    /// It is committed.
    fn was_removed_for_good(&self, member: MemberId) -> bool {
        self.state.member(member).is_some_and(|known| known.part == MemberPart::Removed)
    }

    fn known_member(&self, member: MemberId) -> Result<Member, MemberError> {
        let known = self.ahead().member(member).cloned().ok_or(MemberError::Unknown { member })?;
        match known.part {
            MemberPart::Voter | MemberPart::Learner => Ok(Member::clone(&known)),
            MemberPart::Removed => Err(MemberError::WasRemoved { member, name: known.name.clone() }),
        }
    }

    /// Whether the others can decide without this one's vote.
    fn check_can_spare(&self, member: &Member) -> Result<(), MemberError> {
        let voters = self.consensus.status().membership.voters;
        if !voters.contains(&member.id.0) {
            return Ok(());
        }
        let state = self.ahead();
        let stays = |id: &u64| {
            let shall_vote = |known: &Member| known.part == MemberPart::Voter;
            *id != member.id.0 && state.member(MemberId(*id)).is_none_or(|known| shall_vote(known))
        };
        let left: Vec<u64> = voters.into_iter().filter(stays).collect();
        let name = member.name.clone();
        if left.is_empty() {
            return Err(MemberError::LastVoter { name });
        }
        let quorum = self.members.check_quorum(&left, |id| self.members.can_be_reached(id));
        quorum.map_err(|(reachable, needed)| MemberError::WouldLoseQuorum {
            name,
            voters: left.len(),
            reachable,
            needed,
        })
    }

    fn hand_over(&mut self, id: RequestId, to: Option<MemberId>) -> Result<(), MemberError> {
        let to = match to {
            Some(to) if to == self.members.id => {
                self.effects.push(Effect::MembersReply { id, result: Ok(()) });
                return Ok(());
            }
            Some(to) => to,
            None => self.best_heir().ok_or(MemberError::NoHeir)?,
        };
        if !self.consensus.status().membership.voters.contains(&to.0) {
            return Err(MemberError::NoVoter { member: to });
        }
        if self.members.handover.is_some() {
            return Err(MemberError::HandoverUnderWay);
        }
        self.members.handover = Some(Handover { id, to, ticks: 0 });
        self.consensus.transfer_leadership(to.0);
        Ok(())
    }

    /// The voter that can be reached and has most of the log.
    fn best_heir(&self) -> Option<MemberId> {
        let status = self.consensus.status();
        let stays = |id: &u64| {
            let part = self.state.member(MemberId(*id)).map(|member| member.part);
            *id != status.id
                && part.is_none_or(|part| part == MemberPart::Voter)
                && self.members.can_be_reached(*id)
        };
        let heirs = status.membership.voters.iter().copied().filter(stays);
        heirs.max_by_key(|id| (self.consensus.matched(*id), std::cmp::Reverse(*id))).map(MemberId)
    }

    /// This server leads no more, whoever does.
    pub(crate) fn handed_over(&mut self) {
        self.members.waiting.clear();
        if let Some(Handover { id, .. }) = self.members.handover.take() {
            self.effects.push(Effect::MembersReply { id, result: Ok(()) });
        }
    }

    pub(crate) fn tick_members(&mut self, now: Timestamp) {
        self.members.silent.values_mut().for_each(|ticks| *ticks = ticks.saturating_add(1));
        self.members.lonely_ticks += 1;
        self.ask_whether_removed();
        self.view_changed |= self.hears_leader() != self.members.said_hears_leader;
        if !self.leader.leads() {
            self.members.leading_ticks = 0;
            return;
        }
        self.members.leading_ticks = self.members.leading_ticks.saturating_add(1);
        let patience = self.members.patience_ticks * 2;
        if let Some(mut handover) = self.members.handover.take() {
            handover.ticks += 1;
            let Handover { id, to, ticks } = handover;
            if ticks > patience {
                let result = Err(MemberError::NotHandedOver { to });
                self.effects.push(Effect::MembersReply { id, result });
            } else {
                // Not so late that it would go on after the answer.
                if !self.consensus.is_transferring() && ticks <= self.members.patience_ticks + 1 {
                    self.consensus.transfer_leadership(to.0);
                }
                self.members.handover = Some(handover);
            }
        }
        self.tell_removed(now);
        self.introduce_itself(now);
        self.raise_level();
        self.tend_members();
    }
}
