//! What a group holds: records, one after the other.
//!
//! | record | bytes after its kind |
//! |---|---|
//! | 1 hard state | term u64, vote u64, commit u64 |
//! | 2 entry | index u64, term u64, kind u8 (0 empty, 1 command, 2 membership), length u32, data |
//! | 3 restart | index u64, term u64: the log begins again after this position, covered by a snapshot |
//! | 4 seal | segment u64: the log goes on there |
//! | 5 encrypted | the rest of the group: records of the kinds above, encrypted |
//!
//! All numbers are little-endian. There is no checksum here: the sectors have theirs.

use bytes::Bytes;

use super::{Position, corruption::Damage};
use crate::{Entry, HardState, Payload};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    HardState(HardState),
    Entry(Entry),
    Restart(Position),
    Seal { next: u64 },
}

const HARD_STATE: u8 = 1;
const ENTRY: u8 = 2;
const RESTART: u8 = 3;
const SEAL: u8 = 4;
const ENCRYPTED: u8 = 5;

pub(crate) fn write_hard_state(out: &mut Vec<u8>, hard_state: HardState) {
    out.push(HARD_STATE);
    write_numbers(out, &[hard_state.term, hard_state.vote, hard_state.commit]);
}

pub(crate) fn write_entry(out: &mut Vec<u8>, entry: &Entry) {
    let (kind, data): (u8, &[u8]) = match &entry.payload {
        Payload::Empty => (0, &[]),
        Payload::Command(data) => (1, data),
        Payload::Membership(data) => (2, data),
    };
    out.push(ENTRY);
    write_numbers(out, &[entry.index, entry.term]);
    out.push(kind);
    // raft refuses proposals far below 4 GiB.
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out.extend_from_slice(data);
}

pub(crate) fn write_restart(out: &mut Vec<u8>, position: Position) {
    out.push(RESTART);
    write_numbers(out, &[position.index, position.term]);
}

pub(crate) fn write_seal(out: &mut Vec<u8>, next: u64) {
    out.push(SEAL);
    write_numbers(out, &[next]);
}

pub(crate) fn begin_encrypted(out: &mut Vec<u8>) {
    out.push(ENCRYPTED);
}

/// What is encrypted in a group, if it is.
pub(crate) fn encrypted(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_prefix(&[ENCRYPTED])
}

fn write_numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

/// How many bytes an entry takes in a group.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    1 + 8 + 8 + 1 + 4 + entry.payload.len()
}

pub(crate) fn read_all(mut bytes: &[u8]) -> Result<Vec<Record>, Damage> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        records.push(read_one(&mut bytes).ok_or(Damage::Record("cut short or of an unknown kind"))?);
    }
    Ok(records)
}

fn read_one(bytes: &mut &[u8]) -> Option<Record> {
    let [kind] = take(bytes)?;
    Some(match kind {
        HARD_STATE => {
            let (term, vote, commit) = (number(bytes)?, number(bytes)?, number(bytes)?);
            Record::HardState(HardState { term, vote, commit })
        }
        ENTRY => Record::Entry(read_entry(bytes)?),
        RESTART => Record::Restart(Position { index: number(bytes)?, term: number(bytes)? }),
        SEAL => Record::Seal { next: number(bytes)? },
        _ => return None,
    })
}

fn read_entry(bytes: &mut &[u8]) -> Option<Entry> {
    let (index, term) = (number(bytes)?, number(bytes)?);
    let [kind] = take(bytes)?;
    let length = u32::from_le_bytes(take(bytes)?) as usize;
    let (data, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    let payload = match kind {
        0 if data.is_empty() => Payload::Empty,
        1 => Payload::Command(Bytes::copy_from_slice(data)),
        2 => Payload::Membership(Bytes::copy_from_slice(data)),
        _ => return None,
    };
    Some(Entry { index, term, payload })
}

pub(crate) fn number(bytes: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(take(bytes)?))
}

pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}
