//! Whole file systems that are full or cannot be written. Needs root.

use std::{ffi::CString, fs, path::Path};

use consensus::Recovered;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use tempfile::TempDir;

use super::{entry, persist};
use crate::log::{Log, LogError, OpenError};

/// A file system of its own. By system calls, because a program that is started has the locks of the tests beside until
/// it is one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(size: &str) -> SmallDisk {
        let disk = SmallDisk(tempfile::tempdir().expect("a temporary directory"));
        let options = CString::new(format!("size={size},mode=700")).expect("no zero");
        mount("log-test", disk.path(), "tmpfs", MountFlags::empty(), Some(options.as_c_str()))
            .expect("a mount");
        disk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, flags: MountFlags, options: &str) {
        let options = CString::new(options).expect("no zero");
        mount_remount(self.path(), flags, options.as_c_str()).expect("a remount");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The directory is removed next, and that fails loudly if this did not work.
        let _ = unmount(self.path(), UnmountFlags::empty());
    }
}

#[test]
fn a_really_full_disk_is_survived_and_nothing_half_made_is_left() {
    let disk = SmallDisk::new("600k");
    let path = disk.path();
    let mut log = Log::open(path, || Recovered::bootstrap(1)).expect("a new log").log;
    log.append(&[persist(1, vec![entry(2, 1, 200 << 10)])]).expect("room in the first segment");
    for _ in 0..2 {
        let full = log.append(&[persist(2, vec![entry(3, 1, 200 << 10)])]);
        assert!(matches!(full, Err(LogError::Full { .. })), "{full:?}");
    }
    let drafts = fs::read_dir(path).expect("the directory").filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with(".tmp"))
    });
    assert_eq!(drafts.count(), 0);
    disk.remount(MountFlags::empty(), "size=4m");
    log.append(&[persist(2, vec![entry(3, 1, 200 << 10)])]).expect("there is room now");
    drop(log);
    let recovered = Log::open(path, || panic!("there is a log")).expect("the log opens").recovered;
    assert_eq!(recovered.entries.len(), 2);
}

/// Nothing has to be made for that: the log was left as it is needed.
#[test]
fn a_log_on_a_disk_without_any_room_opens_and_its_segment_is_filled() {
    let disk = SmallDisk::new("2m");
    let path = disk.path();
    let mut log = Log::open(path, || Recovered::bootstrap(1)).expect("a new log").log;
    log.append(&[persist(1, vec![entry(2, 1, 700)])]).expect("room in the first segment");
    drop(log);
    let written = fs::write(path.join("filler"), vec![1; 4 << 20]);
    assert_eq!(written.expect_err("more than there is").kind(), std::io::ErrorKind::StorageFull);
    for number in 2..=3 {
        let opened = Log::open(path, || panic!("there is a log"));
        let opened = opened.unwrap_or_else(|error| panic!("{error}: {error:?}"));
        assert_eq!(opened.recovered.entries.len() as u64, number - 1);
        let mut log = opened.log;
        log.append(&[persist(number, vec![entry(number + 1, 1, 700)])]).expect("room in the first segment");
        let full = log.append(&[persist(number + 1, vec![entry(number + 2, 1, 300 << 10)])]);
        assert!(matches!(full, Err(LogError::Full { .. })), "{full:?}");
    }
}

#[test]
fn a_file_system_that_cannot_be_written_is_refused_by_name_and_opens_once_it_can() {
    let disk = SmallDisk::new("2m");
    let path = disk.path();
    let mut log = Log::open(path, || Recovered::bootstrap(1)).expect("a new log").log;
    log.append(&[persist(1, vec![entry(2, 1, 700)])]).expect("an append");
    drop(log);
    disk.remount(MountFlags::RDONLY, "");
    let error = Log::open(path, || panic!("there is a log")).expect_err("nothing can be written");
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
    let words = error.to_string();
    for part in [path.to_str().expect("a path"), "read-only", "mount -o remount,rw"] {
        assert!(words.contains(part), "{part:?} is not in {words}");
    }
    disk.remount(MountFlags::empty(), "");
    let opened = Log::open(path, || panic!("there is a log")).expect("it can be written again");
    assert_eq!(opened.recovered.entries.len(), 1);
}
