//! A disk whose syncs take as long as the test wants, below a real directory.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        mpsc::{Receiver, TryRecvError},
    },
    time::Duration,
};

use consensus::Recovered;

use super::{entry, persist, snapshot, start_writer};
use crate::log::{Disk, DiskFile, HostDisk, Log, LogEvent, LogWriter, SegmentSizes, writer::SLOW};

const PATIENCE: Duration = Duration::from_secs(20);

/// Syncs that began, and those that may end.
#[derive(Clone, Debug, Default)]
struct Gate(Arc<(Mutex<Syncs>, Condvar)>);

#[derive(Debug, Default)]
struct Syncs {
    closed: bool,
    begun: u64,
    allowed: u64,
}

impl Gate {
    fn change(&self, change: impl FnOnce(&mut Syncs)) {
        change(&mut self.0.0.lock().expect("the gate"));
        self.0.1.notify_all();
    }

    fn close(&self) {
        self.change(|syncs| *syncs = Syncs { closed: true, ..Syncs::default() });
    }

    /// One more sync ends.
    fn allow_one(&self) {
        self.change(|syncs| syncs.allowed += 1);
    }

    fn wait_until_begun(&self, count: u64) {
        let syncs = self.0.0.lock().expect("the gate");
        let (syncs, waited) =
            self.0.1.wait_timeout_while(syncs, PATIENCE, |syncs| syncs.begun < count).expect("the gate");
        assert!(!waited.timed_out(), "sync {count} did not begin: {syncs:?}");
    }

    fn pass(&self) {
        let mut syncs = self.0.0.lock().expect("the gate");
        syncs.begun += 1;
        let mine = syncs.begun;
        self.0.1.notify_all();
        drop(self.0.1.wait_while(syncs, |syncs| syncs.closed && syncs.allowed < mine).expect("the gate"));
    }
}

#[derive(Clone, Debug)]
struct SlowDisk(HostDisk, Gate);

struct SlowFile(File, Gate);

impl Disk for SlowDisk {
    type File = SlowFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.0.read(name)
    }

    fn create(&self, name: &str) -> io::Result<SlowFile> {
        self.0.create(name).map(|file| SlowFile(file, self.1.clone()))
    }

    fn open(&self, name: &str) -> io::Result<SlowFile> {
        self.0.open(name).map(|file| SlowFile(file, self.1.clone()))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.0.sync_names()
    }
}

impl DiskFile for SlowFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.1.pass();
        self.0.sync()
    }
}

fn persisted(told: &Receiver<LogEvent>) -> u64 {
    match told.recv_timeout(PATIENCE).expect("it becomes durable") {
        LogEvent::Persisted { number } => number,
        other => panic!("{other:?}"),
    }
}

/// A new log behind a gate, and what its writer tells.
fn start(dir: &Path) -> (Gate, LogWriter<SlowDisk>, Receiver<LogEvent>) {
    let gate = Gate::default();
    let disk = SlowDisk(HostDisk::open(dir).expect("the directory"), gate.clone());
    let opened =
        Log::open_on(disk, SegmentSizes::default(), None, || Recovered::bootstrap(1)).expect("a new log");
    let (writer, told) = start_writer(opened.log);
    (gate, writer, told)
}

#[test]
fn a_write_that_waits_for_nothing_is_durable_when_the_call_returns() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (_, writer, told) = start(dir.path());
    let group = vec![persist(1, vec![entry(2, 1, 10)]), persist(2, vec![entry(3, 1, 10)])];
    assert!(matches!(writer.append_here(group), Some(LogEvent::Persisted { number: 2 })));
    assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)), "the thread had nothing to do with it");
    drop(writer);
    let opened = Log::open(dir.path(), || panic!("there is a log")).expect("the log opens");
    assert_eq!(opened.recovered.entries.len(), 2);
}

#[test]
fn nobody_waits_twice_for_a_slow_disk() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (gate, writer, told) = start(dir.path());
    gate.close();
    let late = gate.clone();
    let disk = std::thread::spawn(move || {
        late.wait_until_begun(1);
        std::thread::sleep(SLOW);
        late.allow_one();
    });
    assert!(matches!(
        writer.append_here(vec![persist(1, vec![entry(2, 1, 10)])]),
        Some(LogEvent::Persisted { number: 1 })
    ));
    disk.join().expect("no panic");
    // Were it written here, it would wait for what comes after it.
    assert!(writer.append_here(vec![persist(2, vec![entry(3, 1, 10)])]).is_none());
    gate.allow_one();
    assert_eq!(persisted(&told), 2);
    // Whether that one was slow is up to the test's machine: once one of the thread's was quick, it is written here again.
    gate.change(|syncs| syncs.closed = false);
    let is_here = (3..1_000).find(|&number| {
        let event = writer.append_here(vec![persist(number, vec![entry(number + 1, 1, 10)])]);
        if event.is_none() {
            assert_eq!(persisted(&told), number);
        }
        event.is_some()
    });
    assert!(is_here.is_some(), "a quick disk is trusted again");
}

#[test]
fn nothing_is_acknowledged_before_its_sync_and_what_waits_goes_into_one() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (gate, writer, told) = start(dir.path());
    gate.close();
    writer.append(persist(1, vec![entry(2, 1, 10)]));
    gate.wait_until_begun(1);
    for number in 2..=50 {
        writer.append(persist(number, vec![entry(number + 1, 1, 10)]));
    }
    assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)), "nothing is durable yet");
    gate.allow_one();
    assert_eq!(persisted(&told), 1);
    gate.wait_until_begun(2);
    assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)), "the rest is not durable yet");
    // A snapshot that is written meanwhile has syncs of its own, and waits for nobody else's.
    let snapshots = writer.snapshots();
    let beside = std::thread::spawn(move || snapshots.write(&snapshot(2, 1)));
    gate.wait_until_begun(3);
    gate.allow_one();
    assert_eq!(persisted(&told), 50, "all that waited is one group");
    gate.allow_one();
    beside.join().expect("no panic").expect("a snapshot");
    drop(writer);
    let opened = Log::open(dir.path(), || panic!("there is a log")).expect("the log opens");
    assert_eq!(opened.recovered.entries.len(), 49, "entries 3 to 51");
}
