//! Proposing: commands that are on their way through the log, and the state as they will leave it.
//!
//! Only the leader proposes, and the log keeps its order. So what a command will do is known before it is proposed: it is
//! tried out on the state that all commands before it leave (a copy of a state costs nothing). A command that would
//! be rejected is never proposed, nor one that a member of an older build would not understand, and when one is committed, the state that was tried out becomes the state.

use std::collections::BTreeMap;

use consensus::{ProposeError, Proposed};
use model::{ServiceKey, Version};
use store::{Changes, Command, Outcome, State};

use crate::{Codec, Effect, Manager, MemberError, Reply, RequestError, RequestId};

/// Commands on their way, by log index. The entry that is committed there may be another leader's.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    by_index: BTreeMap<u64, Proposal>,
    /// The sum of the encoded commands.
    bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) term: u64,
    pub(crate) origin: Origin,
    pub(crate) before: Version,
    pub(crate) after: State,
    pub(crate) changes: Changes,
    bytes: u64,
}

/// Who waits for a command.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A user, for this answer.
    User {
        id: RequestId,
        reply: Reply,
    },
    /// A user who wants other members.
    Members(RequestId),
    /// The reconcile loop, before it looks at the service again.
    Plan(ServiceKey),
    /// The reconcile loop, before it places anything else.
    Placement,
    Nobody,
}

/// A command and what it does.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) before: State,
    pub(crate) after: State,
    pub(crate) outcome: Outcome,
    changes: Changes,
    bytes: Vec<u8>,
}

/// What consensus takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) command_bytes: u64,
    pub(crate) uncommitted_bytes: u64,
}

impl Proposals {
    fn insert(&mut self, index: u64, proposal: Proposal) {
        self.bytes += proposal.bytes;
        self.by_index.insert(index, proposal);
    }

    pub(crate) fn remove(&mut self, index: u64) -> Option<Proposal> {
        let proposal = self.by_index.remove(&index)?;
        self.bytes -= proposal.bytes;
        Some(proposal)
    }

    /// Takes out all of them, in the order of the log.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Proposal> + use<> {
        self.bytes = 0;
        std::mem::take(&mut self.by_index).into_values()
    }
}

impl<C: Codec> Manager<C> {
    /// The state once everything that was proposed is applied.
    pub(crate) fn ahead(&self) -> &State {
        self.proposals.by_index.values().next_back().map_or(&self.state, |last| &last.after)
    }

    /// What the commands will do, one after the other. One that would be rejected rejects all.
    pub(crate) fn try_out(&self, commands: Vec<Command>) -> Result<Vec<Tried>, RequestError> {
        let mut tried: Vec<Tried> = Vec::with_capacity(commands.len());
        let mut rejected = Vec::new();
        let mut state = self.ahead().clone();
        for (index, command) in (self.next_index()..).zip(commands) {
            self.check_level(self.codec.needs(&command), state.level())?;
            let bytes = self.codec.encode_command(&command);
            let before = state.clone();
            match state.apply(Version(index), command) {
                Ok((outcome, changes)) => {
                    tried.push(Tried { before, after: state.clone(), outcome, changes, bytes });
                }
                Err(reason) => rejected.push(reason),
            }
        }
        if rejected.is_empty() { Ok(tried) } else { Err(RequestError::Rejected(rejected)) }
    }

    /// Proposes what was just tried out: all of it or none. The last command answers for all.
    pub(crate) fn propose(&mut self, tried: Vec<Tried>, origin: Origin) -> Result<(), RequestError> {
        self.check_room(&tried)?;
        let (mut origin, count) = (Some(origin), tried.len());
        for (number, one) in (1..).zip(tried) {
            let (index, bytes) = (self.next_index(), one.bytes.len() as u64);
            let Proposed { term, index: proposed_at } = match self.consensus.propose(one.bytes) {
                Ok(proposed) => proposed,
                Err(error) => {
                    assert!(number == 1, "what the first command may, the others may: {error}");
                    return Err(refused(error));
                }
            };
            assert_eq!(proposed_at, index, "the index that the command was tried out with");
            let origin = origin.take_if(|_| number == count).unwrap_or(Origin::Nobody);
            let Tried { before, after, changes, .. } = one;
            let before = before.version();
            self.proposals.insert(index, Proposal { term, origin, before, after, changes, bytes });
        }
        Ok(())
    }

    /// For one command that nobody asked for.
    pub(crate) fn try_and_propose(&mut self, command: Command, origin: Origin) -> Result<(), RequestError> {
        self.propose(self.try_out(vec![command])?, origin)
    }

    pub(crate) fn next_index(&self) -> u64 {
        self.consensus.last_index() + 1
    }

    /// Whether consensus could ever take this. For requests, which may be of any size and of several commands.
    pub(crate) fn check_size(&self, tried: &[Tried]) -> Result<(), RequestError> {
        let Limits { command_bytes, uncommitted_bytes } = self.limits;
        if let Some(large) = tried.iter().find(|one| one.bytes.len() as u64 > command_bytes) {
            let (bytes, max) = (large.bytes.len() as u64, command_bytes);
            return Err(match large.changes.services.first().cloned() {
                Some(service) => RequestError::ServiceTooLarge { service, bytes, max },
                None => RequestError::TooLarge { bytes, max },
            });
        }
        let (bytes, max) = (total_bytes(tried), uncommitted_bytes);
        if bytes > max { Err(RequestError::TooLarge { bytes, max }) } else { Ok(()) }
    }

    /// Whether consensus takes all of it now: it would refuse in the middle, and half of a request is none.
    fn check_room(&self, tried: &[Tried]) -> Result<(), RequestError> {
        let is_room = self.proposals.bytes + total_bytes(tried) <= self.limits.uncommitted_bytes;
        if is_room { Ok(()) } else { Err(RequestError::Overloaded) }
    }

    /// The command is part of the state.
    pub(crate) fn done(&mut self, origin: Origin) {
        match origin {
            Origin::User { id, reply } => self.effects.push(Effect::Reply { id, result: Ok(reply) }),
            Origin::Members(id) => self.effects.push(Effect::MembersReply { id, result: Ok(()) }),
            Origin::Plan(service) => self.plan_ended(service),
            Origin::Placement => self.placing_ended(),
            Origin::Nobody => {}
        }
    }

    /// The command may still be committed, but not under this leader, and nobody will know. What the reconcile loop
    /// meant is for the next leader to think of.
    pub(crate) fn lost(&mut self, origin: Origin) {
        match origin {
            Origin::User { id, .. } => {
                self.effects.push(Effect::Reply { id, result: Err(RequestError::LeadershipLost) });
            }
            Origin::Members(id) => {
                self.effects.push(Effect::MembersReply { id, result: Err(MemberError::LeadershipLost) });
            }
            Origin::Plan(_) | Origin::Placement | Origin::Nobody => {}
        }
    }
}

fn refused(error: ProposeError) -> RequestError {
    match error {
        ProposeError::NotLeader { leader } => RequestError::NotLeader { leader },
        ProposeError::TooLarge { bytes, max } => RequestError::TooLarge { bytes, max },
        ProposeError::Overloaded
        | ProposeError::Transferring
        | ProposeError::Empty
        | ProposeError::ChangePending
        | ProposeError::Impossible(_) => {
            tracing::debug!(%error, "a proposal was refused");
            RequestError::Overloaded
        }
    }
}

fn total_bytes(tried: &[Tried]) -> u64 {
    tried.iter().map(|one| one.bytes.len() as u64).sum()
}
