//! Following a log while it grows, over any number of rotations, without losing or repeating a line.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use super::{LogError, LogFile, LogLine, entry, open_chain};

/// Where following begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The oldest line there is.
    Beginning,
    /// What is written from now on.
    End,
}

/// Wait until it is readable, then call `poll_lines`; it never blocks.
#[derive(Debug)]
pub struct LogFollower {
    path: PathBuf,
    notify: OwnedFd,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    log: LogFile,
    /// The beginning of a line whose end is not there yet.
    rest: Vec<u8>,
}

impl LogFollower {
    /// The log itself need not exist yet, but its directory must.
    pub fn open(path: &Path, from: From) -> Result<LogFollower, LogError> {
        let failed = |source: io::Error| LogError::of(path, source);
        let notify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|error| failed(error.into()))?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        inotify::add_watch(&notify, directory, WatchFlags::CREATE).map_err(|error| failed(error.into()))?;
        let mut follower = LogFollower { path: path.to_owned(), notify, current: None };
        let mut chain = open_chain(path)?;
        let first = match from {
            From::Beginning => chain.pop(),
            From::End => chain.drain(..).next(),
        };
        if let Some(file) = first {
            follower.take(file)?;
        }
        if let (From::End, Some(current)) = (from, &mut follower.current) {
            current.log.file.seek(SeekFrom::End(0)).map_err(failed)?;
        }
        Ok(follower)
    }

    /// Every whole line since the last call.
    pub fn poll_lines(&mut self) -> Result<Vec<LogLine>, LogError> {
        // Forgotten before reading: what is written after this wakes us again.
        self.forget_events().map_err(|source| LogError::of(&self.path, source))?;
        let mut lines = Vec::new();
        // Looked for before reading: once a newer file exists, nothing is added to ours.
        let newer = self.newer_files()?;
        self.read(&mut lines)?;
        for file in newer {
            self.take(file)?;
            self.read(&mut lines)?;
        }
        Ok(lines)
    }

    fn read(&mut self, lines: &mut Vec<LogLine>) -> Result<(), LogError> {
        match &mut self.current {
            Some(current) => current.read(lines).map_err(|source| LogError::of(&self.path, source)),
            None => Ok(()),
        }
    }

    fn forget_events(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.notify, &mut buffer);
        loop {
            match events.next() {
                Ok(event) => drop(event.events() & ReadFlags::all()),
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Those that come after ours, the oldest first; all there are, if ours is gone.
    fn newer_files(&self) -> Result<Vec<LogFile>, LogError> {
        let inode = self.current.as_ref().map(|current| current.log.inode);
        // The usual case, for the price of one look: ours is still the one that is written.
        if inode.is_some() && fs::metadata(&self.path).is_ok_and(|newest| Some(newest.ino()) == inode) {
            return Ok(Vec::new());
        }
        let mut newer: Vec<LogFile> =
            open_chain(&self.path)?.into_iter().take_while(|log| Some(log.inode) != inode).collect();
        newer.reverse();
        Ok(newer)
    }

    fn take(&mut self, log: LogFile) -> Result<(), LogError> {
        // By descriptor: the name may already mean another file.
        let path = format!("/proc/self/fd/{}", log.file.as_raw_fd());
        inotify::add_watch(&self.notify, path, WatchFlags::MODIFY | WatchFlags::MOVE_SELF)
            .map_err(|error| LogError::of(&self.path, error.into()))?;
        self.current = Some(Current { log, rest: Vec::new() });
        Ok(())
    }
}

impl Current {
    fn read(&mut self, lines: &mut Vec<LogLine>) -> io::Result<()> {
        self.log.file.read_to_end(&mut self.rest)?;
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let ready: Vec<u8> = self.rest.drain(..whole).collect();
        lines.extend(ready.split_inclusive(|byte| *byte == b'\n').filter_map(entry::parse_whole));
        Ok(())
    }
}

impl AsFd for LogFollower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use super::super::numbered;
    use super::*;

    fn write(file: &mut File, number: u32) {
        writeln!(file, "2026-11-23T05:00:00.000000000Z stdout F {number}").expect("a write");
    }

    fn texts(lines: Vec<LogLine>) -> Vec<String> {
        lines.into_iter().map(|line| String::from_utf8(line.text).expect("text")).collect()
    }

    #[test]
    fn rotations_between_two_looks_lose_and_repeat_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        let mut follower = LogFollower::open(&log, From::Beginning).expect("a follower");
        let mut file = File::create(&log).expect("a log");
        let mut seen = Vec::new();
        for number in 0..40 {
            write(&mut file, number);
            if number % 3 == 0 {
                for old in (0..4).rev() {
                    let _missing = fs::rename(numbered(&log, old), numbered(&log, old + 1));
                }
                file = File::create(&log).expect("a log");
            }
            if number % 7 == 0 {
                seen.extend(texts(follower.poll_lines().expect("lines")));
            }
        }
        seen.extend(texts(follower.poll_lines().expect("lines")));
        let expected: Vec<String> = (0..40).map(|number: u32| number.to_string()).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_end_begins_after_what_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        let mut file = File::create(&log).expect("a log");
        write(&mut file, 1);
        let mut follower = LogFollower::open(&log, From::End).expect("a follower");
        write(&mut file, 2);
        assert_eq!(texts(follower.poll_lines().expect("lines")), ["2"]);
        file.write_all(b"2026-11-23T05:00:00.000000000Z stdout F to").expect("half a line");
        assert!(follower.poll_lines().expect("lines").is_empty(), "half a line is none");
        file.write_all(b"rn\n").expect("the other half");
        assert_eq!(texts(follower.poll_lines().expect("lines")), ["torn"]);
    }

    /// As a keeper does it, step by step: whoever looks in the middle finds one name missing.
    #[test]
    fn a_look_in_the_middle_of_a_rotation_loses_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        for steps in 0..=4 {
            for number in 0..4 {
                write(&mut File::create(numbered(&log, number)).expect("a log"), 9 - number);
            }
            // Ours is the oldest, and two were rotated since.
            let mut follower = LogFollower::open(&log, From::Beginning).expect("a follower");
            let renames = (0..3).rev().map(|number| (numbered(&log, number), numbered(&log, number + 1)));
            let mut done = 0;
            for (from, to) in renames.take(steps) {
                fs::rename(from, to).expect("a rotation");
                done += 1;
            }
            if steps > done {
                write(&mut File::create(&log).expect("a log"), 10);
            }
            let mut seen = texts(follower.poll_lines().expect("lines"));
            let mut expected = vec!["6", "7", "8", "9"];
            expected.extend((steps > done).then_some("10"));
            assert_eq!(seen, expected, "after {steps} steps");
            // The same for who reads all; what was rotated out is gone.
            let all = super::super::read(&log, None, None).expect("lines");
            if steps > 0 {
                seen.remove(0);
            }
            assert_eq!(texts(all), seen, "after {steps} steps");
        }
    }

    /// A writer that rotates as fast as it can, and a follower that keeps up because it holds the writer up.
    #[test]
    fn whoever_keeps_up_sees_every_line_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        let mut follower = LogFollower::open(&log, From::Beginning).expect("a follower");
        const LINES: u32 = 1_500;
        let seen_up_to = std::sync::atomic::AtomicU32::new(0);
        let order = std::sync::atomic::Ordering::SeqCst;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut file = File::create(&log).expect("a log");
                for number in 0..LINES {
                    write(&mut file, number);
                    if number % 5 == 4 {
                        // Four files are kept: with fewer than three rotations since the last look nothing is out of reach.
                        while number - seen_up_to.load(order) > 10 {
                            std::thread::yield_now();
                        }
                        for old in (0..4).rev() {
                            let _missing = fs::rename(numbered(&log, old), numbered(&log, old + 1));
                        }
                        file = File::create(&log).expect("a log");
                    }
                }
            });
            let mut expected = 0;
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
            while expected < LINES {
                assert!(std::time::Instant::now() < deadline, "seen last: {expected}");
                for text in texts(follower.poll_lines().expect("lines")) {
                    assert_eq!(text, expected.to_string());
                    expected += 1;
                }
                seen_up_to.store(expected.saturating_sub(1), order);
            }
        });
    }
}
