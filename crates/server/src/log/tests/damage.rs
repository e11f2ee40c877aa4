//! Files of a real log, damaged in every way that fits a loop: the log opens with everything that was acknowledged, or it
//! is refused by file and offset, and then no file was changed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use consensus::{
    Entry, Recovered,
    format::{Corruption, SECTOR_BYTES, segment_name, snapshot_name},
};
use tempfile::TempDir;

use super::{entry, persist, snapshot, vault};
use crate::log::{HostDisk, Log, OpenError, Opened, SegmentSizes};

const SEGMENT_BYTES: u64 = 6 * SECTOR_BYTES as u64;

/// In memory: these tests write each file thousands of times, and what they ask has nothing to do with a platter.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").expect("a directory in memory")
}

fn open(dir: &Path) -> Result<Opened, OpenError> {
    let sizes = SegmentSizes { smallest_bytes: SEGMENT_BYTES, largest_bytes: SEGMENT_BYTES };
    Log::open_on(HostDisk::open(dir)?, sizes, vault(), || Recovered::bootstrap(1))
}

/// A log as it is between two writes: every file of it that means something.
struct Files {
    dir: TempDir,
    files: BTreeMap<String, Vec<u8>>,
    entries: Vec<Entry>,
}

impl Files {
    /// A snapshot at 4, and two or more segments with the entries after it.
    fn new() -> Files {
        let dir = directory();
        let mut log = open(dir.path()).expect("a new log").log;
        let entries: Vec<Entry> = (2..=10).map(|index| entry(index, 1, 300)).collect();
        for entry in &entries {
            log.append(&[persist(entry.index, vec![entry.clone()])]).expect("an append");
        }
        let saved = log.snapshots().write(&snapshot(4, 1)).expect("a snapshot");
        log.compact(&saved).expect("a compaction");
        drop(log);
        let files = read_all(dir.path());
        let segments = files.keys().filter(|name| name.ends_with(".wal")).count();
        assert!(segments >= 3, "too small a story: {segments} segments");
        let entries = entries.into_iter().filter(|entry| entry.index > 4).collect();
        Files { dir, files, entries }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn segments(&self) -> Vec<String> {
        self.files.keys().filter(|name| name.ends_with(".wal")).cloned().collect()
    }

    fn last_segment(&self) -> String {
        self.segments().pop().expect("a segment")
    }

    /// Up to where something was ever written.
    fn written(&self, name: &str) -> usize {
        let bytes = &self.files[name];
        let last = bytes.iter().rposition(|byte| *byte != 0).expect("an empty file");
        if name.ends_with(".wal") { (last + 1).next_multiple_of(SECTOR_BYTES) } else { bytes.len() }
    }

    /// Everything as it was.
    fn restore(&self) {
        for name in read_all(self.dir.path()).keys().filter(|name| !self.files.contains_key(*name)) {
            fs::remove_file(self.path(name)).expect("a file too many");
        }
        for (name, bytes) in &self.files {
            fs::write(self.path(name), bytes).expect("a file");
        }
    }

    fn refused(&self, what: &str) -> Corruption {
        let before = read_all(self.dir.path());
        let corruption = self.corruption(what);
        assert_eq!(read_all(self.dir.path()), before, "{what}: something was changed");
        let words = corruption.to_string();
        for part in [corruption.file.as_str(), &format!("byte {}", corruption.offset), "Repair: "] {
            assert!(words.contains(part), "{what}: {part:?} is not in {words}");
        }
        corruption
    }

    fn corruption(&self, what: &str) -> Corruption {
        let error = open(self.dir.path()).map(drop).expect_err(what);
        let OpenError::Corrupt(corruption) = error else { panic!("{what}: {error:?}") };
        corruption
    }

    /// Opens it twice: what was torn is reported once, and nothing is missing.
    fn opens(&self, what: &str) -> bool {
        let opened = open(self.dir.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(opened.recovered.entries, self.entries, "{what}");
        let torn = opened.report.torn.is_some();
        drop(opened);
        let again = open(self.dir.path()).unwrap_or_else(|error| panic!("{what}, again: {error}"));
        assert_eq!(
            (again.recovered.entries, again.report.torn),
            (self.entries.clone(), None),
            "{what}, again"
        );
        torn
    }
}

fn read_all(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = fs::read_dir(dir).expect("the directory").map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.into_string().expect("a name")).filter(|name| name != "lock");
    names.map(|name| (name.clone(), fs::read(dir.join(name)).expect("a file"))).collect()
}

#[test]
fn a_last_write_torn_at_any_byte_costs_nothing_that_was_acknowledged() {
    let files = Files::new();
    let name = files.last_segment();
    let acknowledged = files.files[&name].clone();
    let end = files.written(&name);
    let mut log = open(files.dir.path()).expect("the log").log;
    log.append(&[persist(11, vec![entry(11, 1, 700)])]).expect("an append");
    drop(log);
    let whole = fs::read(files.path(&name)).expect("the segment");
    assert_ne!(whole, acknowledged, "the write went to another segment");
    let last = whole.iter().rposition(|byte| *byte != 0).expect("something is written");
    for cut in end..=last {
        let mut bytes = whole.clone();
        bytes[cut..].fill(0);
        let differs = bytes != acknowledged;
        fs::write(files.path(&name), &bytes).expect("the segment");
        assert_eq!(files.opens(&format!("cut at {cut}")), differs, "cut at {cut}");
    }
}

#[test]
fn a_file_that_is_shorter_than_it_was_made_is_refused() {
    let files = Files::new();
    for (name, bytes) in &files.files {
        for length in 0..bytes.len() {
            fs::write(files.path(name), &bytes[..length]).expect("the file");
            assert_eq!(&files.refused(&format!("{name} with {length} bytes")).file, name);
        }
        files.restore();
    }
}

#[test]
fn every_flipped_bit_in_what_was_written_is_refused_where_it_is() {
    let files = Files::new();
    for (name, bytes) in &files.files {
        for bit in 0..files.written(name) * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(files.path(name), &flipped).expect("the file");
            let what = format!("bit {bit} of {name}");
            // Reading all files again takes longer than the rest: once for each byte.
            let refused = if bit % 8 == bit / 8 % 8 { files.refused(&what) } else { files.corruption(&what) };
            assert_eq!(&refused.file, name, "bit {bit}");
            assert!(refused.offset as usize <= bit / 8, "bit {bit}: {refused}");
        }
        files.restore();
    }
}

