//! The log on a disk that can crash, fail and fill up; and on a real one. Most of it is encrypted here, as it is on hosts;
//! the simulator runs the same stories without.

mod compaction;
mod crash;
mod damage;
mod encryption;
mod faults;
mod host;
mod model_disk;
mod mounts;
mod slow;

use model_disk::ModelDisk;

use std::sync::{
    LazyLock,
    mpsc::{Receiver, channel},
};

use consensus::{Entry, HardState, Membership, Payload, Persist, Recovered, Snapshot, SnapshotMeta};
use model::ClusterId;
use trust::seal::KeyRing;

use super::{Disk, Log, LogEvent, LogWriter, OpenError, Opened, SegmentSizes, Vault};

static RING: LazyLock<KeyRing> = LazyLock::new(|| KeyRing::make(ClusterId(1)).expect("random bytes"));

fn vault() -> Option<Vault> {
    Some(Vault::new(&RING))
}

/// Small segments, so that a short story fills several.
fn open(disk: &ModelDisk) -> Result<Opened<ModelDisk>, OpenError> {
    let sizes = SegmentSizes { smallest_bytes: 4 << 10, largest_bytes: 16 << 10 };
    Log::open_on(disk.clone(), sizes, vault(), || Recovered::bootstrap(1))
}

/// The log's writer, and what it tells.
fn start_writer<D: Disk>(log: Log<D>) -> (LogWriter<D>, Receiver<LogEvent>) {
    let (tell, told) = channel();
    let notify = Box::new(move |event| tell.send(event).expect("the test listens"));
    (LogWriter::start(log, notify).expect("a thread"), told)
}

fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    Entry { index, term, payload: Payload::Command(vec![index as u8; bytes].into()) }
}

fn persist(number: u64, entries: Vec<Entry>) -> Persist {
    Persist { number, snapshot: None, entries, hard_state: None }
}

fn hard_state(term: u64, commit: u64) -> HardState {
    HardState { term, vote: 1, commit }
}

fn snapshot(index: u64, term: u64) -> Snapshot {
    let meta = SnapshotMeta { index, term, membership: Membership::single(1) };
    Snapshot { meta, data: format!("the state at {index}").into() }
}

/// What a log is after these writes, done the obvious way.
fn after(mut recovered: Recovered, writes: &[Persist]) -> Recovered {
    for write in writes {
        if let Some(snapshot) = &write.snapshot {
            recovered.snapshot = Some(snapshot.clone());
            recovered.entries.clear();
        }
        if let Some(first) = write.entries.first() {
            recovered.entries.retain(|entry| entry.index < first.index);
        }
        recovered.entries.extend(write.entries.iter().cloned());
        recovered.hard_state = write.hard_state.unwrap_or(recovered.hard_state);
    }
    settle(recovered)
}

/// The commit index is a hint: a snapshot proves more.
fn settle(mut recovered: Recovered) -> Recovered {
    let base = recovered.snapshot.as_ref().map_or(0, |snapshot| snapshot.meta.index);
    recovered.entries.retain(|entry| entry.index > base);
    recovered.hard_state.commit = recovered.hard_state.commit.max(base);
    recovered
}
