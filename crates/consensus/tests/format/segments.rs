//! Several segments, and the snapshot before them.

use bytes::Bytes;
use consensus::{
    HardState, Membership, Snapshot, SnapshotMeta,
    format::{
        Damage, GroupBuilder, HEADER_BYTES, NoKeys, Position, SECTOR_BYTES, SegmentFile, SegmentHeader,
        recover,
    },
};

use crate::{MEMBER, Writer, entry, recover_all, recover_one, small};

fn two_segments() -> (Writer, Writer) {
    let mut one = small();
    let mut two = one.next(HardState { term: 2, vote: MEMBER, commit: 4 }, Position { index: 5, term: 2 });
    one.group(|group| group.seal(2));
    two.group(|group| group.entry(&entry(6, 2, 10)));
    (one, two)
}

#[test]
fn segments_that_are_missing_swapped_or_foreign_are_errors() {
    let (one, two) = two_segments();
    let mut three = two.next(two.header.hard_state, Position { index: 6, term: 2 });
    let mut sealed_two = Writer::new(two.header);
    sealed_two.group(|group| group.entry(&entry(6, 2, 10)));
    sealed_two.group(|group| group.seal(3));
    three.group(|group| group.entry(&entry(7, 2, 10)));
    let (a, b, c) = (&one.bytes[..], &sealed_two.bytes[..], &three.bytes[..]);
    assert_eq!(recover_all(&[(1, a), (2, b), (3, c)]).expect("a whole log").recovered.entries.len(), 6);

    let damage = |segments: &[(u64, &[u8])]| recover_all(segments).expect_err("a damaged log").damage;
    assert_eq!(damage(&[]), Damage::MissingLog);
    assert_eq!(damage(&[(1, a), (3, c)]), Damage::MissingSegment { missing: 2 });
    assert_eq!(damage(&[(1, a), (2, b)]), Damage::MissingSegment { missing: 3 });
    assert_eq!(damage(&[(1, a)]), Damage::MissingSegment { missing: 2 });
    assert_eq!(damage(&[(2, b), (3, c)]), Damage::MissingSnapshot { begins_after: 5, snapshot: Some(1) });
    assert_eq!(damage(&[(1, b), (2, a), (3, c)]), Damage::Swapped { found: 2, expected: 1 });
    let foreign = Writer::new(SegmentHeader { member: 8, ..three.header });
    assert_eq!(
        damage(&[(1, a), (2, b), (3, &foreign.bytes)]),
        Damage::OtherMember { found: 8, expected: MEMBER }
    );
    // Another log of the same member, with other contents under the same numbers.
    let mut other = Writer::first();
    other.group(|group| group.entry(&entry(2, 1, 10)));
    other.group(|group| group.seal(2));
    assert!(recover_all(&[(1, &other.bytes), (2, b), (3, c)]).is_err());
}

#[test]
fn every_flipped_bit_in_a_sealed_segment_is_an_error() {
    let (one, two) = two_segments();
    for bit in 0..one.bytes.len() * 8 {
        let mut bytes = one.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(recover_all(&[(1, &bytes), (2, &two.bytes)]).is_err(), "bit {bit}");
    }
}

#[test]
fn a_crash_between_making_a_segment_and_sealing_the_last_is_mended() {
    let (sealed, used) = two_segments();
    let empty = Writer::new(used.header);
    let unsealed = small();
    let seal_at = unsealed.end();
    for cut in seal_at..seal_at + SECTOR_BYTES {
        let mut bytes = sealed.bytes.clone();
        bytes[cut..].fill(0);
        let recovery = recover_all(&[(1, &bytes), (2, &empty.bytes)]).expect("a crash is no damage");
        let seal = recovery.seal.expect("the seal is to be written");
        assert_eq!((seal.segment, seal.offset as usize), (1, seal_at));
        bytes[seal_at..seal_at + SECTOR_BYTES].copy_from_slice(&seal.bytes);
        assert_eq!(bytes, sealed.bytes);
        assert_eq!((recovery.next_group, recovery.end_offset), (5, HEADER_BYTES as u64));
    }
    let error =
        recover_all(&[(1, &unsealed.bytes), (2, &used.bytes)]).expect_err("used before it was sealed");
    assert_eq!(error.damage, Damage::Unfinished { missing: 4 });
}

#[test]
fn entries_that_cannot_be_are_errors() {
    let check = |build: fn(&mut GroupBuilder), expected: Damage| {
        let mut log = small();
        log.group(build);
        assert_eq!(recover_one(&log.bytes).expect_err("an impossible entry").damage, expected);
    };
    check(|group| group.entry(&entry(7, 2, 1)), Damage::Gap { index: 7, last: 5 });
    check(|group| group.entry(&entry(4, 3, 1)), Damage::ReplacesCommitted { index: 4, commit: 4 });
    check(|group| group.entry(&entry(6, 1, 1)), Damage::Term { index: 6, term: 1 });
}

