//! What lies on the disk is unreadable without the keys, whatever the keys were when it was written.

use std::collections::BTreeSet;

use consensus::{
    Recovered,
    format::{DataKey, segment_name, snapshot_name},
};
use model::ClusterId;
use trust::seal::{KeyId, KeyRing};

use super::{RING, entry, model_disk::ModelDisk, open, persist, snapshot};
use crate::log::{Disk as _, Log, OpenError, Opened, SegmentSizes, Vault};

const SIZES: SegmentSizes = SegmentSizes { smallest_bytes: 4 << 10, largest_bytes: 16 << 10 };

fn open_with(disk: &ModelDisk, ring: Option<&KeyRing>) -> Result<Opened<ModelDisk>, OpenError> {
    Log::open_on(disk.clone(), SIZES, ring.map(Vault::new), || Recovered::bootstrap(1))
}

fn keys(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<DataKey> {
    numbers.into_iter().map(DataKey).collect()
}

fn indexes(opened: &Opened<ModelDisk>) -> Vec<u64> {
    opened.recovered.entries.iter().map(|entry| entry.index).collect()
}

/// Every entry is a run of one byte, and so is easily found where it can be read.
fn shows(disk: &ModelDisk, needle: &[u8]) -> Vec<String> {
    let names = disk.list().expect("the names").into_iter();
    names.filter(|name| disk.bytes(name).windows(needle.len()).any(|window| window == needle)).collect()
}

#[test]
fn neither_entries_nor_snapshots_can_be_read_from_the_disk() {
    let (plain, encrypted) = (ModelDisk::default(), ModelDisk::default());
    for (disk, ring) in [(&plain, None), (&encrypted, Some(&*RING))] {
        let mut log = open_with(disk, ring).expect("a new log").log;
        log.append(&[persist(1, vec![entry(2, 1, 100), entry(3, 1, 100)])]).expect("an append");
        log.snapshots().write(&snapshot(2, 1)).expect("a snapshot");
    }
    // The needles are good: without encryption they are found.
    assert_eq!(shows(&plain, &[3; 50]), [segment_name(1)]);
    assert_eq!(shows(&plain, b"the state at"), [snapshot_name(2)]);
    for needle in [&[2; 50][..], &[3; 50], b"the state at"] {
        assert_eq!(shows(&encrypted, needle), [""; 0]);
    }
}

#[test]
fn a_log_of_before_is_read_and_goes_on_encrypted() {
    let disk = ModelDisk::default();
    let mut log = open_with(&disk, None).expect("a new log").log;
    log.append(&[persist(1, vec![entry(2, 1, 100)])]).expect("an append");
    log.snapshots().write(&snapshot(2, 1)).expect("a snapshot");
    log.append(&[persist(2, vec![entry(3, 1, 100)])]).expect("an append");
    drop(log);
    let mut opened = open_with(&disk, Some(&RING)).expect("a log of before");
    assert_eq!((indexes(&opened), opened.report.keys.clone()), (vec![3], keys([])));
    opened.log.append(&[persist(3, vec![entry(4, 1, 100)])]).expect("an append");
    assert_eq!((shows(&disk, &[3; 50]), shows(&disk, &[4; 50])), (vec![segment_name(1)], vec![]));
    let saved = opened.log.snapshots().write(&snapshot(3, 1)).expect("a snapshot");
    opened.log.compact(&saved).expect("a compaction");
    assert_eq!(
        (shows(&disk, &[3; 50]), shows(&disk, b"the state")),
        (vec![], vec![]),
        "nothing is left of it"
    );
    drop(opened);
    let opened = open_with(&disk, Some(&RING)).expect("the log opens");
    assert_eq!((indexes(&opened), opened.report.keys), (vec![4], keys([1])));
}

/// Empty, the log is what it was; then a key is added while it is written.
#[test]
fn a_new_key_encrypts_from_the_next_write_on_and_the_old_one_is_needed_until_it_is_covered() {
    let disk = ModelDisk::default();
    let mut ring = KeyRing::make(ClusterId(1)).expect("random bytes");
    let vault = Vault::new(&ring);
    let opened = Log::open_on(disk.clone(), SIZES, Some(vault.clone()), || Recovered::bootstrap(1));
    let mut log = opened.expect("a new log").log;
    let snapshots = log.snapshots();
    log.append(&[persist(1, vec![entry(2, 1, 100)])]).expect("an append");
    assert_eq!(ring.rotate().expect("random bytes"), KeyId(2));
    vault.change(&ring);
    log.append(&[persist(2, vec![entry(3, 1, 100)])]).expect("an append");
    drop(log);

    let opened = open_with(&disk, Some(&ring)).expect("both keys are there");
    assert_eq!((indexes(&opened), opened.report.keys.clone()), (vec![2, 3], keys([1, 2])));
    let mut log = opened.log;
    // Whoever writes snapshots had the vault before the key came into it.
    let saved = snapshots.write(&snapshot(2, 1)).expect("a snapshot");
    log.compact(&saved).expect("a compaction");
    drop((log, snapshots));
    let opened = open_with(&disk, Some(&ring)).expect("both keys are there");
    assert_eq!((indexes(&opened), opened.report.keys.clone()), (vec![3], keys([2])));
    drop(opened);
    ring.retire(KeyId(1)).expect("it is not needed");
    assert_eq!(indexes(&open_with(&disk, Some(&ring)).expect("the new key is enough")), [3]);
}

#[test]
fn without_the_key_nothing_is_read_and_nothing_is_changed() {
    let disk = ModelDisk::default();
    let mut log = open(&disk).expect("a new log").log;
    log.append(&[persist(1, vec![entry(2, 1, 100)])]).expect("an append");
    drop(log);
    let other = KeyRing::make(ClusterId(1)).expect("random bytes");
    let mut newer = RING.clone();
    newer.rotate().expect("random bytes");
    newer.retire(KeyId(1)).expect("it is not the active one");
    let before: Vec<Vec<u8>> = disk.list().expect("names").iter().map(|name| disk.bytes(name)).collect();
    for (ring, why) in [
        (None, "it needs data key 1, and there are no keys"),
        (Some(&newer), "the record is sealed with data key 1, which the cluster's keys do not have"),
        (Some(&other), "the record is damaged, or was sealed for another place"),
    ] {
        let error = open_with(&disk, ring).map(drop).expect_err(why).to_string();
        assert!(error.contains(why) && error.contains("cannot be decrypted"), "{error}");
    }
    let after: Vec<Vec<u8>> = disk.list().expect("names").iter().map(|name| disk.bytes(name)).collect();
    assert_eq!(before, after);
}

/// Whoever can write to the disk, but has no key, can make good checksums. What they cannot do is write entries.
#[test]
fn an_entry_that_was_written_without_the_key_is_refused() {
    let (real, forged) = (ModelDisk::default(), ModelDisk::default());
    drop(open(&real).expect("a new log"));
    let mut log = open_with(&forged, None).expect("a new log").log;
    log.append(&[persist(1, vec![entry(2, 1, 100)])]).expect("an append");
    drop(log);
    let name = segment_name(1);
    let group = forged.bytes(&name)[512..1024].to_vec();
    real.change(&name, |bytes| bytes[512..1024].copy_from_slice(&group));
    let error = open(&real).map(drop).expect_err("a forged entry").to_string();
    assert!(error.contains("byte 512: write group 1 is not encrypted"), "{error}");
}
