//! Log entries, as they are stored and as they are applied.

use bytes::Bytes;

use crate::{Index, Membership, Term};

/// One entry of the log, committed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub index: Index,
    pub term: Term,
    pub payload: Payload,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// What a new leader writes first, so that it can commit what its predecessors left.
    Empty,
    Command(Bytes),
    /// A change of the membership, in raft's own encoding.
    Membership(Bytes),
}

impl Payload {
    pub fn len(&self) -> usize {
        match self {
            Payload::Empty => 0,
            Payload::Command(data) | Payload::Membership(data) => data.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An entry that every member will apply at this index, and no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub index: Index,
    pub term: Term,
    pub entry: CommittedEntry,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommittedEntry {
    Empty,
    Command(Bytes),
    /// The membership that is in force from here on.
    Membership(Membership),
}
