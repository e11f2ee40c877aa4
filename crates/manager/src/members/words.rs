//! What users say of members, and what they are told.

use model::{Level, MemberId, MemberPart, Name};

/// What a user wants of the servers. Answered once it is written down; how far it is, the view says.
#[derive(Clone, Debug)]
pub enum MemberRequest {
    /// A server with an empty data directory, which has drawn this id for it, and whose build knows this level.
    Add { id: MemberId, name: Name, address: String, part: MemberPart, level: Level },
    /// By the server itself, which its certificate names: that it is there, and where, and what it knows. A new one is to vote.
    Announce { id: MemberId, name: Name, address: String, level: Level },
    /// Promotes, demotes or removes it.
    SetPart { member: MemberId, part: MemberPart },
    /// Answered once this server does not lead any more. Without a name the one with most of the log takes over.
    Transfer { to: Option<MemberId> },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    #[error("this server does not lead the cluster")]
    NotLeader { leader: Option<u64> },
    #[error("there is no server {member}; `wharf cluster members` lists them")]
    Unknown { member: MemberId },
    #[error(
        "server {name} ({member}) was removed from the cluster; to come back it joins again with an empty data \
         directory, as a new member"
    )]
    WasRemoved { member: MemberId, name: Name },
    #[error("id {member} is that of server {by}; each data directory has its own")]
    IdTaken { member: MemberId, by: Name },
    #[error("there is a server {name} already; choose another name, or remove that one first")]
    NameTaken { name: Name },
    #[error(
        "server {by} has the address {address}; each server has its own. If that one has lost its disk, this one takes its \
         place once nobody has heard of it for a while"
    )]
    AddressTaken { address: String, by: Name },
    #[error(
        "server {name} knows {level}, and the servers of this cluster use {in_use} already: put their build there, or a \
         newer one"
    )]
    TooOld { name: Name, level: Level, in_use: Level },
    #[error("server {name} is the last one that votes; promote another first")]
    LastVoter { name: Name },
    #[error(
        "without server {name} there would be {voters} that vote, of which {reachable} can be reached and {needed} are \
         needed: the cluster would stand still. Bring the others back, or add one, first"
    )]
    WouldLoseQuorum { name: Name, voters: usize, reachable: usize, needed: usize },
    #[error("server {member} has no vote, so it cannot lead; promote it first")]
    NoVoter { member: MemberId },
    #[error("no other server that votes can be reached")]
    NoHeir,
    #[error("leadership is being handed over already")]
    HandoverUnderWay,
    #[error("server {to} did not take over in time; this one leads on")]
    NotHandedOver { to: MemberId },
    #[error("leadership changed meanwhile; whether this was written is not known: look, then try again")]
    LeadershipLost,
    #[error("too much is being written; try again shortly")]
    Overloaded,
}

impl MemberError {
    /// Whether this says who the members are, so that another leader could say otherwise.
    pub(crate) fn is_of_the_state(&self) -> bool {
        match self {
            MemberError::Unknown { .. }
            | MemberError::WasRemoved { .. }
            | MemberError::IdTaken { .. }
            | MemberError::NameTaken { .. }
            | MemberError::AddressTaken { .. }
            | MemberError::TooOld { .. }
            | MemberError::LastVoter { .. }
            | MemberError::WouldLoseQuorum { .. }
            | MemberError::NoVoter { .. } => true,
            MemberError::NotLeader { .. }
            | MemberError::NoHeir
            | MemberError::HandoverUnderWay
            | MemberError::NotHandedOver { .. }
            | MemberError::LeadershipLost
            | MemberError::Overloaded => false,
        }
    }
}

/// Why a member does not have the part yet that it shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberWaiting {
    #[error("it has not been heard of for a while")]
    Word,
    #[error("it lacks {behind} entries of the log")]
    CatchingUp { behind: u64 },
    #[error("it leads, and hands over first")]
    Handover,
    #[error("of those left {reachable} can be reached and {needed} are needed")]
    Quorum { reachable: usize, needed: usize },
}
