//! A backup becomes the data directory of a cluster of one server.

use std::path::{Path, PathBuf};

use consensus::{HardState, Recovered as OnDisk};
use manager::{Codec as _, TooNew};
use model::{
    ClusterId, ClusterTrust, HostRole, Level, Member, MemberId, MemberPart, Name, NodeId, Timestamp,
};
use trust::{authority::Authority, bundle::Trust, folder::IdentityFolder, identity::Identity, validity};

use super::{Directory, IdentityError, RescueError, backup::Backup, names_of_gone};
use crate::{
    codec::WireCodec,
    keys::Unlock,
    log::{Log, SegmentSizes},
    random,
};

/// So many log entries may the lost servers have written after the backup, and no version that they gave out is given out
/// again.
const ROOM: u64 = 1_000_000_000;

/// How the new server takes part, where the cluster was one that others can join.
#[derive(Clone, Debug)]
pub struct Itself {
    pub name: Name,
    /// Where others reach it.
    pub address: String,
    /// Gets its key and its certificate.
    pub trust_dir: PathBuf,
}

/// What came of it, to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub cluster: ClusterId,
    pub member: MemberId,
    pub services: usize,
    /// Whether others can join; then the new server has a certificate of the same authority as all before it.
    pub takes_others: bool,
    /// Servers of the cluster that was backed up.
    pub gone: Vec<String>,
}

/// `dir` has no log yet, and becomes the data directory of a new server. Cut off anywhere, this can be done again.
pub fn restore(
    dir: &Path,
    unlock: Unlock,
    backup: &Backup,
    itself: Itself,
    now: Timestamp,
) -> Result<Restored, RescueError> {
    let state = WireCodec.decode_snapshot(&backup.state)?;
    TooNew::check(state.level(), Level::NEWEST)?;
    let dir = Directory::open(dir.to_owned())?;
    if dir.has_log()? {
        return Err(RescueError::Taken(dir.path));
    }
    let (found, expected) = (dir.cluster(backup.cluster)?, backup.cluster);
    if found != expected {
        return Err(RescueError::OtherCluster { dir: dir.path, found, expected });
    }
    let keys = dir.keys(backup.cluster, unlock)?;
    let (member, itself) = match state.trust() {
        None => (MemberId(random().map_err(RescueError::Random)? | 1), None),
        Some(trust) => {
            let member = identify(&itself.trust_dir, trust, backup.cluster, now)?;
            let Itself { name, address, .. } = itself;
            (member, Some(Member { id: member, name, address, part: MemberPart::Voter, since: now }))
        }
    };
    let restored = Restored {
        cluster: backup.cluster,
        member,
        services: state.services().count(),
        takes_others: itself.is_some(),
        gone: names_of_gone(&state, member),
    };
    let last = state.version().0 + ROOM;
    let snapshot = manager::alone::alone(&WireCodec, state, (last, 1), member, itself, now);
    let hard_state = HardState { term: snapshot.meta.term, vote: 0, commit: snapshot.meta.index };
    let new = || OnDisk { id: member.0, hard_state, snapshot: Some(snapshot), entries: Vec::new() };
    Log::open_on(dir.disk.clone(), SegmentSizes::default(), Some(keys.vault()), new)
        .map_err(dir.log_failed())?;
    Ok(restored)
}

/// The authority in the backup signs for the new server; what an earlier attempt got is as good.
fn identify(
    trust_dir: &Path,
    trust: &ClusterTrust,
    cluster: ClusterId,
    now: Timestamp,
) -> Result<MemberId, IdentityError> {
    let folder = IdentityFolder::open(trust_dir)?;
    if let Some(stored) = folder.load()? {
        let known = stored.credentials.identity();
        return match known.cluster == cluster && known.role == HostRole::Server {
            true => Ok(MemberId(known.node.0)),
            false => Err(IdentityError::Other { dir: trust_dir.to_owned(), known }),
        };
    }
    let node = NodeId(random().map_err(IdentityError::Random)? | 1);
    let identity = Identity { cluster, role: HostRole::Server, node };
    let authority = Authority::decode(&trust.authority.0)?;
    folder.believe(&Trust::from_pem(&trust.bundle)?)?;
    let request = folder.next_key()?.request()?;
    folder.install(authority.sign(&request, identity, now, validity::NODE_LIFETIME)?)?;
    Ok(MemberId(node.0))
}
