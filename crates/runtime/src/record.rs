//! What a container leaves in its run directory, so that any later agent can take it over.
//!
//! * `state`: who it is, in JSON; written before the application is executed.
//! * `plan`: the request it was started from, for exec; see `frame.rs`. It gets its name when the application was executed:
//!   until then the first process may still see the host's files.
//! * `exit`: how it ended; written by the keeper, see `keeper/exit.rs`.
//!
//! A crash of the host, or a broken disk, may leave torn files. Then what they said is unknown, of this container only.
//!
//! A process is told apart from a later one with the same pid by its start time and the boot it belongs to.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

use crate::cgroup::{Groups, UNLIMITED_BYTES};
use crate::id::ContainerId;

/// The length of an exit record, reserved when the container starts. The keeper has the same number.
pub(crate) const RECORD_BYTES: usize = 512;

/// A process that cannot be mistaken for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// Clock ticks since boot, field 22 of /proc/pid/stat.
    start: u64,
}

impl ProcessId {
    pub(crate) fn of(pid: i32) -> io::Result<ProcessId> {
        let start = start_ticks(pid)?;
        Ok(ProcessId { pid, start })
    }

    /// A descriptor for the process; `None` when it is gone, even if its number is in use again.
    pub(crate) fn open(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Compared after opening: what the descriptor holds can no longer change.
        match start_ticks(self.pid) {
            Ok(start) if start == self.start => Ok(Some(pidfd)),
            Ok(_) => Ok(None),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound)
                    || error.raw_os_error() == Some(libc::ESRCH) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn start_ticks(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may contain anything, so counting starts behind the last one. Source: proc_pid_stat(5).
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = after_name.split_whitespace().nth(19).and_then(|field| field.parse().ok());
    field.ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has an unknown form")))
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Of this format; a reader refuses a higher one.
    pub(crate) version: u32,
    pub(crate) id: ContainerId,
    pub(crate) boot: String,
    pub(crate) keeper: ProcessId,
    /// The first process; missing until it exists.
    pub(crate) first: Option<ProcessId>,
    pub(crate) groups: Groups,
    pub(crate) log: PathBuf,
    pub(crate) created_ms: u64,
}

impl State {
    pub(crate) const VERSION: u32 = 1;

    /// Replaces the state file as a whole.
    pub(crate) fn write(&self, run_dir: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        fs::write(run_dir.join("state.tmp"), text)?;
        fs::rename(run_dir.join("state.tmp"), run_dir.join("state"))
    }

    /// `None` when there is no such file, or it is torn.
    pub(crate) fn read(run_dir: &Path) -> io::Result<Option<State>> {
        /// All that may be asked of a format that is not known yet.
        #[derive(Deserialize)]
        struct Format {
            version: u32,
        }
        let path = run_dir.join("state");
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match serde_json::from_slice(&text) {
            Ok(Format { version }) if version > State::VERSION => {
                let reason = format!("{} was written by a newer wharf (format {version})", path.display());
                Err(io::Error::new(io::ErrorKind::InvalidData, reason))
            }
            Ok(_) | Err(_) => Ok(serde_json::from_slice(&text).ok()),
        }
    }

    /// The first process, if it lives. After a boot its number may belong to anybody.
    pub(crate) fn first(&self, boot: &str) -> io::Result<Option<OwnedFd>> {
        match &self.first {
            Some(first) if self.boot == boot => first.open(),
            _ => Ok(None),
        }
    }

    /// The keeper, likewise.
    pub(crate) fn keeper(&self, boot: &str) -> io::Result<Option<OwnedFd>> {
        if self.boot == boot { self.keeper.open() } else { Ok(None) }
    }
}

pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// How the application ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Code(i32),
    Signal(i32),
    /// The keeper died, or the host went down, before the end could be recorded.
    Unknown,
}

/// The end of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitRecord {
    pub ending: Ending,
    /// The kernel killed processes of the container for want of memory, and that is how the application ended.
    pub oom_killed: bool,
    /// How many processes the kernel killed for want of memory, whether or not the application survived it.
    pub oom_kills: u64,
    pub memory_limit_bytes: Option<u64>,
    pub memory_peak_bytes: Option<u64>,
    pub started_ms: u64,
    /// Missing when the ending is unknown.
    pub finished_ms: Option<u64>,
    /// Log entries that could not be written.
    pub dropped_log_entries: u64,
}

