//! What a member answers to its own shell when it does not do as asked, and why.

use crate::{Index, MemberId, Term};

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error(
        "the log belongs to member {recovered}, not to member {configured}; check which data directory is used"
    )]
    OtherMember { configured: MemberId, recovered: MemberId },
    #[error("the log recovered from disk does not follow its snapshot: {0}")]
    Inconsistent(String),
    #[error("the settings of this member are wrong: {0}")]
    Config(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The proposal is lost when another term's entry is committed at `index`.
    pub term: Term,
    pub index: Index,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("this member does not lead{}", leader_hint(*leader))]
    NotLeader { leader: Option<MemberId> },
    #[error("too much waits to be committed; try again when the log has caught up")]
    Overloaded,
    #[error("leadership is being handed over; try again at the new leader")]
    Transferring,
    #[error("the command has {bytes} bytes, at most {max} are allowed")]
    TooLarge { bytes: u64, max: u64 },
    #[error("a command cannot be empty")]
    Empty,
    #[error("another membership change is not finished yet; try again when it is")]
    ChangePending,
    #[error("the membership change is not possible: {0}")]
    Impossible(String),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Asking anyway would be dropped in silence.
    #[error("no leader is ready to serve reads yet{}", leader_hint(*leader))]
    NotReady { leader: Option<MemberId> },
}

fn leader_hint(leader: Option<MemberId>) -> String {
    leader.map(|id| format!("; member {id} does")).unwrap_or_default()
}
