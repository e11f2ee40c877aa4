//! What a member says about itself.

use crate::{Index, MemberId, Membership, Term};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Follower { leader: Option<MemberId> },
    Candidate,
    Leader,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub id: MemberId,
    pub role: Role,
    pub term: Term,
    /// Who leads, as far as this member knows; itself where it leads.
    pub leader: Option<MemberId>,
    pub last_index: Index,
    /// How far the log is durable here.
    pub persisted: Index,
    pub committed: Index,
    pub applied: Index,
    pub snapshot_index: Index,
    /// A peer needs a newer snapshot than there is: take one soon, whatever the size of the log.
    pub snapshot_wanted: bool,
    /// As applied.
    pub membership: Membership,
}
