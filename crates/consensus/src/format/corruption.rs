//! What can be wrong with the files, in words that say what to do.

use crate::{Index, MemberId, Term};

/// Damage that nobody may paper over: data that was acknowledged may be gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file} is damaged at byte {offset}: {damage}. Nothing was changed. Repair: in a cluster, stop this server, move \
     its data directory away and let it join again from its peers; a single server has to be restored from a backup"
)]
pub struct Corruption {
    /// The name of the file in the log's directory.
    pub file: String,
    /// In bytes from the beginning of the file.
    pub offset: u64,
    pub damage: Damage,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("it is not a file of wharf's log")]
    NotOurs,
    #[error(
        "it has format version {found}, this server reads up to {known}: it was written by a newer version"
    )]
    NewerVersion { found: u32, known: u32 },
    #[error("the header's checksum is wrong")]
    Header,
    #[error("it has {found} bytes but was made with {expected}")]
    Length { found: u64, expected: u64 },
    #[error("it is segment {found} under the name of segment {expected}")]
    Swapped { found: u64, expected: u64 },
    #[error("it belongs to member {found}, the rest belongs to member {expected}")]
    OtherMember { found: MemberId, expected: MemberId },
    #[error("the checksum of a sector that was written whole is wrong")]
    Checksum,
    #[error("write group {missing} is incomplete but group {found} after it is there")]
    LostGroup { missing: u64, found: u64 },
    #[error("write group {missing} is incomplete although the next segment was begun")]
    Unfinished { missing: u64 },
    #[error("there is something after the end of the segment")]
    AfterSeal,
    #[error("segment {missing} is missing")]
    MissingSegment { missing: u64 },
    #[error("there is a snapshot but no log at all")]
    MissingLog,
    #[error("it begins after index {begins_after}, but {}", snapshot_words(*snapshot))]
    MissingSnapshot { begins_after: Index, snapshot: Option<Index> },
    #[error("it does not fit the log: one says {found}, the other {expected}")]
    Discontinuous { found: super::Position, expected: super::Position },
    #[error("entry {index} follows {last}: entries are missing")]
    Gap { index: Index, last: Index },
    #[error("entry {index} replaces one that was committed (up to {commit})")]
    ReplacesCommitted { index: Index, commit: Index },
    #[error(
        "entry {index} has term {term}, lower than the entry before it or higher than the member's own term"
    )]
    Term { index: Index, term: Term },
    #[error("a record in it makes no sense ({0})")]
    Record(&'static str),
    #[error("the snapshot's checksum is wrong")]
    SnapshotChecksum,
    #[error("it cannot be decrypted: {0}")]
    Encrypted(String),
    #[error("write group {group} is not encrypted, as all of the segment has to be")]
    NotEncrypted { group: u64 },
}

fn snapshot_words(snapshot: Option<Index>) -> String {
    match snapshot {
        None => "the snapshot that covers what came before is missing".to_owned(),
        Some(index) => format!("the newest snapshot reaches only to {index}"),
    }
}

impl Corruption {
    pub(crate) fn new(file: impl Into<String>, offset: u64, damage: Damage) -> Corruption {
        Corruption { file: file.into(), offset, damage }
    }
}
