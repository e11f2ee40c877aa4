//! Between this crate's plain types and raft's protobuf types: one function per type and direction.

use bytes::Bytes;
use protobuf::{Message as _, ProtobufError};
use raft::eraftpb::{
    self, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, EntryType,
    MessageType,
};

use crate::{
    Entry, HardState, MemberChange, Membership, Payload, PeerMessage, PeerMessageKind, Role, Snapshot,
    SnapshotMeta,
};

pub(crate) fn entry_to_raft(entry: &Entry) -> eraftpb::Entry {
    let mut raft = eraftpb::Entry { index: entry.index, term: entry.term, ..Default::default() };
    match &entry.payload {
        Payload::Empty => {}
        Payload::Command(data) => raft.data = data.clone(),
        Payload::Membership(data) => {
            raft.set_entry_type(EntryType::EntryConfChangeV2);
            raft.data = data.clone();
        }
    }
    raft
}

pub(crate) fn entry_from_raft(raft: &eraftpb::Entry) -> Entry {
    let payload = match raft.get_entry_type() {
        EntryType::EntryNormal if raft.data.is_empty() => Payload::Empty,
        EntryType::EntryNormal => Payload::Command(raft.data.clone()),
        EntryType::EntryConfChangeV2 => Payload::Membership(raft.data.clone()),
        EntryType::EntryConfChange => {
            unreachable!("messages with the old encoding are refused by `message::decode`")
        }
    };
    Entry { index: raft.index, term: raft.term, payload }
}

pub(crate) fn hard_state_to_raft(hard_state: HardState) -> eraftpb::HardState {
    let HardState { term, vote, commit } = hard_state;
    eraftpb::HardState { term, vote, commit, ..Default::default() }
}

pub(crate) fn hard_state_from_raft(raft: &eraftpb::HardState) -> HardState {
    HardState { term: raft.term, vote: raft.vote, commit: raft.commit }
}

pub(crate) fn membership_to_raft(membership: &Membership) -> ConfState {
    ConfState {
        voters: membership.voters.clone(),
        learners: membership.learners.clone(),
        voters_outgoing: membership.voters_outgoing.clone(),
        learners_next: membership.learners_next.clone(),
        auto_leave: membership.auto_leave,
        ..Default::default()
    }
}

/// Sorted, because raft gives the members in the order of a hash map.
pub(crate) fn membership_from_raft(raft: &ConfState) -> Membership {
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    Membership {
        voters: sorted(&raft.voters),
        learners: sorted(&raft.learners),
        voters_outgoing: sorted(&raft.voters_outgoing),
        learners_next: sorted(&raft.learners_next),
        auto_leave: raft.auto_leave,
    }
}

pub(crate) fn snapshot_to_raft(snapshot: &Snapshot) -> eraftpb::Snapshot {
    let mut raft = eraftpb::Snapshot { data: snapshot.data.clone(), ..Default::default() };
    let meta = raft.mut_metadata();
    meta.index = snapshot.meta.index;
    meta.term = snapshot.meta.term;
    meta.set_conf_state(membership_to_raft(&snapshot.meta.membership));
    raft
}

pub(crate) fn snapshot_from_raft(raft: &eraftpb::Snapshot) -> Snapshot {
    let meta = raft.get_metadata();
    let membership = membership_from_raft(meta.get_conf_state());
    Snapshot {
        meta: SnapshotMeta { index: meta.index, term: meta.term, membership },
        data: raft.data.clone(),
    }
}

pub(crate) fn role(soft_state: &raft::SoftState) -> Role {
    match soft_state.raft_state {
        raft::StateRole::Leader => Role::Leader,
        raft::StateRole::Candidate | raft::StateRole::PreCandidate => Role::Candidate,
        raft::StateRole::Follower => {
            Role::Follower { leader: (soft_state.leader_id != 0).then_some(soft_state.leader_id) }
        }
    }
}

pub(crate) fn message_from_raft(raft: &eraftpb::Message) -> Result<PeerMessage, ProtobufError> {
    let kind = match raft.get_msg_type() {
        MessageType::MsgSnapshot => PeerMessageKind::Snapshot,
        _ => PeerMessageKind::Ordinary,
    };
    Ok(PeerMessage { from: raft.from, to: raft.to, kind, bytes: Bytes::from(raft.write_to_bytes()?) })
}

/// Empty `changes` leave a joint state.
pub(crate) fn change_to_raft(changes: &[MemberChange]) -> ConfChangeV2 {
    let single = |change: &MemberChange| {
        let (kind, node_id) = match *change {
            MemberChange::AddVoter(id) => (ConfChangeType::AddNode, id),
            MemberChange::AddLearner(id) => (ConfChangeType::AddLearnerNode, id),
            MemberChange::Remove(id) => (ConfChangeType::RemoveNode, id),
        };
        ConfChangeSingle { change_type: kind, node_id, ..Default::default() }
    };
    let mut raft = ConfChangeV2::default();
    raft.set_transition(ConfChangeTransition::Auto);
    raft.set_changes(changes.iter().map(single).collect());
    raft
}

pub(crate) fn change_from_bytes(data: &Bytes) -> Result<ConfChangeV2, ProtobufError> {
    let mut change = ConfChangeV2::default();
    change.merge_from_bytes(data)?;
    Ok(change)
}
