//! Snapshot files: a header, then the state's bytes.
//!
//! | bytes | |
//! |---|---|
//! | 0..8 | magic `wharfsnp` |
//! | 8..12 | format version |
//! | 12..44 | member, index, term, length of the data, each u64 |
//! | then | voters, learners, outgoing voters, next learners: a count u32 and that many u64, each; auto-leave u8 |
//! | then | CRC-32 of the data, CRC-32 of everything above |
//! | then | the data |
//!
//! A snapshot file gets its name only when it is whole and durable, so a torn one does not exist: every fault is damage.

use bytes::Bytes;

use super::{
    FORMAT_VERSION,
    corruption::{Corruption, Damage},
    record::{number, take},
    segment::hex_number,
};
use crate::{Index, MemberId, Membership, Snapshot, SnapshotMeta};

const MAGIC: [u8; 8] = *b"wharfsnp";
const SUFFIX: &str = ".snapshot";

pub fn snapshot_name(index: Index) -> String {
    format!("{index:016x}{SUFFIX}")
}

/// The reverse of [`snapshot_name`]; `None` for a file that is no snapshot.
pub fn snapshot_index(name: &str) -> Option<Index> {
    hex_number(name, SUFFIX)
}

/// What the file begins with; the data follows as it is.
pub fn encode_snapshot_header(member: MemberId, snapshot: &Snapshot) -> Vec<u8> {
    let SnapshotMeta { index, term, membership } = &snapshot.meta;
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    for number in [member, *index, *term, snapshot.data.len() as u64] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for ids in
        [&membership.voters, &membership.learners, &membership.voters_outgoing, &membership.learners_next]
    {
        out.extend_from_slice(&(ids.len() as u32).to_le_bytes());
        ids.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
    }
    out.push(u8::from(membership.auto_leave));
    out.extend_from_slice(&crc32fast::hash(&snapshot.data).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    out
}

/// Reads the file that is named for `expected`, and checks that it is that and whole.
pub fn decode_snapshot(expected: Index, file: &Bytes) -> Result<(MemberId, Snapshot), Corruption> {
    let damaged = |damage| Corruption::new(snapshot_name(expected), 0, damage);
    let mut rest: &[u8] = file;
    if take(&mut rest) != Some(MAGIC) {
        return Err(damaged(Damage::NotOurs));
    }
    let version = take(&mut rest).map(u32::from_le_bytes).ok_or(damaged(Damage::Header))?;
    let header = read_header(&mut rest, file).ok_or(damaged(Damage::Header))?;
    if version != FORMAT_VERSION {
        return Err(damaged(Damage::NewerVersion { found: version, known: FORMAT_VERSION }));
    }
    if header.meta.index != expected {
        return Err(damaged(Damage::Swapped { found: header.meta.index, expected }));
    }
    let data_at = file.len() - rest.len();
    if rest.len() as u64 != header.data_bytes {
        let (found, expected) = (file.len() as u64, data_at as u64 + header.data_bytes);
        return Err(damaged(Damage::Length { found, expected }));
    }
    if crc32fast::hash(rest) != header.data_crc {
        return Err(Corruption::new(snapshot_name(expected), data_at as u64, Damage::SnapshotChecksum));
    }
    Ok((header.member, Snapshot { meta: header.meta, data: file.slice(data_at..) }))
}

struct Header {
    member: MemberId,
    meta: SnapshotMeta,
    data_bytes: u64,
    data_crc: u32,
}

/// `None` for a header that is cut short or whose checksum is wrong.
fn read_header(rest: &mut &[u8], file: &[u8]) -> Option<Header> {
    let (member, index, term, data_bytes) = (number(rest)?, number(rest)?, number(rest)?, number(rest)?);
    let membership = Membership {
        voters: ids(rest)?,
        learners: ids(rest)?,
        voters_outgoing: ids(rest)?,
        learners_next: ids(rest)?,
        auto_leave: take::<1>(rest)? != [0],
    };
    let data_crc = u32::from_le_bytes(take(rest)?);
    let checked = &file[..file.len() - rest.len()];
    let header_crc = u32::from_le_bytes(take(rest)?);
    let header = Header { member, meta: SnapshotMeta { index, term, membership }, data_bytes, data_crc };
    (crc32fast::hash(checked) == header_crc).then_some(header)
}

fn ids(rest: &mut &[u8]) -> Option<Vec<MemberId>> {
    let count = u32::from_le_bytes(take(rest)?) as usize;
    // Not `with_capacity`: the count is not trusted yet.
    (0..count).map(|_| number(rest)).collect()
}
