//! What lies on disk, damaged in every way that fits a loop: nothing acknowledged may be lost without a word.

use bytes::Bytes;
use consensus::{
    Entry, HardState, Membership, Payload, Snapshot, SnapshotMeta,
    format::{
        Corruption, Damage, DataKey, Decrypt, EncryptedAt, GroupBuilder, HEADER_BYTES, NoKeys, Position,
        Recovery, SECTOR_BYTES, SegmentFile, SegmentHeader, SnapshotFile, decode_snapshot,
        encode_snapshot_header, recover, segment_name, segment_number,
    },
};

const MEMBER: u64 = 7;
const LENGTH: usize = 12 * SECTOR_BYTES;

fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    Entry { index, term, payload: Payload::Command(Bytes::from(vec![index as u8; bytes])) }
}

fn genesis() -> Option<(u64, Snapshot)> {
    let meta = SnapshotMeta { index: 1, term: 1, membership: Membership::single(MEMBER) };
    Some((MEMBER, Snapshot { meta, data: Bytes::new() }))
}

/// Writes segments as the server does.
struct Writer {
    header: SegmentHeader,
    bytes: Vec<u8>,
    /// Where each group ends; the first is the header's end.
    ends: Vec<usize>,
}

impl Writer {
    fn new(header: SegmentHeader) -> Writer {
        let mut bytes = vec![0; header.length_bytes as usize];
        bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
        Writer { header, bytes, ends: vec![HEADER_BYTES] }
    }

