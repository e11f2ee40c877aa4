//! A server as a member of the cluster's consensus: what it is called, where it is, and what it shall be.
//!
//! What is stored here is the wish. Who votes right now is what consensus says; the leader brings the two together.

use crate::{MemberId, Name, Timestamp};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: MemberId,
    pub name: Name,
    /// Where other servers reach it: host and port.
    pub address: String,
    pub part: MemberPart,
    /// Since when it shall have this part.
    pub since: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberPart {
    /// Has a vote, once it has caught up.
    Voter,
    /// Receives the log, and has no vote.
    Learner,
    /// Was removed. Kept, so that it can be told, and so that its id is never used again.
    Removed,
}
