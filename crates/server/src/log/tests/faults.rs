//! Syncs that fail, disks that fill up, and the writer's answers to both.

use std::time::Duration;

use consensus::format::segment_name;

use super::{
    entry,
    model_disk::{Faults, ModelDisk},
    open, persist, snapshot, start_writer,
};
use crate::log::{LogError, LogEvent, OpenError, Opened};

const PATIENCE: Duration = Duration::from_secs(20);

fn reopen(disk: &ModelDisk) -> Opened<ModelDisk> {
    open(disk).expect("the log opens")
}

#[test]
fn a_failed_sync_ends_the_log_for_good() {
    let disk = ModelDisk::default();
    let mut log = reopen(&disk).log;
    log.append(&[persist(1, vec![entry(2, 1, 10)])]).expect("a good disk");
    disk.set_faults(Faults { fail_syncs_from: Some(1), ..Faults::default() });
    let failed = log.append(&[persist(2, vec![entry(3, 1, 10)])]);
    assert!(matches!(failed, Err(LogError::Fatal { action: "synced", .. })), "{failed:?}");
    disk.set_faults(Faults::default());
    let later = log.append(&[persist(2, vec![entry(3, 1, 10)])]);
    assert!(
        matches!(later, Err(LogError::Poisoned)),
        "the disk is well again, but who knows what is on it: {later:?}"
    );
    let saved = log.snapshots().write(&snapshot(2, 1)).expect("snapshots are other files");
    assert!(matches!(log.compact(&saved), Err(LogError::Poisoned)));
}

/// The kernel makes a file system read-only when its disk fails.
#[test]
fn a_disk_that_cannot_be_written_any_more_ends_the_log_and_keeps_what_was_acknowledged() {
    const EROFS: i32 = 30;
    const EIO: i32 = 5;
    for number in [EROFS, EIO] {
        let disk = ModelDisk::default();
        let mut log = reopen(&disk).log;
        log.append(&[persist(1, vec![entry(2, 1, 10)])]).expect("a good disk");
        disk.set_faults(Faults { fail_writes_with: Some(number), ..Faults::default() });
        let failed = log.append(&[persist(2, vec![entry(3, 1, 10)])]);
        assert!(matches!(failed, Err(LogError::Fatal { action: "written", .. })), "{failed:?}");
        let snapshot = log.snapshots().write(&snapshot(2, 1));
        assert!(matches!(snapshot, Err(LogError::Fatal { .. })), "{snapshot:?}");
        drop(log);
        disk.restart(&mut || true);
        assert_eq!(reopen(&disk).recovered.entries, [entry(2, 1, 10)]);
    }
}

#[test]
fn a_full_disk_loses_nothing_and_is_tried_again() {
    let disk = ModelDisk::default();
    let mut log = reopen(&disk).log;
    log.append(&[persist(1, vec![entry(2, 1, 2 << 10)])]).expect("room in the first segment");
    disk.set_faults(Faults { capacity_bytes: Some(6 << 10), ..Faults::default() });
    let big = [persist(2, vec![entry(3, 1, 2 << 10)])];
    for _ in 0..3 {
        assert!(matches!(log.append(&big), Err(LogError::Full { .. })));
    }
    log.append(&[persist(2, vec![entry(3, 1, 10)])])
        .expect("what fits in the segment can be written all the same");
    let full = log.snapshots().write(&snapshot(3, 1)).map(drop);
    full.expect("a small snapshot fits");
    disk.set_faults(Faults::default());
    log.append(&[persist(3, vec![entry(4, 1, 2 << 10)])]).expect("there is room again");
    drop(log);
    disk.restart(&mut || false);
    let entries: Vec<u64> = reopen(&disk).recovered.entries.iter().map(|entry| entry.index).collect();
    assert_eq!(entries, [4], "entries 2 and 3 are in the snapshot");
}

