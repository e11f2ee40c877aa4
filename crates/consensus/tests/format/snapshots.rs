//! A snapshot's file.

use bytes::Bytes;
use consensus::{
    Membership, Snapshot, SnapshotMeta,
    format::{Damage, NoKeys, SnapshotFile, decode_snapshot, encode_snapshot_header},
};

use crate::MEMBER;

pub(crate) const DATA: &[u8] = b"the applied state";

pub(crate) fn snapshot() -> Snapshot {
    let membership = Membership {
        voters: vec![1, 2, 3],
        learners: vec![4],
        voters_outgoing: vec![1, 2, 5],
        learners_next: vec![5],
        auto_leave: true,
    };
    Snapshot { meta: SnapshotMeta { index: 9, term: 3, membership }, data: Bytes::from_static(DATA) }
}

pub(crate) fn plain_file() -> SnapshotFile {
    SnapshotFile { member: MEMBER, encrypted_with: None, snapshot: snapshot() }
}

pub(crate) fn snapshot_file() -> Vec<u8> {
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
