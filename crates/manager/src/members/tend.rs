//! One step at a time from what the members are to what they shall be.

use std::collections::BTreeMap;

use consensus::{MemberChange, Membership};
use model::{Member, MemberId, MemberPart, Timestamp};
use store::Command;

use super::MemberWaiting;
use crate::{Codec, Manager, proposals::Origin};

/// A learner that lacks no more than so many entries has caught up: what is written meanwhile, it gets with the rest.
const NEARLY: u64 = 64;

/// What can be done for the members now, and what has to wait.
#[derive(Debug, Default)]
struct Plan {
    changes: Vec<MemberChange>,
    waiting: BTreeMap<MemberId, MemberWaiting>,
    leader_leaves: bool,
}

impl<C: Codec> Manager<C> {
    /// The first server of a cluster is nobody's guest: it says itself how it is called.
    pub(super) fn introduce_itself(&mut self, now: Timestamp) {
        let Some((name, address)) = self.members.itself.clone() else { return };
        let id = self.members.id;
        let known = self.ahead().member(id).cloned();
        if known.as_ref().is_some_and(|known| known.name == name && known.address == address) {
            return;
        }
        let part = known.map_or(MemberPart::Voter, |known| known.part);
        let command = Command::PutMember { member: Member { id, name, address, part, since: now } };
        if let Err(error) = self.try_and_propose(command, Origin::Nobody) {
            tracing::debug!(%error, "this server could not introduce itself; it tries again");
        }
    }

    /// One step from what the members are to what they shall be.
    pub(super) fn tend_members(&mut self) {
        let membership = self.consensus.status().membership;
        let Plan { changes, waiting, leader_leaves } =
            if self.consensus.is_changing() { Plan::default() } else { self.plan_members(&membership) };
        if waiting != self.members.waiting {
            self.members.waiting = waiting;
            self.view_changed = true;
        }
        if !changes.is_empty() {
            if let Err(error) = self.consensus.propose_membership(&changes) {
                tracing::debug!(%error, "members could not be changed; it is tried again");
            }
        } else if leader_leaves && let Some(heir) = self.best_heir() {
            self.consensus.transfer_leadership(heir.0);
        }
    }

    fn plan_members(&self, membership: &Membership) -> Plan {
        let mut plan = Plan::default();
        let mut spared = Vec::new();
        for member in self.state.members() {
            let id = member.id.0;
            let (votes, learns) = (membership.voters.contains(&id), membership.learners.contains(&id));
            match (member.part, votes, learns) {
                (MemberPart::Voter, true, _)
                | (MemberPart::Learner, false, true)
                | (MemberPart::Removed, false, false) => {}
                (MemberPart::Voter | MemberPart::Learner, false, false) => {
                    plan.changes.push(MemberChange::AddLearner(id));
                }
                (MemberPart::Voter, false, true) => match self.catching_up(id) {
                    None => plan.changes.push(MemberChange::AddVoter(id)),
                    Some(waiting) => {
                        plan.waiting.insert(member.id, waiting);
                    }
                },
                (MemberPart::Learner | MemberPart::Removed, true, _) if member.id == self.members.id => {
                    plan.leader_leaves = true;
                    plan.waiting.insert(member.id, MemberWaiting::Handover);
                }
                (MemberPart::Learner, true, _) => spared.push((member.id, MemberChange::AddLearner(id))),
                (MemberPart::Removed, true, _) => spared.push((member.id, MemberChange::Remove(id))),
                (MemberPart::Removed, false, true) => plan.changes.push(MemberChange::Remove(id)),
            }
        }
        self.spare(membership, spared, &mut plan);
        plan
    }

    fn catching_up(&self, id: u64) -> Option<MemberWaiting> {
        if !self.members.is_there(id) {
            return Some(MemberWaiting::Word);
        }
        let behind = self.consensus.status().last_index - self.consensus.matched(id);
        (behind > NEARLY || self.consensus.matched(id) == 0).then_some(MemberWaiting::CatchingUp { behind })
    }

    /// Takes away the votes that the others can do without.
    fn spare(&self, membership: &Membership, spared: Vec<(MemberId, MemberChange)>, plan: &mut Plan) {
        let mut voters = membership.voters.clone();
        voters.extend(plan.changes.iter().filter_map(|change| match change {
            MemberChange::AddVoter(id) => Some(*id),
            MemberChange::AddLearner(_) | MemberChange::Remove(_) => None,
        }));
        for (member, change) in spared {
            let left: Vec<u64> = voters.iter().copied().filter(|id| *id != member.0).collect();
            match self.members.check_quorum(&left, |id| self.members.is_there(id)) {
                Ok(()) => {
                    voters = left;
                    plan.changes.push(change);
                }
                Err((reachable, needed)) => {
                    plan.waiting.insert(member, MemberWaiting::Quorum { reachable, needed });
                }
            }
        }
    }
}
