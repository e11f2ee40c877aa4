//! One server that is left goes on alone.

use std::path::Path;

use consensus::Recovered as OnDisk;
use model::{ClusterId, Member, MemberId, MemberPart, Timestamp};

use super::{Directory, RescueError, names_of_gone};
use crate::{
    codec::WireCodec,
    keys::Unlock,
    log::{Log, SegmentSizes},
};

/// What came of it, to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub cluster: ClusterId,
    pub member: MemberId,
    /// Log entries up to here are part of the state.
    pub last_index: u64,
    /// Of the last of them. Of two servers the one with the higher term knows what was decided, whoever has more entries.
    pub last_term: u64,
    /// Servers that are no members any more.
    pub gone: Vec<String>,
    /// Where others reach the server now, if it is one of several.
    pub address: Option<String>,
}

/// The server whose data directory this is decides alone from its next start on, reached at `address` if that is another
/// than before. It must not run; the others must never run again.
///
/// One file is written, a snapshot, and it counts once it is whole: a crash leaves what was there, or what shall be.
pub fn recover(
    dir: &Path,
    unlock: Unlock,
    address: Option<String>,
    now: Timestamp,
) -> Result<Recovered, RescueError> {
    let dir = Directory::open(dir.to_owned())?;
    let cluster = dir.of_a_server()?;
    let keys = dir.keys(cluster, unlock)?;
    let never_new = || OnDisk::joining(0);
    let opened = Log::open_on(dir.disk.clone(), SegmentSizes::default(), Some(keys.vault()), never_new);
    let opened = opened.map_err(dir.log_failed())?;
    let (last_index, last_term) = opened.recovered.last();
    let term = last_term.max(opened.recovered.hard_state.term);
    let state = manager::alone::replay(&WireCodec, &opened.recovered)?;
    let member = MemberId(opened.recovered.id);
    let itself = state.member(member).map(|known| Member {
        address: address.clone().unwrap_or_else(|| known.address.clone()),
        part: MemberPart::Voter,
        since: now,
        ..Member::clone(known)
    });
    let recovered = Recovered {
        cluster,
        member,
        last_index,
        last_term,
        gone: names_of_gone(&state, member),
        address: itself.as_ref().map(|itself| itself.address.clone()),
    };
    let snapshot = manager::alone::alone(&WireCodec, state, (last_index, term), member, itself, now);
    let written = opened.log.snapshots().write(&snapshot);
    written.map_err(|source| RescueError::Write { dir: dir.path, source })?;
    Ok(recovered)
}