    fn first() -> Writer {
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

    fn group(&mut self, build: impl FnOnce(&mut GroupBuilder)) {
        let mut group = GroupBuilder::default();
        build(&mut group);
        let at = self.end();
        let bytes = group.encode(&self.header, at as u64, self.next_group());
        self.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
        self.ends.push(at + bytes.len());
    }

    fn end(&self) -> usize {
        self.ends[self.ends.len() - 1]
    }

    fn next_group(&self) -> u64 {
        self.header.first_group + self.ends.len() as u64 - 1
    }

    /// The segment after this one; sealing is the caller's.
    fn next(&self, hard_state: HardState, before: Position) -> Writer {
        let (segment, first_group) = (self.header.segment + 1, self.next_group() + 1);
        Writer::new(SegmentHeader { segment, first_group, hard_state, before, ..self.header })
    }
}

/// Three groups, the second of two sectors; 1, 3 and 4 entries after them.
fn small() -> Writer {
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

fn entries_after(groups: usize) -> usize {
    [0, 1, 3, 4][groups]
}

fn recover_one(bytes: &[u8]) -> Result<Recovery, Corruption> {
    recover(genesis(), &[SegmentFile { segment: 1, bytes }], &NoKeys)
}

fn recover_all(segments: &[(u64, &[u8])]) -> Result<Recovery, Corruption> {
    let files: Vec<SegmentFile<'_>> =
        segments.iter().map(|&(segment, bytes)| SegmentFile { segment, bytes }).collect();
    recover(genesis(), &files, &NoKeys)
}

#[test]
fn what_was_written_is_read() {
    let log = small();
    let recovery = recover_one(&log.bytes).expect("an undamaged log");
    assert_eq!(recovery.recovered.id, MEMBER);
    assert_eq!(recovery.recovered.hard_state, HardState { term: 2, vote: MEMBER, commit: 4 });
    let expected = [entry(2, 2, 100), entry(3, 2, 300), entry(4, 2, 300), entry(5, 2, 10)];
    assert_eq!(recovery.recovered.entries, expected);
    assert_eq!(recovery.torn, None);
    assert_eq!((recovery.end_offset as usize, recovery.next_group), (log.end(), 4));
}

#[test]
fn a_log_that_ends_at_any_byte_keeps_every_whole_group_and_reports_the_rest() {
    let log = small();
    for cut in 0..=log.end() {
        let mut bytes = log.bytes.clone();
        bytes[cut..].fill(0);
        // A sector's last byte is never zero, but bytes before it may be: what counts is what differs.
        let whole = log.ends.iter().filter(|&&end| bytes[..end] == log.bytes[..end]).count();
        match recover_one(&bytes) {
            Ok(recovery) => {
                assert!(whole >= 1, "the header was cut at {cut} and nobody said so");
                assert_eq!(recovery.recovered.entries.len(), entries_after(whole - 1), "cut at {cut}");
                let written = bytes[log.ends[whole - 1]..].iter().any(|&byte| byte != 0);
                assert_eq!(recovery.torn.is_some(), written, "cut at {cut}");
            }
            Err(error) => assert!(whole == 0, "cut at {cut}: {error}"),
        }
    }
}

#[test]
fn any_sectors_of_the_last_group_may_be_missing() {
    let mut log = small();
    log.group(|group| group.entry(&entry(6, 2, 1_400)));
    let (start, end) = (log.ends[3], log.end());
    let sectors = (end - start) / SECTOR_BYTES;
    assert_eq!(sectors, 3);
    for missing in 1..1_u32 << sectors {
        let mut bytes = log.bytes.clone();
        for sector in (0..sectors).filter(|sector| missing & (1 << sector) != 0) {
            let at = start + sector * SECTOR_BYTES;
            bytes[at..at + SECTOR_BYTES].fill(0);
        }
        let recovery = recover_one(&bytes).expect("a torn tail is no damage");
        assert_eq!(recovery.recovered.entries.len(), 4);
        assert_eq!(recovery.end_offset as usize, start);
        let torn = recovery.torn.map_or(0, |torn| torn.bytes as usize);
        assert_eq!(torn > 0, missing + 1 != 1 << sectors, "sectors missing: {missing:b}");
    }
}

#[test]
fn every_flipped_bit_in_what_was_written_is_an_error_and_elsewhere_it_costs_nothing() {
    let log = small();
    for bit in 0..log.bytes.len() * 8 {
        let mut bytes = log.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match recover_one(&bytes) {
            Err(error) => assert_eq!(error.file, segment_name(1)),
            Ok(recovery) => {
                assert!(
                    bit / 8 >= log.end(),
                    "bit {bit} of what was acknowledged was flipped and nobody said so"
                );
                assert_eq!(recovery.recovered.entries.len(), 4);
                assert!(recovery.torn.is_some(), "what was cut is reported");
            }
        }
    }
}

#[test]
fn a_missing_group_before_a_later_one_is_an_error() {
    let log = small();
    for lost in 0..2 {
        let mut bytes = log.bytes.clone();
        bytes[log.ends[lost]..log.ends[lost + 1]].fill(0);
        let error = recover_one(&bytes).expect_err("a lost group");
        let (missing, found) = (lost as u64 + 1, lost as u64 + 2);
        assert_eq!(error.damage, Damage::LostGroup { missing, found });
        assert_eq!(error.offset as usize, log.ends[lost]);
    }
}

#[test]
fn a_sector_that_strayed_is_an_error() {
    let log = small();
    let mut bytes = log.bytes.clone();
    bytes.copy_within(HEADER_BYTES..HEADER_BYTES + SECTOR_BYTES, log.end());
    assert_eq!(recover_one(&bytes).expect_err("a copied sector").damage, Damage::Checksum);
}

#[test]
fn a_file_of_another_length_is_an_error() {
    let log = small();
    for length in [0, 100, HEADER_BYTES, log.ends[1], log.end(), log.bytes.len() - 1] {
        assert!(recover_one(&log.bytes[..length]).is_err(), "cut to {length} bytes");
    }
    let longer = [&log.bytes[..], &[0; SECTOR_BYTES]].concat();
    assert!(recover_one(&longer).is_err());
}

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

/// The leader's snapshot was written, and then came the crash.
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

#[test]
fn a_newer_format_is_refused_by_name() {
    // The version is the first thing after the magic; the checksum is made right again by encoding anew.
    let mut file = snapshot_file();
    file[8] = 3;
    let header = file.len() - DATA.len() - 4;
    let checksum = crc32fast::hash(&file[..header]).to_le_bytes();
    file[header..header + 4].copy_from_slice(&checksum);
    let error = decode_snapshot(9, &Bytes::from(file), &NoKeys).expect_err("a newer version");
    assert_eq!(error.damage, Damage::NewerVersion { found: 3, known: 2 });
}

const DATA: &[u8] = b"the applied state";

fn snapshot() -> Snapshot {
    let membership = Membership {
        voters: vec![1, 2, 3],
        learners: vec![4],
        voters_outgoing: vec![1, 2, 5],
        learners_next: vec![5],
        auto_leave: true,
    };
    Snapshot { meta: SnapshotMeta { index: 9, term: 3, membership }, data: Bytes::from_static(DATA) }
}

fn plain_file() -> SnapshotFile {
    SnapshotFile { member: MEMBER, encrypted_with: None, snapshot: snapshot() }
}

fn snapshot_file() -> Vec<u8> {
    let snapshot = snapshot();
    [&encode_snapshot_header(MEMBER, &snapshot.meta, None, &snapshot.data)[..], &snapshot.data].concat()
}

#[test]
fn a_snapshot_is_read_as_written_and_any_change_is_an_error() {
    let file = snapshot_file();
    assert_eq!(decode_snapshot(9, &Bytes::from(file.clone()), &NoKeys), Ok(plain_file()));
    assert!(decode_snapshot(8, &Bytes::from(file.clone()), &NoKeys).is_err(), "under another name");
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_snapshot(9, &Bytes::from(flipped), &NoKeys).is_err(), "bit {bit}");
    }
    for length in 0..file.len() {
        assert!(
            decode_snapshot(9, &Bytes::from(file[..length].to_vec()), &NoKeys).is_err(),
            "{length} bytes"
        );
    }
}

