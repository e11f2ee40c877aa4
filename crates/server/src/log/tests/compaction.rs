//! What is written for long takes no more room than what is written for a while: consensus, writer and snapshots together.

use std::{fs, path::Path, time::Duration};

use consensus::{Config, Consensus, Recovered, Snapshot};

use super::{start_writer, vault};
use crate::log::{HostDisk, Log, LogEvent, LogWriter, SegmentSizes};

const PATIENCE: Duration = Duration::from_secs(20);
const SIZES: SegmentSizes = SegmentSizes { smallest_bytes: 8 << 10, largest_bytes: 64 << 10 };
const COMMAND_BYTES: usize = 300;
const STATE_BYTES: usize = 20 << 10;
const AT_ONCE: u64 = 32;
/// A snapshot after so many entries; there are hundreds of them in all.
const SNAPSHOT_EVERY: u64 = 100;
const COMMANDS: u64 = 20_000;

fn folder_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("the directory");
    // A file may go while this looks.
    entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
}

/// Hands consensus everything that becomes durable, until nothing is under way.
fn settle(consensus: &mut Consensus, writer: &LogWriter, told: &std::sync::mpsc::Receiver<LogEvent>) -> u64 {
    let (mut waits_for, mut applied) = (None, 0);
    loop {
        while let Some(ready) = consensus.ready() {
            if let Some(write) = ready.persist {
                waits_for = Some(write.number);
                writer.append(write);
            }
            if let Some(last) = ready.committed.last().map(|committed| committed.index) {
                consensus.applied(last);
                applied = last;
            }
        }
        if waits_for.is_none() {
            return applied;
        }
        match told.recv_timeout(PATIENCE).expect("the write becomes durable") {
            LogEvent::Persisted { number } => {
                consensus.persisted(number);
                waits_for = waits_for.filter(|waits_for| *waits_for > number);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_folder_stays_as_small_as_the_state_however_much_is_written() {
    // In memory: what a disk takes for so many syncs is not asked here.
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let open = || {
        let disk = HostDisk::open(dir.path()).expect("the directory");
        Log::open_on(disk, SIZES, vault(), || Recovered::bootstrap(1)).expect("the log opens")
    };
    let opened = open();
    let mut config = Config::new(1);
    config.entries_kept = 10;
    let mut consensus = Consensus::new(config, opened.recovered).expect("it starts");
    let (writer, told) = start_writer(opened.log);
    let (mut last, mut covered, mut written, mut most) = (0, 0, 0, 0);
    for number in 0..COMMANDS {
        consensus.propose(vec![number as u8; COMMAND_BYTES]).expect("a single voter leads at once");
        if number % AT_ONCE == AT_ONCE - 1 {
            last = settle(&mut consensus, &writer, &told).max(last);
        }
        if last >= covered + SNAPSHOT_EVERY {
            let meta = consensus.snapshot_meta();
            covered = meta.index;
            let snapshot = Snapshot { meta, data: vec![7; STATE_BYTES].into() };
            writer.compact(writer.snapshots().write(&snapshot).expect("a snapshot"));
            consensus.compact(snapshot);
            written += 1;
        }
        if number % AT_ONCE == 0 {
            most = most.max(folder_bytes(dir.path()));
        }
    }
    last = settle(&mut consensus, &writer, &told).max(last);
    drop(writer);
    assert!(written > 100, "{written} snapshots are too few to say anything");
    // Two snapshots, of which one goes; and of the log what a snapshot does not cover yet: the segment that it ends in,
    // the active one, and one that is made while the first waits for its turn to be removed.
    let bound = 2 * (STATE_BYTES as u64 + 1_000) + 3 * SIZES.largest_bytes;
    assert!(
        most <= bound,
        "{most} bytes of at most {bound}, after {} bytes",
        COMMANDS * COMMAND_BYTES as u64
    );
    let recovered = open().recovered;
    assert_eq!(recovered.last().0, last, "and nothing of it is missing");
}
