//! A backup becomes the data directory of a cluster of one server.

use std::path::Path;

use consensus::{HardState, Recovered as OnDisk};
use manager::Codec as _;
use model::{ClusterId, Member, MemberId, MemberPart, Name, Timestamp};

use super::{Directory, RescueError, backup::Backup, names_of_gone};
use crate::{
    codec::WireCodec,
    keys::Unlock,
    log::{Log, SegmentSizes},
};

/// So many log entries may the lost servers have written after the backup, and no version that they gave out is given out
/// again.
const ROOM: u64 = 1_000_000_000;

/// What came of it, to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub cluster: ClusterId,
    pub member: MemberId,
    pub services: usize,
    /// Servers of the cluster that was backed up.
    pub gone: Vec<String>,
}

/// `dir` is empty or not there, and becomes the data directory of server `member`, called and reached as `itself` says
/// where it is to be one of several. Until the log is whole, it is as if nothing had been restored.
pub fn restore(
    dir: &Path,
    unlock: Unlock,
    backup: &Backup,
    member: MemberId,
    itself: Option<(Name, String)>,
    now: Timestamp,
) -> Result<Restored, RescueError> {
    let state = WireCodec.decode_snapshot(&backup.state)?;
    let dir = Directory::open(dir.to_owned())?;
    if dir.has_log()? {
        return Err(RescueError::Taken(dir.path));
    }
    let (found, expected) = (dir.cluster(backup.cluster)?, backup.cluster);
    if found != expected {
        return Err(RescueError::OtherCluster { dir: dir.path, found, expected });
    }
    let keys = dir.keys(backup.cluster, unlock)?;
    let restored = Restored {
        cluster: backup.cluster,
        member,
        services: state.services().count(),
        gone: names_of_gone(&state, member),
    };
    let itself = itself.map(|(name, address)| {
        let part = MemberPart::Voter;
        Member { id: member, name, address, part, since: now }
    });
    let last = state.version().0 + ROOM;
    let snapshot = manager::alone::alone(&WireCodec, state, (last, 1), member, itself, now);
    let hard_state = HardState { term: snapshot.meta.term, vote: 0, commit: snapshot.meta.index };
    let new = || OnDisk { id: member.0, hard_state, snapshot: Some(snapshot), entries: Vec::new() };
    Log::open_on(dir.disk.clone(), SegmentSizes::default(), Some(keys.vault()), new)
        .map_err(dir.log_failed())?;
    Ok(restored)
}
