//! Reading the logs that keepers write, current and rotated files together.
//!
//! The format is that of the Container Runtime Interface, see `keeper/log.rs`. `log` is the current file, `log.1` the
//! one before. Files may be rotated while they are read: they are told apart by inode, never by name.

mod entry;
mod follow;

pub use entry::{LogLine, Stream};
pub use follow::{From, LogFollower};

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A log file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the log {path}", path = path.display())]
pub struct LogError {
    pub path: PathBuf,
    pub source: io::Error,
}

impl LogError {
    fn of(path: &Path, source: io::Error) -> LogError {
        LogError { path: path.to_owned(), source }
    }
}

/// The last `tail` lines, or all, that are not older than `since_unix_ms`; the oldest first. No log yet means no lines.
pub fn read(path: &Path, tail: Option<usize>, since_unix_ms: Option<u64>) -> Result<Vec<LogLine>, LogError> {
    let wanted = tail.unwrap_or(usize::MAX);
    let mut newest_first = Vec::new();
    for mut log in open_chain(path)? {
        let mut bytes = Vec::new();
        log.file.read_to_end(&mut bytes).map_err(|source| LogError::of(path, source))?;
        // What has no newline yet is being written right now.
        for line in bytes.split_inclusive(|byte| *byte == b'\n').rev().filter_map(entry::parse_whole) {
            let too_old = since_unix_ms.is_some_and(|since| line.unix_ns / 1_000_000 < since);
            if too_old || newest_first.len() >= wanted {
                newest_first.reverse();
                return Ok(newest_first);
            }
            newest_first.push(line);
        }
    }
    newest_first.reverse();
    Ok(newest_first)
}

/// How often a chain is looked at again because it was rotated meanwhile. What rotates faster than it can be opened has
/// no chain that anybody could tell.
const LOOKS: u32 = 100;

/// A file of a log. The inode tells it from the others, whatever its name is by now.
#[derive(Debug)]
struct LogFile {
    file: File,
    inode: u64,
}

impl LogFile {
    fn open(path: &Path) -> Result<Option<LogFile>, LogError> {
        let failed = |source| LogError::of(path, source);
        match File::open(path) {
            Ok(file) => {
                let inode = file.metadata().map_err(failed)?.ino();
                Ok(Some(LogFile { file, inode }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

/// The current file and the rotated ones, the newest first, each once.
fn open_chain(path: &Path) -> Result<Vec<LogFile>, LogError> {
    let mut chain = look_at_chain(path)?;
    for _ in 0..LOOKS {
        let newest = chain.first().map(|newest| newest.inode);
        let again = look_at_chain(path)?;
        let is_steady = newest == again.first().map(|newest| newest.inode) && chain.len() == again.len();
        chain = again;
        if is_steady {
            break;
        }
    }
    Ok(chain)
}

/// A rotation renames one file after the other, from the oldest to the newest, so one name may be missing at any moment, and
/// the files behind it are there all the same.
fn look_at_chain(path: &Path) -> Result<Vec<LogFile>, LogError> {
    let mut seen = HashSet::new();
    let mut chain = Vec::new();
    let mut missing = 0;
    for number in 0.. {
        match LogFile::open(&numbered(path, number))? {
            // Rotated between two opens, the same file appears under the next name again.
            Some(file) => {
                missing = 0;
                if seen.insert(file.inode) {
                    chain.push(file);
                }
            }
            None if missing == 0 => missing = 1,
            None => break,
        }
    }
    Ok(chain)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    PathBuf::from(name)
}
