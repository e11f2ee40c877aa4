//! What lies on disk, damaged in every way that fits a loop: nothing acknowledged may be lost without a word.

mod segment;
mod segments;
mod snapshots;

mod earlier;

use bytes::Bytes;
use consensus::{
    Entry, HardState, Membership, Payload, Snapshot, SnapshotMeta,
    format::{
        Corruption, GroupBuilder, HEADER_BYTES, NoKeys, Position, Recovery, SECTOR_BYTES, SegmentFile,
        SegmentHeader, recover,
    },
};

pub(crate) const MEMBER: u64 = 7;
pub(crate) const LENGTH: usize = 12 * SECTOR_BYTES;

pub(crate) fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    Entry { index, term, payload: Payload::Command(Bytes::from(vec![index as u8; bytes])) }
}

pub(crate) fn genesis() -> Option<(u64, Snapshot)> {
    let meta = SnapshotMeta { index: 1, term: 1, membership: Membership::single(MEMBER) };
    Some((MEMBER, Snapshot { meta, data: Bytes::new() }))
}

/// Writes segments as the server does.
pub(crate) struct Writer {
    pub(crate) header: SegmentHeader,
    pub(crate) bytes: Vec<u8>,
    /// Where each group ends; the first is the header's end.
    pub(crate) ends: Vec<usize>,
}

impl Writer {
    pub(crate) fn new(header: SegmentHeader) -> Writer {
        let mut bytes = vec![0; header.length_bytes as usize];
        bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
        Writer { header, bytes, ends: vec![HEADER_BYTES] }
    }

    pub(crate) fn first() -> Writer {
        Writer::new(SegmentHeader {
            member: MEMBER,
            segment: 1,
            length_bytes: LENGTH as u64,
            first_group: 1,
            hard_state: HardState { term: 1, vote: 0, commit: 1 },
            before: Position { index: 1, term: 1 },
            encrypted_with: None,
        })
    }

    pub(crate) fn group(&mut self, build: impl FnOnce(&mut GroupBuilder)) {
        let mut group = GroupBuilder::default();
        build(&mut group);
        let at = self.end();
        let bytes = group.encode(&self.header, at as u64, self.next_group());
        self.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
        self.ends.push(at + bytes.len());
    }

    pub(crate) fn end(&self) -> usize {
        self.ends[self.ends.len() - 1]
    }

    fn next_group(&self) -> u64 {
        self.header.first_group + self.ends.len() as u64 - 1
    }

    /// The segment after this one; sealing is the caller's.
    pub(crate) fn next(&self, hard_state: HardState, before: Position) -> Writer {
        let (segment, first_group) = (self.header.segment + 1, self.next_group() + 1);
        Writer::new(SegmentHeader { segment, first_group, hard_state, before, ..self.header })
    }
}

/// Three groups, the second of two sectors; 1, 3 and 4 entries after them.
pub(crate) fn small() -> Writer {
    let mut log = Writer::first();
    log.group(|group| {
        group.hard_state(HardState { term: 2, vote: MEMBER, commit: 1 });
        group.entry(&entry(2, 2, 100));
    });
    log.group(|group| {
        group.entry(&entry(3, 2, 300));
        group.entry(&entry(4, 2, 300));
    });
    log.group(|group| {
        group.entry(&entry(5, 2, 10));
        group.hard_state(HardState { term: 2, vote: MEMBER, commit: 4 });
    });
    log
}

pub(crate) fn entries_after(groups: usize) -> usize {
    [0, 1, 3, 4][groups]
}

pub(crate) fn recover_one(bytes: &[u8]) -> Result<Recovery, Corruption> {
    recover(genesis(), &[SegmentFile { segment: 1, bytes }], &NoKeys)
}

pub(crate) fn recover_all(segments: &[(u64, &[u8])]) -> Result<Recovery, Corruption> {
    let files: Vec<SegmentFile<'_>> =
        segments.iter().map(|&(segment, bytes)| SegmentFile { segment, bytes }).collect();
    recover(genesis(), &files, &NoKeys)
}