impl ExitRecord {
    pub(crate) fn unknown(started_ms: u64) -> ExitRecord {
        ExitRecord {
            ending: Ending::Unknown,
            oom_killed: false,
            oom_kills: 0,
            memory_limit_bytes: None,
            memory_peak_bytes: None,
            started_ms,
            finished_ms: None,
            dropped_log_entries: 0,
        }
    }

    /// Of a container that was started then. A record that cannot be read tells that it ended, and no more.
    pub(crate) fn read(run_dir: &Path, started_ms: u64) -> io::Result<Option<ExitRecord>> {
        match fs::read(run_dir.join("exit")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(bytes) => {
                let record = ExitRecord::parse(&String::from_utf8_lossy(&bytes));
                Ok(Some(record.unwrap_or_else(|| ExitRecord::unknown(started_ms))))
            }
        }
    }

    fn parse(text: &str) -> Option<ExitRecord> {
        let field = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse::<u64>().ok())
        };
        if field("version") != Some(1) || !text.lines().any(|line| line == "end") {
            return None;
        }
        let ending = match (field("code"), field("signal")) {
            (Some(code), None) => Ending::Code(code as i32),
            (None, Some(signal)) => Ending::Signal(signal as i32),
            _ => return None,
        };
        let oom_kills = field("oom_kills").unwrap_or(0);
        // A shell reports a killed child as 128 and the signal.
        let killed = matches!(ending, Ending::Signal(libc::SIGKILL) | Ending::Code(137));
        Some(ExitRecord {
            ending,
            oom_killed: oom_kills > 0 && killed,
            oom_kills,
            memory_limit_bytes: field("memory_limit").filter(|limit| *limit < UNLIMITED_BYTES),
            memory_peak_bytes: field("memory_peak"),
            started_ms: field("started_ms")?,
            finished_ms: Some(field("finished_ms")?),
            dropped_log_entries: field("dropped_entries").unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: &str = "version 1\nsignal 9\nstarted_ms 5\nfinished_ms 7\ndropped_entries 0\noom_kills 1\n\
                          memory_peak 1000\nmemory_limit 1024\nend\n\n\n";

    #[test]
    fn an_oom_kill_is_told_with_limit_and_peak() {
        let record = ExitRecord::parse(KILLED).expect("a record");
        assert_eq!(record.ending, Ending::Signal(9));
        assert!(record.oom_killed);
        assert_eq!((record.memory_peak_bytes, record.memory_limit_bytes), (Some(1000), Some(1024)));
    }

    #[test]
    fn a_survived_oom_kill_does_not_explain_the_end() {
        let record = ExitRecord::parse(&KILLED.replace("signal 9", "code 0")).expect("a record");
        assert!(!record.oom_killed);
        assert_eq!(record.oom_kills, 1);
    }

    #[test]
    fn a_torn_record_is_none() {
        for len in 0..KILLED.find("end").expect("an end") {
            assert_eq!(ExitRecord::parse(&KILLED[..len]), None, "{:?}", &KILLED[..len]);
        }
    }

    #[test]
    fn a_newer_format_is_refused_and_a_torn_file_is_none() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("state"), "{\"version\": 99, \"new\": 1}")?;
        let error = State::read(dir.path()).expect_err("a newer format").to_string();
        assert!(error.ends_with("was written by a newer wharf (format 99)"), "{error}");
        for torn in ["", "\0\0\0", "{\"version\": 1, \"id\": \"a"] {
            fs::write(dir.path().join("state"), torn)?;
            assert_eq!(State::read(dir.path())?, None, "{torn:?}");
        }
        Ok(())
    }

    #[test]
    fn a_process_is_not_mistaken_for_a_later_one() -> io::Result<()> {
        let own = ProcessId::of(std::process::id() as i32)?;
        assert!(own.open()?.is_some());
        let earlier = ProcessId { pid: own.pid, start: own.start - 1 };
        assert!(earlier.open()?.is_none());
        Ok(())
    }
}
