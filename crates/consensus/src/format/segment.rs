//! A segment: its name, its header, and where it stands in the log.

use std::fmt;

use super::{
    ENCRYPTED_VERSION, FORMAT_VERSION, PLAIN_VERSION,
    corruption::{Corruption, Damage},
    encrypted::{DataKey, key_number, key_of_number},
    record::{number, take},
    sector::{self, Place, SECTOR_BYTES, Sector},
};
use crate::{HardState, Index, MemberId, Term};

pub const HEADER_BYTES: usize = SECTOR_BYTES;
const MAGIC: [u8; 8] = *b"wharflog";
const SUFFIX: &str = ".wal";

/// A place in the log: an index and the term of the entry there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub index: Index,
    pub term: Term,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index {} of term {}", self.index, self.term)
    }
}

/// What is known when a segment is begun. It repeats what the segments before it say, so that those can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub member: MemberId,
    /// Counts up from 1.
    pub segment: u64,
    /// Of the whole file, a multiple of the sector size.
    pub length_bytes: u64,
    pub first_group: u64,
    pub hard_state: HardState,
    /// The last entry of the log before this segment.
    pub before: Position,
    /// What all groups are encrypted with, but for the seal.
    pub encrypted_with: Option<DataKey>,
}

pub fn segment_name(segment: u64) -> String {
    format!("{segment:016x}{SUFFIX}")
}

/// The reverse of [`segment_name`]; `None` for a file that is no segment.
pub fn segment_number(name: &str) -> Option<u64> {
    hex_number(name, SUFFIX)
}

pub(crate) fn hex_number(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (digits.len() == 16 && digits.bytes().all(lower_hex)).then(|| u64::from_str_radix(digits, 16).ok())?
}

impl SegmentHeader {
    /// The first sector of the file. It is bound to no member, because only it says whose the file is.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = MAGIC.to_vec();
        let version = if self.encrypted_with.is_some() { ENCRYPTED_VERSION } else { PLAIN_VERSION };
        payload.extend_from_slice(&version.to_le_bytes());
        let HardState { term, vote, commit } = self.hard_state;
        let Position { index, term: before_term } = self.before;
        for number in [self.member, self.segment, self.length_bytes, self.first_group, term, vote, commit] {
            payload.extend_from_slice(&number.to_le_bytes());
        }
        payload.extend_from_slice(&index.to_le_bytes());
        payload.extend_from_slice(&before_term.to_le_bytes());
        if self.encrypted_with.is_some() {
            payload.extend_from_slice(&key_number(self.encrypted_with).to_le_bytes());
        }
        let mut sector = Vec::with_capacity(SECTOR_BYTES);
        sector::write(&mut sector, header_place(self.segment), 0, &payload);
        sector
    }

    /// Reads the header of the file that is named as segment `expected`, and checks that it is that and whole.
    pub fn decode(expected: u64, bytes: &[u8]) -> Result<SegmentHeader, Corruption> {
        let damaged = |damage| Corruption::new(segment_name(expected), 0, damage);
        let first = bytes.get(..SECTOR_BYTES).ok_or(damaged(Damage::NotOurs))?;
        if first[..MAGIC.len()] != MAGIC {
            return Err(damaged(Damage::NotOurs));
        }
        // The checksum of a swapped file is right for another place: say so, it is the kinder message.
        let mut claims = &first[20..];
        let claimed = number(&mut claims).unwrap_or_default();
        if let Sector::Valid { payload, .. } = sector::read(first, header_place(claimed)) {
            let header = SegmentHeader::parse(&payload[MAGIC.len()..]).map_err(damaged)?;
            header.check(expected, bytes).map_err(damaged)?;
            return Ok(header);
        }
        Err(damaged(Damage::Header))
    }

    fn parse(mut bytes: &[u8]) -> Result<SegmentHeader, Damage> {
        let cut = Damage::Record("the header is cut short");
        let version = u32::from_le_bytes(take(&mut bytes).ok_or(cut.clone())?);
        if !(PLAIN_VERSION..=FORMAT_VERSION).contains(&version) {
            return Err(Damage::NewerVersion { found: version, known: FORMAT_VERSION });
        }
        let mut next = || number(&mut bytes).ok_or(cut.clone());
        let header = SegmentHeader {
            member: next()?,
            segment: next()?,
            length_bytes: next()?,
            first_group: next()?,
            hard_state: HardState { term: next()?, vote: next()?, commit: next()? },
            before: Position { index: next()?, term: next()? },
            encrypted_with: None,
        };
        if version == PLAIN_VERSION {
            return Ok(header);
        }
        let key = key_of_number(next()?).ok_or(Damage::Record("the header names no key"))?;
        Ok(SegmentHeader { encrypted_with: Some(key), ..header })
    }

    fn check(&self, expected: u64, bytes: &[u8]) -> Result<(), Damage> {
        if self.segment != expected {
            return Err(Damage::Swapped { found: self.segment, expected });
        }
        let found = bytes.len() as u64;
        if found != self.length_bytes || !found.is_multiple_of(SECTOR_BYTES as u64) {
            return Err(Damage::Length { found, expected: self.length_bytes });
        }
        Ok(())
    }

    pub(crate) fn place(&self, sector: u64) -> Place {
        Place { member: self.member, segment: self.segment, sector }
    }
}

fn header_place(segment: u64) -> Place {
    Place { member: 0, segment, sector: 0 }
}