#[test]
fn later_entries_replace_uncommitted_ones() {
    let mut log = small();
    log.group(|group| {
        group.hard_state(HardState { term: 3, vote: 0, commit: 4 });
        group.entry(&entry(5, 3, 20));
    });
    let recovered = recover_one(&log.bytes).expect("an undamaged log").recovered;
    assert_eq!(recovered.entries.last(), Some(&entry(5, 3, 20)));
}

/// A leader wrote entries that nobody took over, then the next leader replaced them, at the very beginning of a segment;
/// the segment before was removed when a snapshot covered it.
#[test]
fn the_first_segment_left_may_begin_with_entries_that_replace_those_before_it() {
    let before = Position { index: 5, term: 2 };
    let uncommitted = HardState { term: 2, vote: MEMBER, commit: 2 };
    let begin = || Writer::first().next(uncommitted, before);
    let mut log = begin();
    log.group(|group| {
        (3..=8).for_each(|index| group.entry(&entry(index, 3, 10)));
        group.hard_state(HardState { term: 3, vote: 0, commit: 6 });
    });
    let at = |index, term| {
        let meta = SnapshotMeta { index, term, membership: Membership::single(MEMBER) };
        Some((MEMBER, Snapshot { meta, data: Bytes::from_static(b"state") }))
    };
    let files = [SegmentFile { segment: 2, bytes: &log.bytes }];
    let recovery = recover(at(6, 3), &files, &NoKeys).expect("an undamaged log");
    assert_eq!(recovery.recovered.entries, [entry(7, 3, 10), entry(8, 3, 10)]);
    assert_eq!(recovery.restart, None);

    let missing = recover(at(4, 3), &files, &NoKeys)
        .expect_err("the snapshot that the first segment counts on is missing");
    assert!(matches!(missing.damage, Damage::MissingSnapshot { begins_after: 5, .. }), "{missing}");

    let mut log = Writer::first().next(HardState { commit: 4, ..uncommitted }, before);
    log.group(|group| group.entry(&entry(3, 3, 10)));
    let files = [SegmentFile { segment: 2, bytes: &log.bytes }];
    let replaced = recover(at(6, 3), &files, &NoKeys).expect_err("what is committed is never replaced");
    assert!(matches!(replaced.damage, Damage::ReplacesCommitted { index: 3, commit: 4 }), "{replaced}");
}

/// The leader's snapshot was written, and then came the crash.
#[test]
fn a_snapshot_that_the_log_does_not_know_restarts_the_log() {
    let log = small();
    let snapshot = |index, term| {
        let meta = SnapshotMeta { index, term, membership: Membership::of_voters([MEMBER, 9]) };
        Some((MEMBER, Snapshot { meta, data: Bytes::from_static(b"state") }))
    };
    let files = [SegmentFile { segment: 1, bytes: &log.bytes }];
    for (index, term) in [(9, 4), (5, 4)] {
        let recovery = recover(snapshot(index, term), &files, &NoKeys).expect("a crash is no damage");
        assert_eq!(recovery.restart, Some(Position { index, term }));
        assert_eq!(recovery.recovered.entries, []);
        assert_eq!(recovery.recovered.hard_state, HardState { term, vote: 0, commit: index });
    }
    let own = recover(snapshot(4, 2), &files, &NoKeys).expect("a snapshot of the log's own entries");
    assert_eq!((own.restart, own.recovered.entries), (None, vec![entry(5, 2, 10)]));
    let position = |term| Position { index: 4, term };
    let damage = Damage::Discontinuous { found: position(2), expected: position(3) };
    assert_eq!(recover(snapshot(4, 3), &files, &NoKeys).expect_err("entry 4 was committed").damage, damage);
    let foreign = snapshot(4, 2).map(|(_, snapshot)| (8, snapshot));
    assert_eq!(
        recover(foreign, &files, &NoKeys).expect_err("another's").damage,
        Damage::OtherMember { found: 8, expected: 7 }
    );
}

#[test]
fn a_restart_without_its_snapshot_is_an_error() {
    let mut log = small();
    log.group(|group| group.restart(Position { index: 20, term: 3 }));
    let error = recover_one(&log.bytes).expect_err("the snapshot is gone");
    assert_eq!(error.damage, Damage::MissingSnapshot { begins_after: 20, snapshot: Some(1) });
}
