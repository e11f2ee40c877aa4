//! The audit: one line of JSON for everything that was written and everything that was refused, on the server that decided.
//!
//! ```text
//! {"time":"2026-11-23T15:00:00.123Z","who":{"token":"ci","id":"0zk..."},"from":"10.0.0.9:51234","verb":"apply",
//!  "about":["shop/web"],"outcome":"done","became":[{"service":"shop/web","generation":4,...}]}
//! ```
//!
//! `outcome` is `done`, `failed` (allowed, and then it could not be), `refused` (not allowed), or `unknown` (whoever asked
//! has gone before the answer). Who shows no token that is known is nobody: of those there are only a few lines a minute,
//! and `unreported` says how many were left out. A line is in the file before its answer leaves; it is not synced, so it survives the
//! server's crash and not the host's. Nothing secret is in it: of a failure only its reason, since messages quote what was
//! sent.
//!
//! The file is `audit.log` in the server's data folder, or where `--audit-log` says. At [`LARGEST`] bytes it becomes
//! `audit.log.1`, that one `audit.log.2`, and so on: [`FILES`] of them at most. A line that cannot be written stops nothing.
//! It is told in the server's log, at once and each minute that it lasts, and the next line that can be written tells how
//! many are missing: a full disk must not keep an administrator from draining the host that has it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};
use tonic::{Code, Status};

use crate::{access::Asker, clock};

/// In the server's data folder.
pub const FILE: &str = "audit.log";
/// Of one file, in bytes.
pub const LARGEST: u64 = 64 << 20;
/// How many files there are at most, the one that is written to among them.
pub const FILES: u32 = 4;
/// How often a trouble that lasts is told.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// So many lines a minute are of those who show no token that is known: else they could push out all others.
const UNRECOGNISED: u32 = 6;

/// Clones are of the same file.
#[derive(Clone, Debug)]
pub(crate) struct Audit(Arc<Mutex<Lines>>);

#[derive(Debug)]
struct Lines {
    path: PathBuf,
    largest: u64,
    open: Option<(File, u64)>,
    /// That could not be written, since the last one that could.
    lost: u64,
    told: Option<Instant>,
    unrecognised: Unrecognised,
}

#[derive(Debug)]
struct Unrecognised {
    minute: Instant,
    lines: u32,
    /// That were passed over, since the last one that was not.
    more: u64,
}

/// What is known before it is known how it ends.
#[derive(Debug)]
pub(crate) struct Entry(Json);

