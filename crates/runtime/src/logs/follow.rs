//! Following a log while it grows, over any number of rotations, without losing or repeating a line.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use super::{LogError, LogLine, entry, numbered, open_chain};

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
    file: File,
    inode: u64,
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
            follower.take(file).map_err(failed)?;
        }
        if let (From::End, Some(current)) = (from, &mut follower.current) {
            current.file.seek(SeekFrom::End(0)).map_err(failed)?;
        }
        Ok(follower)
    }

    /// Every whole line since the last call.
    pub fn poll_lines(&mut self) -> Result<Vec<LogLine>, LogError> {
        let path = self.path.clone();
        self.poll().map_err(|source| LogError::of(&path, source))
    }

    fn poll(&mut self) -> io::Result<Vec<LogLine>> {
        // Forgotten before reading: what is written after this wakes us again.
        self.forget_events()?;
        let mut lines = Vec::new();
        loop {
            // Looked for before reading: once a newer file exists, nothing is added to ours.
            let next = self.next_file()?;
            if let Some(current) = &mut self.current {
                current.read(&mut lines)?;
            }
            match next {
                Some(file) => self.take(file)?,
                None => return Ok(lines),
            }
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

    /// The file that comes after ours, if ours has been rotated; the oldest one there is, if ours is gone.
    fn next_file(&self) -> io::Result<Option<File>> {
        let mut newer = None;
        for number in 0.. {
            let file = match File::open(numbered(&self.path, number)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            let inode = file.metadata()?.ino();
            if self.current.as_ref().is_some_and(|current| current.inode == inode) {
                break;
            }
            newer = Some(file);
        }
        Ok(newer)
    }

    fn take(&mut self, file: File) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        // By descriptor: the name may already mean another file.
        use std::os::fd::AsRawFd;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        inotify::add_watch(&self.notify, path, WatchFlags::MODIFY | WatchFlags::MOVE_SELF)?;
        self.current = Some(Current { file, inode, rest: Vec::new() });
        Ok(())
    }
}

impl Current {
    fn read(&mut self, lines: &mut Vec<LogLine>) -> io::Result<()> {
        self.file.read_to_end(&mut self.rest)?;
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
    use std::fs;
    use std::io::Write;

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
}