#[test]
fn names_are_read_as_written_and_nothing_else_is() {
    assert_eq!(segment_name(0x1f), "000000000000001f.wal");
    assert_eq!(segment_number("000000000000001f.wal"), Some(0x1f));
    for other in
        ["1f.wal", "000000000000001F.wal", "+00000000000001f.wal", "000000000000001f.wal.tmp", "lock"]
    {
        assert_eq!(segment_number(other), None, "{other}");
    }
}

#[test]
fn damage_is_told_with_file_place_and_repair() {
    let mut log = small();
    log.bytes[700] ^= 1;
    let error = recover_one(&log.bytes).expect_err("a flipped bit");
    assert_eq!(
        error.to_string(),
        "0000000000000001.wal is damaged at byte 512: the checksum of a sector that was written whole is wrong. \
         Nothing was changed. Repair: in a cluster, stop this server, move its data directory away and let it join \
         again from its peers; a single server has to be restored from a backup"
    );
}

/// Written by earlier builds: what lies on disks is read for ever. `UPDATE_GOLDENS=1` writes a file only where there is none.
#[test]
fn what_was_written_before_is_still_read() {
    let log = small();
    let bytes = golden("log-1.txt", &log.bytes[..log.end()]);
    let mut segment = vec![0; LENGTH];
    segment[..bytes.len()].copy_from_slice(&bytes);
    assert_eq!(recover_one(&segment).expect("a log of an earlier build").recovered.entries.len(), 4);
    assert_eq!(bytes, &log.bytes[..log.end()], "what earlier builds read is written as it was");

    let bytes = golden("snapshot-1.txt", &snapshot_file());
    assert_eq!(decode_snapshot(9, &bytes.clone().into(), &NoKeys), Ok(plain_file()));
    assert_eq!(bytes, snapshot_file());
}

/// As if this were encryption: what matters here is where the bytes lie.
struct Shifted;

const SHIFTED_WITH: DataKey = DataKey(3);

fn shift(plain: &[u8], out: &mut Vec<u8>) -> Result<(), std::convert::Infallible> {
    out.extend(plain.iter().map(|byte| byte.wrapping_add(1)));
    Ok(())
}

impl Decrypt for Shifted {
    fn decrypt(&self, key: DataKey, at: EncryptedAt, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let known = match at {
            EncryptedAt::Group { member, group } => (member, group) == (MEMBER, 1),
            EncryptedAt::Snapshot { member, index } => (member, index) == (MEMBER, 9),
        };
        assert!(key == SHIFTED_WITH && known, "{key:?} at {at:?}");
        Ok(bytes.iter().map(|byte| byte.wrapping_sub(1)).collect())
    }
}

#[test]
fn what_was_encrypted_before_is_still_where_it_was() {
    let mut log = Writer::new(SegmentHeader { encrypted_with: Some(SHIFTED_WITH), ..Writer::first().header });
    let mut plain = GroupBuilder::default();
    plain.entry(&entry(2, 1, 30));
    let group = plain.encrypted(shift).unwrap_or_else(|never| match never {});
    log.group(|builder| *builder = group);
    log.group(|builder| builder.seal(2));
    let bytes = golden("log-2.txt", &log.bytes[..log.end()]);
    assert_eq!(bytes, &log.bytes[..log.end()]);
    let mut segment = vec![0; LENGTH];
    segment[..bytes.len()].copy_from_slice(&bytes);
    let before = Position { index: 2, term: 1 };
    let next = Writer::new(SegmentHeader { segment: 2, first_group: 3, before, ..log.header });
    let files = [SegmentFile { segment: 1, bytes: &segment }, SegmentFile { segment: 2, bytes: &next.bytes }];
    let recovery = recover(genesis(), &files, &Shifted).expect("a log of an earlier build");
    assert_eq!(recovery.recovered.entries, [entry(2, 1, 30)]);

    let mut data = Vec::new();
    shift(DATA, &mut data).unwrap_or_else(|never| match never {});
    let header = encode_snapshot_header(MEMBER, &snapshot().meta, Some(SHIFTED_WITH), &data);
    let written = [header, data].concat();
    let bytes = golden("snapshot-2.txt", &written);
    assert_eq!(bytes, written);
    let expected = SnapshotFile { encrypted_with: Some(SHIFTED_WITH), ..plain_file() };
    assert_eq!(decode_snapshot(9, &bytes.into(), &Shifted), Ok(expected));
}

/// Lines of 32 bytes in hex.
fn golden(name: &str, now: &[u8]) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if !path.exists() && std::env::var_os("UPDATE_GOLDENS").is_some() {
        let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, now.chunks(32).map(line).collect::<String>()).expect("a golden file");
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}