/// How it ended.
#[derive(Debug)]
pub(crate) enum Outcome<'a> {
    /// And what it became.
    Done(Json),
    Refused(&'a Status),
    Failed(&'a Status),
    Unknown,
}

impl Entry {
    pub(crate) fn new(asker: &Asker, verb: &'static str, about: Vec<String>) -> Entry {
        let (who, from) = (asker.to_json(), asker.shown_from());
        Entry(json!({ "who": who, "from": from, "verb": verb, "about": about }))
    }

    pub(crate) fn ended(self, outcome: Outcome<'_>) -> Json {
        let mut line = self.0;
        match outcome {
            Outcome::Done(became) => {
                line["outcome"] = "done".into();
                if !became.is_null() {
                    line["became"] = became;
                }
            }
            // These are our own words about names and rights.
            Outcome::Refused(status) => {
                line["outcome"] = "refused".into();
                line["reason"] = match status.code() {
                    Code::PermissionDenied | Code::Unauthenticated => status.message().into(),
                    _ => reason(status).into(),
                };
            }
            Outcome::Failed(status) => {
                line["outcome"] = "failed".into();
                line["reason"] = reason(status).into();
            }
            Outcome::Unknown => line["outcome"] = "unknown".into(),
        }
        line
    }
}

fn reason(status: &Status) -> String {
    proto::reason::reason(status).map_or_else(|| format!("{:?}", status.code()), proto::reason::name)
}

impl Audit {
    pub(crate) fn new(path: PathBuf) -> Audit {
        Audit::with_files_of(path, LARGEST)
    }

    fn with_files_of(path: PathBuf, largest: u64) -> Audit {
        let unrecognised = Unrecognised { minute: Instant::now(), lines: 0, more: 0 };
        let lines = Lines { path, largest, open: None, lost: 0, told: None, unrecognised };
        Audit(Arc::new(Mutex::new(lines)))
    }

    /// Of somebody who may be anybody.
    pub(crate) fn unrecognised(&self, from: Option<SocketAddr>, status: &Status) {
        let mut lines = self.lines();
        let Some(more) = lines.unrecognised.take_turn() else { return };
        let from = from.map(|from| from.to_string());
        let mut line = json!({ "who": null, "from": from, "outcome": "refused", "reason": status.message() });
        if more > 0 {
            line["unreported"] = more.into();
        }
        lines.write(line);
    }

    pub(crate) fn write(&self, line: Json) {
        self.lines().write(line);
    }

    /// A panic while holding the lock leaves at worst a line that is cut.
    fn lines(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unrecognised {
    /// How many were passed over since the last one; none where this one is to be, too.
    fn take_turn(&mut self) -> Option<u64> {
        if self.minute.elapsed() >= Duration::from_secs(60) {
            (self.minute, self.lines) = (Instant::now(), 0);
        }
        if self.lines >= UNRECOGNISED {
            self.more += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.more))
    }
}

impl Lines {
    fn write(&mut self, line: Json) {
        let mut whole = json!({ "time": time() });
        if let (Some(whole), Json::Object(line)) = (whole.as_object_mut(), line) {
            whole.extend(line);
            if self.lost > 0 {
                whole.insert("lost".to_owned(), self.lost.into());
            }
        }
        match self.append(&format!("{whole}\n")) {
            Ok(()) => {
                if self.lost > 0 {
                    tracing::warn!(lost = self.lost, "the audit is written again; lines are missing in it");
                }
                (self.lost, self.told) = (0, None);
            }
            Err(error) => {
                self.lost += 1;
                // Perhaps another file can be opened the next time.
                self.open = None;
                if self.told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
                    self.told = Some(Instant::now());
                    let (path, lost) = (self.path.display(), self.lost);
                    tracing::error!(%path, %error, lost, "the audit cannot be written; what is asked is done all the same");
                }
            }
        }
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        let bytes = line.len() as u64;
        if self.open.as_ref().is_some_and(|(_, length)| length + bytes > self.largest) {
            self.open = None;
            rotate(&self.path)?;
        }
        if self.open.is_none() {
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
            let length = file.metadata()?.len();
            self.open = Some((file, length));
        }
        let Some((file, length)) = &mut self.open else { return Ok(()) };
        file.write_all(line.as_bytes())?;
        *length += bytes;
        Ok(())
    }
}

/// The oldest goes.
fn rotate(path: &Path) -> io::Result<()> {
    let numbered = |number: u32| match number {
        0 => path.to_owned(),
        number => {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        }
    };
    for number in (1..FILES).rev() {
        match std::fs::rename(numbered(number - 1), numbered(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// RFC 3339, in UTC.
fn time() -> String {
    let now = jiff::Timestamp::from_millisecond(clock::wall().0 as i64);
    now.map(|now| format!("{now:.3}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Vec<Json> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn files_are_bounded_and_the_oldest_lines_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let audit = Audit::with_files_of(path.clone(), 500);
        for number in 0..100 {
            audit.write(json!({ "number": number }));
        }
        let mut files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap()).collect();
        files.sort_by_key(|file| std::cmp::Reverse(file.file_name()));
        assert_eq!(files.len(), FILES as usize);
        assert!(files.iter().all(|file| file.metadata().unwrap().len() <= 500));
        let lines: Vec<Json> = files.iter().flat_map(|file| read(&file.path())).collect();
        let numbers: Vec<u64> = lines.iter().map(|line| line["number"].as_u64().unwrap()).collect();
        let first = numbers[0];
        assert_eq!(numbers, (first..100).collect::<Vec<_>>(), "the last ones, and none is missing");
        // Another start goes on with the same file.
        Audit::with_files_of(path.clone(), 500).write(json!({ "number": 100 }));
        assert_eq!(read(&path).last().unwrap()["number"], 100);
    }

    #[test]
    fn what_could_not_be_written_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("away/audit.log");
        let audit = Audit::new(path.clone());
        audit.write(json!({ "number": 1 }));
        audit.write(json!({ "number": 2 }));
        std::fs::create_dir(folder.path().join("away")).unwrap();
        audit.write(json!({ "number": 3 }));
        audit.write(json!({ "number": 4 }));
        let lines = read(&path);
        assert_eq!((&lines[0]["number"], &lines[0]["lost"]), (&json!(3), &json!(2)));
        assert_eq!((&lines[1]["number"], &lines[1]["lost"]), (&json!(4), &Json::Null));
    }

    #[test]
    fn strangers_do_not_fill_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let audit = Audit::new(path.clone());
        for _ in 0..1_000 {
            audit.unrecognised(None, &Status::unauthenticated("not known"));
        }
        assert_eq!(read(&path).len(), UNRECOGNISED as usize);
    }
}
