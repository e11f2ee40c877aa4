//! What members say to each other, and what a member refuses to hear.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{EntryType, Message, MessageType};

use crate::{Index, MemberId};

/// A message between members. The transport proves `from`; what is inside is this crate's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMessage {
    pub from: MemberId,
    pub to: MemberId,
    pub kind: PeerMessageKind,
    pub bytes: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerMessageKind {
    Ordinary,
    /// Carries a whole snapshot: give it its own stream, and call `report_snapshot` with how it went.
    Snapshot,
    /// From a member that has heard nothing for long: was it removed? Carries nothing; where another hands the question on,
    /// the id of who asks, in eight bytes, the least significant first.
    Asks,
    /// To one that was removed: it may never hear of it otherwise. Carries nothing.
    Removed,
}

/// How the sending of a snapshot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Arrived,
    Failed,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error("a message from member {from} cannot be decoded; both servers must run compatible versions")]
    Undecodable { from: MemberId },
    #[error(
        "a message sent by member {from} to member {to} says that it is from {claimed_from} to {claimed_to}"
    )]
    Misaddressed { from: MemberId, to: MemberId, claimed_from: MemberId, claimed_to: MemberId },
    #[error("member {from} sent a message of a kind that never leaves a member ({kind})")]
    NotForPeers { from: MemberId, kind: String },
    #[error("member {from} sent a {kind} message but is not a member here")]
    UnknownSender { from: MemberId, kind: String },
    #[error("member {from} speaks of term {term}, which no cluster can have come to")]
    Term { from: MemberId, term: u64 },
    #[error("member {from} sent entries that do not follow each other")]
    BrokenEntries { from: MemberId },
    /// Going on would panic inside raft, and voting would be unsafe.
    #[error(
        "this member once acknowledged the log up to {acknowledged} but has it only up to {last_index}: its disk lost \
         data. Stop it, move its data directory away and let it join again as a new member"
    )]
    LostLog { acknowledged: Index, last_index: Index },
}

/// Terms grow by one with each election: a higher one is a lie, and near the end of the numbers raft panics on it.
const MAX_TERM: u64 = 1 << 62;

/// So many elections a member may have missed that hears somebody whom it does not know: one a second, for twelve days. Who
/// has a certificate and no part in the cluster cannot bring a member to the end of the numbers.
pub(crate) const MISSED_ELECTIONS: u64 = 1 << 20;

/// Decodes a message and checks everything about it that does not depend on this member's state.
pub(crate) fn decode(id: MemberId, message: &PeerMessage) -> Result<Message, StepError> {
    let from = message.from;
    let mut raft = Message::default();
    raft.merge_from_bytes(&message.bytes).map_err(|_| StepError::Undecodable { from })?;
    if raft.from != from || raft.to != id {
        let (claimed_from, claimed_to) = (raft.from, raft.to);
        return Err(StepError::Misaddressed { from, to: id, claimed_from, claimed_to });
    }
    if !is_for_peers(raft.get_msg_type()) {
        return Err(StepError::NotForPeers { from, kind: format!("{:?}", raft.get_msg_type()) });
    }
    if raft.term > MAX_TERM {
        return Err(StepError::Term { from, term: raft.term });
    }
    if raft.get_msg_type() == MessageType::MsgAppend && !entries_follow(&raft) {
        return Err(StepError::BrokenEntries { from });
    }
    Ok(raft)
}

/// Proposals are made on the leader only, and by its own shell; the rest is raft talking to itself.
fn is_for_peers(kind: MessageType) -> bool {
    use MessageType::*;
    match kind {
        MsgAppend | MsgAppendResponse | MsgSnapshot | MsgHeartbeat | MsgHeartbeatResponse | MsgTimeoutNow => {
            true
        }
        MsgRequestVote | MsgRequestVoteResponse | MsgRequestPreVote | MsgRequestPreVoteResponse => true,
        MsgReadIndex | MsgReadIndexResp => true,
        MsgHup | MsgBeat | MsgPropose | MsgUnreachable | MsgSnapStatus | MsgCheckQuorum
        | MsgTransferLeader => false,
    }
}

/// Which kinds only a known member may send. A leader or candidate may be unknown to a member that lags behind the
/// membership change that added it; who asks or answers on its own account may not.
pub(crate) fn needs_known_sender(kind: MessageType) -> bool {
    use MessageType::*;
    match kind {
        MsgAppend | MsgSnapshot | MsgHeartbeat | MsgRequestVote | MsgRequestPreVote | MsgReadIndexResp => {
            false
        }
        MsgAppendResponse | MsgHeartbeatResponse | MsgRequestVoteResponse | MsgRequestPreVoteResponse => true,
        MsgTimeoutNow | MsgReadIndex => true,
        MsgHup | MsgBeat | MsgPropose | MsgUnreachable | MsgSnapStatus | MsgCheckQuorum
        | MsgTransferLeader => true,
    }
}

fn entries_follow(message: &Message) -> bool {
    // The old single-change encoding is never proposed here, and the log format has no room for it.
    let known = |kind| matches!(kind, EntryType::EntryNormal | EntryType::EntryConfChangeV2);
    (message.index + 1..)
        .zip(message.get_entries())
        .all(|(index, e)| e.index == index && known(e.get_entry_type()))
}