#[test]
fn the_writer_waits_for_room_and_acknowledges_nothing_meanwhile() {
    let disk = ModelDisk::default();
    let opened = reopen(&disk);
    disk.set_faults(Faults { capacity_bytes: Some(0), ..Faults::default() });
    let (writer, told) = start_writer(opened.log);
    writer.append(persist(1, vec![entry(2, 1, 5 << 10)]));
    assert!(matches!(told.recv_timeout(PATIENCE), Ok(LogEvent::Full(LogError::Full { .. }))));
    writer.append(persist(2, vec![entry(3, 1, 10)]));
    disk.set_faults(Faults::default());
    assert!(matches!(told.recv_timeout(PATIENCE), Ok(LogEvent::Writable)));
    let last = std::iter::from_fn(|| told.recv_timeout(PATIENCE).ok())
        .map(|event| match event {
            LogEvent::Persisted { number } => number,
            other => panic!("{other:?}"),
        })
        .find(|&number| number == 2);
    assert_eq!(last, Some(2));
    drop(writer);
    disk.restart(&mut || false);
    assert_eq!(reopen(&disk).recovered.entries.len(), 2);
}

#[test]
fn what_finds_no_room_where_it_is_appended_is_left_to_the_writer() {
    let disk = ModelDisk::default();
    let opened = reopen(&disk);
    disk.set_faults(Faults { capacity_bytes: Some(0), ..Faults::default() });
    let (writer, told) = start_writer(opened.log);
    assert!(writer.append_here(vec![persist(1, vec![entry(2, 1, 5 << 10)])]).is_none());
    assert!(matches!(told.recv_timeout(PATIENCE), Ok(LogEvent::Full(LogError::Full { .. }))));
    disk.set_faults(Faults::default());
    assert!(matches!(told.recv_timeout(PATIENCE), Ok(LogEvent::Writable)));
    assert!(matches!(told.recv_timeout(PATIENCE), Ok(LogEvent::Persisted { number: 1 })));
    drop(writer);
    disk.restart(&mut || false);
    assert_eq!(reopen(&disk).recovered.entries.len(), 1);
}

#[test]
fn a_sync_that_fails_is_told_where_it_was_asked_for() {
    let disk = ModelDisk::default();
    let opened = reopen(&disk);
    disk.set_faults(Faults { fail_syncs_from: Some(1), ..Faults::default() });
    let (writer, told) = start_writer(opened.log);
    let failed = writer.append_here(vec![persist(1, vec![entry(2, 1, 10)])]);
    assert!(matches!(failed, Some(LogEvent::Failed(LogError::Fatal { .. }))));
    let again = writer.append_here(vec![persist(1, vec![entry(2, 1, 10)])]);
    assert!(matches!(again, Some(LogEvent::Failed(LogError::Poisoned))));
    drop(writer);
    assert!(told.recv().is_err(), "nothing was acknowledged");
}

#[test]
fn the_writer_reports_a_failed_sync_and_ends() {
    let disk = ModelDisk::default();
    let opened = reopen(&disk);
    disk.set_faults(Faults { fail_syncs_from: Some(1), ..Faults::default() });
    let (writer, told) = start_writer(opened.log);
    writer.append(persist(1, vec![entry(2, 1, 10)]));
    assert!(matches!(told.recv_timeout(PATIENCE), Ok(LogEvent::Failed(LogError::Fatal { .. }))));
    writer.append(persist(2, vec![entry(3, 1, 10)]));
    drop(writer);
    assert!(told.recv().is_err(), "nothing was acknowledged after that");
}

/// A group costs one write and one sync, whatever is in it.
#[test]
fn a_group_is_one_write_and_one_sync() {
    let disk = ModelDisk::default();
    let mut log = reopen(&disk).log;
    disk.set_faults(Faults::default());
    let batch: Vec<_> = (1..=64).map(|n| persist(n, vec![entry(n + 1, 1, 20)])).collect();
    log.append(&batch).expect("a good disk");
    assert_eq!(disk.operations(), 2);
}

#[test]
fn damage_is_refused_and_nothing_is_touched() {
    let disk = ModelDisk::default();
    let mut log = reopen(&disk).log;
    for number in 1..4 {
        log.append(&[persist(number, vec![entry(number + 1, 1, 100)])]).expect("a good disk");
    }
    drop(log);
    let name = segment_name(1);
    disk.change(&name, |bytes| bytes[600] ^= 4);
    let before = disk.bytes(&name);
    let error = open(&disk).expect_err("a flipped bit");
    assert!(matches!(error, OpenError::Corrupt(ref corruption) if corruption.offset == 512), "{error}");
    assert_eq!(disk.bytes(&name), before);
}