#[test]
fn a_flipped_bit_where_nothing_was_written_yet_costs_nothing() {
    let files = Files::new();
    let name = files.last_segment();
    let bytes = &files.files[&name];
    // The last byte of a sector says that it was written whole: a bit there is what the test above is about.
    let marks = |at: &usize| (at + 1).is_multiple_of(SECTOR_BYTES);
    for at in (files.written(&name)..bytes.len()).filter(|at| !marks(at)) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(files.path(&name), &flipped).expect("the file");
        assert!(files.opens(&format!("byte {at}")), "byte {at} was cut without a word");
    }
}

#[test]
fn missing_swapped_and_copied_files_are_refused() {
    let files = Files::new();
    for name in files.files.keys() {
        fs::remove_file(files.path(name)).expect("the file");
        files.refused(&format!("{name} is missing"));
        files.restore();
    }
    let segments = files.segments();
    for (at, one) in segments.iter().enumerate() {
        for other in &segments[at + 1..] {
            fs::write(files.path(one), &files.files[other]).expect("the file");
            files.refused(&format!("{other} also under the name of {one}"));
            fs::write(files.path(other), &files.files[one]).expect("the file");
            files.refused(&format!("{one} and {other} are swapped"));
            files.restore();
        }
    }
    fs::rename(files.path(&snapshot_name(4)), files.path(&snapshot_name(5))).expect("the snapshot");
    assert_eq!(files.refused("a snapshot under another name").file, snapshot_name(5));
    files.restore();
    let first = segments.first().expect("a segment");
    fs::copy(files.path(first), files.path(&segment_name(99))).expect("a copy");
    files.refused("a segment too many");
    files.restore();
    assert!(!files.opens("nothing is damaged"));
}
