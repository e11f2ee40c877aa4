//! Snapshot files: a header, then the state's bytes.
//!
//! | bytes | |
//! |---|---|
//! | 0..8 | magic `wharfsnp` |
//! | 8..12 | format version |
//! | 12..44 | member, index, term, length of the data, each u64 |
//! | then | where the version is 2: the key that the data is encrypted with, u64 |
//! | then | voters, learners, outgoing voters, next learners: a count u32 and that many u64, each; auto-leave u8 |
//! | then | CRC-32 of the data as it follows, CRC-32 of everything above |
//! | then | the data, encrypted or not |
//!
//! A snapshot file gets its name only when it is whole and durable, so a torn one does not exist: every fault is damage.

use bytes::Bytes;

use super::{
    ENCRYPTED_VERSION, FORMAT_VERSION, PLAIN_VERSION,
    corruption::{Corruption, Damage},
    encrypted::{DataKey, Decrypt, EncryptedAt, key_number, key_of_number},
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

/// What the file begins with. `data` follows as it is: the snapshot's own, or encrypted with this key.
pub fn encode_snapshot_header(
    member: MemberId,
    meta: &SnapshotMeta,
    encrypted_with: Option<DataKey>,
    data: &[u8],
) -> Vec<u8> {
    let SnapshotMeta { index, term, membership } = meta;
    let mut out = MAGIC.to_vec();
    let version = if encrypted_with.is_some() { ENCRYPTED_VERSION } else { PLAIN_VERSION };
    out.extend_from_slice(&version.to_le_bytes());
    for number in [member, *index, *term, data.len() as u64] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    if encrypted_with.is_some() {
        out.extend_from_slice(&key_number(encrypted_with).to_le_bytes());
    }
    for ids in
        [&membership.voters, &membership.learners, &membership.voters_outgoing, &membership.learners_next]
    {
        out.extend_from_slice(&(ids.len() as u32).to_le_bytes());
        ids.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
    }
    out.push(u8::from(membership.auto_leave));
    out.extend_from_slice(&crc32fast::hash(data).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    out
}

/// What a snapshot file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    pub member: MemberId,
    pub encrypted_with: Option<DataKey>,
    /// Decrypted.
    pub snapshot: Snapshot,
}

/// Reads the file that is named for `expected`, and checks that it is that and whole.
pub fn decode_snapshot(
    expected: Index,
    file: &Bytes,
    keys: &dyn Decrypt,
) -> Result<SnapshotFile, Corruption> {
    let damaged = |damage| Corruption::new(snapshot_name(expected), 0, damage);
    let mut rest: &[u8] = file;
    if take(&mut rest) != Some(MAGIC) {
        return Err(damaged(Damage::NotOurs));
    }
    let version = take(&mut rest).map(u32::from_le_bytes).ok_or(damaged(Damage::Header))?;
    if version > FORMAT_VERSION {
        return Err(damaged(Damage::NewerVersion { found: version, known: FORMAT_VERSION }));
    }
    let header = read_header(version, &mut rest, file).ok_or(damaged(Damage::Header))?;
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
    let data = match header.encrypted_with {
        None => file.slice(data_at..),
        Some(key) => {
            let at = EncryptedAt::Snapshot { member: header.member, index: expected };
            let refused =
                |why| Corruption::new(snapshot_name(expected), data_at as u64, Damage::Encrypted(why));
            keys.decrypt(key, at, rest).map_err(refused)?.into()
        }
    };
    let Header { member, meta, encrypted_with, .. } = header;
    Ok(SnapshotFile { member, encrypted_with, snapshot: Snapshot { meta, data } })
}

/// Whether a snapshot file says that its data is encrypted.
pub fn snapshot_is_encrypted(mut file: &[u8]) -> bool {
    take(&mut file) == Some(MAGIC) && take(&mut file) == Some(ENCRYPTED_VERSION.to_le_bytes())
}

struct Header {
    member: MemberId,
    meta: SnapshotMeta,
    data_bytes: u64,
    encrypted_with: Option<DataKey>,
    data_crc: u32,
}

/// `None` for a header that is cut short or whose checksum is wrong.
fn read_header(version: u32, rest: &mut &[u8], file: &[u8]) -> Option<Header> {
    let (member, index, term, data_bytes) = (number(rest)?, number(rest)?, number(rest)?, number(rest)?);
    let encrypted_with = match version {
        PLAIN_VERSION => None,
        _ => Some(key_of_number(number(rest)?)?),
    };
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
    let header = Header {
        member,
        meta: SnapshotMeta { index, term, membership },
        data_bytes,
        encrypted_with,
        data_crc,
    };
    (crc32fast::hash(checked) == header_crc).then_some(header)
}

fn ids(rest: &mut &[u8]) -> Option<Vec<MemberId>> {
    let count = u32::from_le_bytes(take(rest)?) as usize;
    // Not `with_capacity`: the count is not trusted yet.
    (0..count).map(|_| number(rest)).collect()
}
