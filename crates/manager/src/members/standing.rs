//! Who may speak as a server, beside having the certificate of one. Asked of the manager for each message, and of the last
//! view (`View::may_speak`) before a snapshot is read.
//!
//! - Members may.
//! - Who was removed may not: it is told so, see `farewell`.
//! - Of anybody else this server does not know whether it is a member. Raft wants such a one heard, because a server that
//!   was away may have missed the change that made a member of whoever leads by now, or of whoever needs its vote, and
//!   nobody whom it knows may be left to ask. But as long as a leader is heard that is known, or this server leads itself,
//!   it does not lag behind in that way: what it misses is on its way. So an unknown one is heard only by a server that
//!   hears no leader it knows. Where leadership went to an unknown one that is a second later at most.
//!
//! So whoever has a certificate and no part in the cluster cannot depose a leader, raise its term or fill the memory of a
//! server that follows one. What it can do to a server without a leader is little: see `consensus` (`message.rs`) for how far
//! it is believed there. A certificate that was never used can become a member by announcing itself, so nothing is given
//! away to it that it could not have.

use consensus::Membership;
use model::{MemberId, MemberPart};
use store::State;

use crate::{Codec, Manager, View};

/// What a server is to this one, as far as this one knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Also while its removal is under way.
    Member,
    Unknown,
    Removed,
}

impl View {
    pub fn standing(&self, id: u64) -> Standing {
        standing(&self.state, &self.membership, id)
    }

    pub fn may_speak(&self, id: u64) -> bool {
        may_speak(self.standing(id), self.hears_leader)
    }
}

fn standing(state: &State, membership: &Membership, id: u64) -> Standing {
    let part = state.member(MemberId(id)).map(|member| member.part);
    match part {
        _ if membership.contains(id) => Standing::Member,
        Some(MemberPart::Voter | MemberPart::Learner) => Standing::Member,
        Some(MemberPart::Removed) => Standing::Removed,
        None => Standing::Unknown,
    }
}

/// Whether what it says counts.
fn may_speak(standing: Standing, hears_leader: bool) -> bool {
    match standing {
        Standing::Member => true,
        Standing::Removed => false,
        Standing::Unknown => !hears_leader,
    }
}

impl<C: Codec> Manager<C> {
    pub(crate) fn standing(&self, id: u64) -> Standing {
        standing(&self.state, self.consensus.membership(), id)
    }

    pub(super) fn may_speak(&self, id: u64) -> bool {
        may_speak(self.standing(id), self.hears_leader())
    }

    /// One that it knows, which may be itself.
    pub(crate) fn hears_leader(&self) -> bool {
        let leader = self.consensus.status().leader;
        self.leader.leads()
            || leader.is_some_and(|leader| {
                self.standing(leader) == Standing::Member && self.members.can_be_reached(leader)
            })
    }
}
