//! A server that lost its disk is another one where it was: the cluster lets it have its place.
//!
//! It has drawn another id, so the one that it was will never come back, and would count among those that vote for ever.
//! That both have one address says so; that nobody has heard the earlier one for long excludes one that is only started again
//! beside a mistake in another's configuration. Its vote goes as anybody's does: not if the others could not decide without it,
//! and only when they can (`tend`). Whoever has the certificate of a server could do no more by it than by asking for the
//! removal.

use model::{Member, MemberId, MemberPart, Timestamp};
use store::Command;

use super::MemberError;
use crate::{Codec, Manager, RequestError, proposals::Origin};

/// For so many election timeouts nobody has heard of who is gone: about as long as of a node that is lost.
pub(super) const GONE_TIMEOUTS: u32 = 20;

impl<C: Codec> Manager<C> {
    /// Removes whom this new server takes the place of, if there is anybody.
    pub(super) fn make_way(
        &mut self,
        id: MemberId,
        address: &str,
        now: Timestamp,
    ) -> Result<(), MemberError> {
        let Some(gone) = self.predecessor(id, address) else { return Ok(()) };
        self.check_can_spare(&gone)?;
        tracing::info!(gone = %gone.name, member = %gone.id, address, "a new server takes the place of one that is gone");
        let member = Member { part: MemberPart::Removed, since: now, ..gone };
        self.put_member(member, Origin::Nobody)
    }

    /// One that is known may have moved, but to nobody's place.
    fn predecessor(&self, id: MemberId, address: &str) -> Option<Member> {
        let ahead = self.ahead();
        if ahead.member(id).is_some() {
            return None;
        }
        let mut there = ahead.members().filter(|other| other.address == address);
        let other = there.find(|other| other.part != MemberPart::Removed)?;
        self.members.is_gone(other.id.0).then(|| Member::clone(other))
    }

    /// Another is where this one was: nobody is left there to be told anything.
    pub(super) fn is_followed(&self, member: &Member) -> bool {
        let mut others = self.state.members().filter(|other| other.id != member.id);
        others.any(|other| other.part != MemberPart::Removed && other.address == member.address)
    }

    pub(super) fn put_member(&mut self, member: Member, origin: Origin) -> Result<(), MemberError> {
        let proposed = self.try_and_propose(Command::PutMember { member }, origin);
        proposed.map_err(|error| match error {
            RequestError::NotLeader { leader } => MemberError::NotLeader { leader },
            _ => MemberError::Overloaded,
        })
    }
}
