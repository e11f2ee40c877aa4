//! One segment: torn where it ends, damaged anywhere.

use consensus::{
    HardState,
    format::{Damage, HEADER_BYTES, SECTOR_BYTES, segment_name, segment_number},
};

use crate::{MEMBER, entries_after, entry, recover_one, small};

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
