//! The unit that a disk writes whole: 512 bytes with a checksum of their own.
//!
//! | bytes | |
//! |---|---|
//! | 0..496 | payload, zero behind what is used |
//! | 496..504 | the group's number, little-endian |
//! | 504..506 | how much of the payload is used |
//! | 506 | flags: 1 begins its group, 2 ends it |
//! | 507..511 | CRC-32 of member, segment and sector number, then bytes 0..507 |
//! | 511 | the mark 0x5a |
//!
//! The mark has four bits set, so that no single flipped bit turns a written sector into one that looks half-written.

use crate::MemberId;

pub const SECTOR_BYTES: usize = 512;
pub(crate) const PAYLOAD_BYTES: usize = 496;
const GROUP: std::ops::Range<usize> = 496..504;
const USED: std::ops::Range<usize> = 504..506;
const FLAGS: usize = 506;
const CHECKED: usize = 507;
const CRC: std::ops::Range<usize> = 507..511;
const MARK_AT: usize = 511;
const MARK: u8 = 0x5a;

const FIRST: u8 = 1;
const LAST: u8 = 2;

/// Where a sector belongs. Part of its checksum, so that it is valid nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) member: MemberId,
    pub(crate) segment: u64,
    pub(crate) sector: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sector<'a> {
    /// All zero.
    Blank,
    /// Not zero, but its mark is.
    Partial,
    Damaged,
    Valid {
        group: u64,
        first: bool,
        last: bool,
        payload: &'a [u8],
    },
}

/// Appends the sectors of one group, the first at `place`.
pub(crate) fn write(out: &mut Vec<u8>, place: Place, group: u64, payload: &[u8]) {
    let count = payload.len().div_ceil(PAYLOAD_BYTES).max(1);
    for number in 0..count {
        let part = &payload[number * PAYLOAD_BYTES..payload.len().min((number + 1) * PAYLOAD_BYTES)];
        let mut sector = [0; SECTOR_BYTES];
        sector[..part.len()].copy_from_slice(part);
        sector[GROUP].copy_from_slice(&group.to_le_bytes());
        sector[USED].copy_from_slice(&(part.len() as u16).to_le_bytes());
        sector[FLAGS] = if number == 0 { FIRST } else { 0 } | if number == count - 1 { LAST } else { 0 };
        let place = Place { sector: place.sector + number as u64, ..place };
        let checksum = checksum(place, &sector);
        sector[CRC].copy_from_slice(&checksum.to_le_bytes());
        sector[MARK_AT] = MARK;
        out.extend_from_slice(&sector);
    }
}

/// `bytes` is one sector; a shorter piece is never valid.
pub(crate) fn read(bytes: &[u8], place: Place) -> Sector<'_> {
    let Ok(sector) = <&[u8; SECTOR_BYTES]>::try_from(bytes) else { return Sector::Damaged };
    if sector[MARK_AT] == 0 {
        return if sector.iter().all(|&byte| byte == 0) { Sector::Blank } else { Sector::Partial };
    }
    let used = usize::from(u16::from_le_bytes([sector[USED.start], sector[USED.start + 1]]));
    let whole = sector[MARK_AT] == MARK && sector[CRC] == checksum(place, sector).to_le_bytes();
    if !whole || used > PAYLOAD_BYTES {
        return Sector::Damaged;
    }
    let mut group = [0; 8];
    group.copy_from_slice(&sector[GROUP]);
    Sector::Valid {
        group: u64::from_le_bytes(group),
        first: sector[FLAGS] & FIRST != 0,
        last: sector[FLAGS] & LAST != 0,
        payload: &sector[..used],
    }
}

fn checksum(place: Place, sector: &[u8; SECTOR_BYTES]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&place.member.to_le_bytes());
    crc.update(&place.segment.to_le_bytes());
    crc.update(&place.sector.to_le_bytes());
    crc.update(&sector[..CHECKED]);
    crc.finalize()
}

pub(crate) const fn sectors_for(payload_bytes: usize) -> usize {
    let sectors = payload_bytes.div_ceil(PAYLOAD_BYTES);
    if sectors == 0 { 1 } else { sectors }
}
