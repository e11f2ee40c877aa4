//! The same log on the real file system.

use std::{sync::mpsc::channel, time::Duration};

use consensus::{Config, Consensus, Recovered, format::segment_name};
use tempfile::TempDir;

use super::{entry, persist, snapshot};
use crate::log::{Log, LogError, LogEvent, LogWriter, OpenError};

const PATIENCE: Duration = Duration::from_secs(20);

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[test]
fn a_log_is_made_written_and_opened_again() {
    let dir = directory();
    let path = dir.path().join("log");
    let opened = Log::open(&path, || Recovered::bootstrap(1)).expect("a new log");
    assert!(opened.report.created);
    let mut log = opened.log;
    log.append(&[persist(1, vec![entry(2, 1, 100), entry(3, 1, 100)])]).expect("an append");
    drop(log);
    let opened = Log::open(&path, || panic!("there is a log")).expect("the log opens");
    assert!(!opened.report.created);
    assert_eq!(opened.report.torn, None);
    assert_eq!(opened.recovered.entries, [entry(2, 1, 100), entry(3, 1, 100)]);
    let start = std::fs::metadata(path.join(segment_name(1))).expect("the segment").len();
    assert_eq!(start, 256 << 10, "a small cluster writes little at its start");
}

#[test]
fn nothing_is_acknowledged_into_a_file_that_was_removed() {
    let dir = directory();
    let mut log = Log::open(dir.path(), || Recovered::bootstrap(1)).expect("a new log").log;
    log.append(&[persist(1, vec![entry(2, 1, 100)])]).expect("an append");
    std::fs::remove_file(dir.path().join(segment_name(1))).expect("the segment");
    let error = log.append(&[persist(2, vec![entry(3, 1, 100)])]).expect_err("it cannot be read again");
    assert!(matches!(error, LogError::Fatal { .. }), "{error}");
}

#[test]
fn two_servers_cannot_share_a_directory() {
    let dir = directory();
    let first = Log::open(dir.path(), || Recovered::bootstrap(1)).expect("a new log");
    let error = Log::open(dir.path(), || Recovered::bootstrap(2)).expect_err("it is in use");
    let OpenError::Locked { holder, .. } = &error else { panic!("{error}") };
    assert_eq!(holder.trim(), std::process::id().to_string());
    drop(first);
    Log::open(dir.path(), || Recovered::bootstrap(2)).expect("the lock went with the server");
}

#[test]
fn a_torn_tail_is_reported_and_cut_once() {
    let dir = directory();
    let mut log = Log::open(dir.path(), || Recovered::bootstrap(1)).expect("a new log").log;
    log.append(&[persist(1, vec![entry(2, 1, 100)])]).expect("an append");
    log.append(&[persist(2, vec![entry(3, 1, 900)])]).expect("an append");
    drop(log);
    let name = dir.path().join(segment_name(1));
    let mut bytes = std::fs::read(&name).expect("the segment");
    bytes[1024..1536].fill(0);
    std::fs::write(&name, &bytes).expect("the segment");
    let opened = Log::open(dir.path(), || panic!("there is a log")).expect("a torn tail is no damage");
    assert_eq!(opened.recovered.entries.len(), 1);
    let torn = opened.report.torn.expect("it is reported");
    assert_eq!((torn.offset, torn.bytes), (1024, 1024));
    drop(opened.log);
    let opened = Log::open(dir.path(), || panic!("there is a log")).expect("the log opens");
    assert_eq!(opened.report.torn, None);
}

#[test]
fn a_snapshot_removes_the_segments_that_it_covers() {
    let dir = directory();
    let mut log = Log::open(dir.path(), || Recovered::bootstrap(1)).expect("a new log").log;
    for index in 2..12 {
        log.append(&[persist(index, vec![entry(index, 1, 150 << 10)])]).expect("an append");
    }
    assert!(dir.path().join(segment_name(1)).exists());
    let saved = log.snapshots().write(&snapshot(9, 1)).expect("a snapshot");
    log.compact(&saved).expect("a compaction");
    assert!(!dir.path().join(segment_name(1)).exists());
    drop(log);
    let recovered = Log::open(dir.path(), || panic!("there is a log")).expect("the log opens").recovered;
    assert_eq!(recovered.snapshot, Some(snapshot(9, 1)));
    assert_eq!(recovered.entries, [entry(10, 1, 150 << 10), entry(11, 1, 150 << 10)]);
}

/// `/dev/full` answers every write with ENOSPC, as a real full disk does.
#[test]
fn the_kernels_word_for_a_full_disk_is_understood() {
    let error = std::fs::write("/dev/full", b"x").expect_err("it is full");
    assert!(matches!(LogError::of_new_file("x", "written", error), LogError::Full { .. }));
}

/// The whole way: consensus and writer together, one voter, two lives.
#[test]
fn a_single_voter_commits_to_a_real_log() {
    let dir = directory();
    for life in 0..3_u64 {
        let opened = Log::open(dir.path(), || Recovered::bootstrap(1)).expect("the log opens");
        let mut consensus = Consensus::new(Config::new(1), opened.recovered).expect("it starts");
        let (tell, told) = channel();
        let notify = Box::new(move |event| tell.send(event).expect("the test listens"));
        let writer = LogWriter::start(opened.log, notify).expect("a thread");
        let mut commands = 0;
        for number in 0..10_u64 {
            consensus
                .propose((life * 10 + number).to_le_bytes().to_vec())
                .expect("a single voter leads at once");
        }
        while commands < (life + 1) * 10 {
            while let Some(ready) = consensus.ready() {
                assert_eq!(ready.messages, [], "there is nobody to write to");
                ready.persist.into_iter().for_each(|write| writer.append(write));
                if let Some(last) = ready.committed.last().map(|committed| committed.index) {
                    commands += ready
                        .committed
                        .iter()
                        .filter(|c| c.entry != consensus::CommittedEntry::Empty)
                        .count() as u64;
                    consensus.applied(last);
                }
            }
            if commands < (life + 1) * 10 {
                match told.recv_timeout(PATIENCE).expect("the write becomes durable") {
                    LogEvent::Persisted { number } => consensus.persisted(number),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(commands, (life + 1) * 10);
    }
}
