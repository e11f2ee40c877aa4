//! What a member knows when it starts: the durable part of its state, as plain types.

use bytes::Bytes;

use crate::{Entry, Index, MemberId, Membership, Term};

/// What the log and the newest snapshot on disk say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub id: MemberId,
    pub hard_state: HardState,
    /// The state up to `snapshot.meta.index`; everything after it is in `entries`, without a gap.
    pub snapshot: Option<Snapshot>,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: Term,
    /// Whom this member voted for in `term`; 0 is nobody.
    pub vote: MemberId,
    /// A hint: at least this much is committed.
    pub commit: Index,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub meta: SnapshotMeta,
    /// The applied state in the shell's own encoding. Empty means the state before the first command.
    pub data: Bytes,
}

/// Where in the log a snapshot stands, and who the members were there. The three belong together: taken at different
/// moments, members diverge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    pub index: Index,
    pub term: Term,
    pub membership: Membership,
}

impl Recovered {
    /// A new cluster with one voter.
    pub fn bootstrap(id: MemberId) -> Recovered {
        Recovered::bootstrap_with(id, Membership::single(id))
    }

    /// A new cluster whose members all start from this same membership.
    ///
    /// It begins with a snapshot of nothing at index 1, not with an empty log: so a member that joins later, whose log
    /// is empty, always gets the membership by a snapshot.
    pub fn bootstrap_with(id: MemberId, membership: Membership) -> Recovered {
        let meta = SnapshotMeta { index: 1, term: 1, membership };
        Recovered {
            id,
            hard_state: HardState { term: 1, vote: 0, commit: 1 },
            snapshot: Some(Snapshot { meta, data: Bytes::new() }),
            entries: Vec::new(),
        }
    }

    /// A member that will be added to a running cluster: it knows nothing and waits for the leader's snapshot.
    pub fn joining(id: MemberId) -> Recovered {
        Recovered { id, hard_state: HardState::default(), snapshot: None, entries: Vec::new() }
    }

    /// The last position in the log: of the last entry, else of the snapshot.
    pub fn last(&self) -> (Index, Term) {
        match (self.entries.last(), &self.snapshot) {
            (Some(entry), _) => (entry.index, entry.term),
            (None, Some(snapshot)) => (snapshot.meta.index, snapshot.meta.term),
            (None, None) => (0, 0),
        }
    }
}
