//! What the shell has to do next.

use crate::{Committed, Entry, HardState, Index, PeerMessage, Role, Snapshot};

/// Work for the shell. Each part may be empty, but not all of them.
///
/// The parts do not wait for each other: messages may leave at once, the write may happen on another thread while
/// the next `Ready` is fetched. Only `install` and `committed` are to be applied in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// May be sent right now, in this order; losing one is harmless.
    pub messages: Vec<PeerMessage>,
    /// Make this durable, in the order of the numbers, then call `Consensus::persisted`. Waiting for several and
    /// making them durable together is fine (group commit).
    pub persist: Option<Persist>,
    /// Replace the whole state by this snapshot, then call `Consensus::applied`. Comes before `committed`.
    pub install: Option<Snapshot>,
    /// Apply these in order, then call `Consensus::applied`.
    pub committed: Vec<Committed>,
    /// Reads that may be answered once `index` is applied.
    pub reads: Vec<Read>,
    /// The role, where it changed.
    pub role: Option<Role>,
}

/// One unit of durable writing: all of it or none of it survives a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    pub number: u64,
    /// Replaces the whole log. It must be durable before the entries and the hard state are.
    pub snapshot: Option<Snapshot>,
    /// The first of them replaces everything that the log holds from its index on.
    pub entries: Vec<Entry>,
    pub hard_state: Option<HardState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// What was given to `Consensus::read_index`.
    pub context: u64,
    pub index: Index,
}
