//! One segment, from its bytes to its groups; and the judgement whether its end is torn or damaged.

use super::{
    SegmentHeader, Torn,
    corruption::{Corruption, Damage},
    encrypted::{Decrypt, EncryptedAt},
    record::{self, Record},
    sector::{self, SECTOR_BYTES, Sector},
    segment_name,
};

pub(crate) struct Scan {
    pub(crate) groups: Vec<Group>,
    /// Where the next group goes, in bytes, and its number.
    pub(crate) end_offset: u64,
    pub(crate) next_group: u64,
    pub(crate) sealed: Option<u64>,
    pub(crate) torn: Option<Torn>,
}

pub(crate) struct Group {
    pub(crate) offset: u64,
    pub(crate) records: Vec<Record>,
}

/// `bytes` has the header's length and the header is checked.
pub(crate) fn scan(header: &SegmentHeader, bytes: &[u8], keys: &dyn Decrypt) -> Result<Scan, Corruption> {
    let sectors = Sectors { header, bytes };
    let mut scan =
        Scan { groups: Vec::new(), end_offset: 0, next_group: header.first_group, sealed: None, torn: None };
    let mut at = 1;
    while let Some((payload, next)) = sectors.group(at, scan.next_group) {
        let records = read_records(header, scan.next_group, &payload, keys);
        let records = records.map_err(|damage| sectors.damaged(at, damage))?;
        if let Some(Record::Seal { next }) = records.last() {
            scan.sealed = Some(*next);
        }
        scan.groups.push(Group { offset: offset(at), records });
        scan.next_group += 1;
        at = next;
        if scan.sealed.is_some() {
            break;
        }
    }
    scan.end_offset = offset(at);
    scan.torn = sectors.judge_tail(at, scan.next_group)?;
    if scan.sealed.is_some() && scan.torn.is_some() {
        return Err(sectors.damaged(at, Damage::AfterSeal));
    }
    Ok(scan)
}

/// The group is complete: what cannot be read now was not torn.
fn read_records(
    header: &SegmentHeader,
    group: u64,
    payload: &[u8],
    keys: &dyn Decrypt,
) -> Result<Vec<Record>, Damage> {
    let Some(key) = header.encrypted_with else { return record::read_all(payload) };
    if let Some(bytes) = record::encrypted(payload) {
        let at = EncryptedAt::Group { member: header.member, group };
        return record::read_all(&keys.decrypt(key, at, bytes).map_err(Damage::Encrypted)?);
    }
    // A seal says nothing that the next segment's name does not. Anything else was put there by somebody without the key.
    match record::read_all(payload)?.as_slice() {
        [seal @ Record::Seal { .. }] => Ok(vec![seal.clone()]),
        _ => Err(Damage::NotEncrypted { group }),
    }
}

struct Sectors<'a> {
    header: &'a SegmentHeader,
    bytes: &'a [u8],
}

impl<'a> Sectors<'a> {
    fn count(&self) -> usize {
        self.bytes.len() / SECTOR_BYTES
    }

    fn get(&self, at: usize) -> Sector<'a> {
        let bytes = &self.bytes[at * SECTOR_BYTES..(at + 1) * SECTOR_BYTES];
        sector::read(bytes, self.header.place(at as u64))
    }

    /// The payload of `group` where it is complete at `at`, and the sector after it.
    fn group(&self, at: usize, expected: u64) -> Option<(Vec<u8>, usize)> {
        let mut whole = Vec::new();
        for number in at..self.count() {
            let Sector::Valid { group, first, last, payload } = self.get(number) else { return None };
            if group != expected || first != (number == at) {
                return None;
            }
            whole.extend_from_slice(payload);
            if last {
                return Some((whole, number + 1));
            }
        }
        None
    }

    /// The table of the module `format`: is what follows `at` blank, torn or damaged?
    fn judge_tail(&self, at: usize, expected: u64) -> Result<Option<Torn>, Corruption> {
        let mut torn_end = at;
        for number in at..self.count() {
            match self.get(number) {
                Sector::Blank => {}
                Sector::Partial => torn_end = number + 1,
                Sector::Valid { group, .. } if group == expected => torn_end = number + 1,
                Sector::Valid { group, .. } => {
                    return Err(self.damaged(at, Damage::LostGroup { missing: expected, found: group }));
                }
                Sector::Damaged => return Err(self.damaged(number, Damage::Checksum)),
            }
        }
        let bytes = offset(torn_end) - offset(at);
        let torn = Torn { file: segment_name(self.header.segment), offset: offset(at), bytes };
        Ok((bytes > 0).then_some(torn))
    }

    fn damaged(&self, at: usize, damage: Damage) -> Corruption {
        Corruption::new(segment_name(self.header.segment), offset(at), damage)
    }
}

fn offset(sector: usize) -> u64 {
    (sector * SECTOR_BYTES) as u64
}
