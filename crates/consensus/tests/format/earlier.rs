//! What earlier builds wrote, and where encryption leaves it.

use consensus::format::{
    DataKey, Decrypt, EncryptedAt, GroupBuilder, NoKeys, Position, SegmentFile, SegmentHeader, SnapshotFile,
    decode_snapshot, encode_snapshot_header, recover,
};

use crate::{
    LENGTH, MEMBER, Writer, entry, genesis, recover_one, small,
    snapshots::{DATA, plain_file, snapshot, snapshot_file},
};

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
