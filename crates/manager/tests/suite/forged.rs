//! Messages of raft as no member would send them.

use bytes::Bytes;
use consensus::{PeerMessage, PeerMessageKind};

/// As `eraftpb.proto` of raft-rs numbers kinds of messages.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    RequestVote = 5,
    Heartbeat = 8,
}

/// With a log that is longer than anybody's, and as if the leader had asked for it.
pub(crate) fn message(from: u64, to: u64, kind: Kind, term: u64) -> PeerMessage {
    const FAR: u64 = 1 << 40;
    let mut bytes = Vec::new();
    for (field, value) in [(1, kind as u64), (2, to), (3, from), (4, term), (5, term), (6, FAR), (8, FAR)] {
        bytes.push(field << 3);
        varint(&mut bytes, value);
    }
    let context = b"CampaignTransfer";
    bytes.extend([12 << 3 | 2, context.len() as u8]);
    bytes.extend(context);
    PeerMessage { from, to, kind: PeerMessageKind::Ordinary, bytes: Bytes::from(bytes) }
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
