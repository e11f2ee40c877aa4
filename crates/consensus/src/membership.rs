//! Who takes part, and in which part.

use crate::MemberId;

/// The members at one point of the log.
///
/// While a joint change is under way there are two sets of voters, and every decision needs a majority of both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    pub voters: Vec<MemberId>,
    /// Receive the log but have no vote.
    pub learners: Vec<MemberId>,
    /// The voters that a joint change is leaving; empty otherwise.
    pub voters_outgoing: Vec<MemberId>,
    /// Voters of the outgoing set that become learners once it is left.
    pub learners_next: Vec<MemberId>,
    /// The leader leaves the joint state by itself.
    pub auto_leave: bool,
}

impl Membership {
    pub fn single(id: MemberId) -> Membership {
        Membership { voters: vec![id], ..Membership::default() }
    }

    pub fn of_voters(voters: impl IntoIterator<Item = MemberId>) -> Membership {
        Membership { voters: voters.into_iter().collect(), ..Membership::default() }
    }

    pub fn contains(&self, id: MemberId) -> bool {
        self.members().any(|member| member == id)
    }

    /// Everyone who receives the log. A member of both voter sets is named twice.
    pub fn members(&self) -> impl Iterator<Item = MemberId> {
        [&self.voters, &self.learners, &self.voters_outgoing, &self.learners_next]
            .into_iter()
            .flatten()
            .copied()
    }

    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// Whether `id` decides alone.
    pub fn is_only_voter(&self, id: MemberId) -> bool {
        self.voters == [id] && !self.is_joint()
    }
}

/// One step of a membership change. Several steps together make a joint change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    AddVoter(MemberId),
    AddLearner(MemberId),
    Remove(MemberId),
}
