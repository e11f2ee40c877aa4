//! Kills for want of memory in a container that goes on: when there was one, and how many there were.
//!
//! How the application itself ended is in its exit record. When the kernel kills another process of the container, nobody
//! is told. Whoever wants to know waits for a descriptor, in the caller's process: keepers stay as small as they are, and
//! nothing is polled.
//!
//! * cgroup2: `memory.events` can be polled, and says POLLPRI when it has changed since it was read. It counts other
//!   things too, such as each time the limit was hit. Source: Documentation/admin-guide/cgroup-v2.rst.
//! * v1: an eventfd that is registered for `memory.oom_control`. It speaks when memory has run out, which is a moment
//!   before a process is killed and counted. Source: Documentation/admin-guide/cgroup-v1/memory.rst, section 10.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, epoll, eventfd};

use super::usage::{keyed, number};
use super::{Groups, Version};
use crate::sys;

/// v1 shows "no limit" as the largest number of whole pages.
pub(crate) const UNLIMITED_BYTES: u64 = 1 << 62;

/// Processes of a container that the kernel killed for want of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OomKills {
    /// Since the container started.
    pub count: u64,
    pub limit_bytes: Option<u64>,
    /// The most that it ever used, where the kernel remembers.
    pub peak_bytes: Option<u64>,
}

/// What a look at an [`OomWatch`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomLook {
    /// No process was killed since the last look.
    Quiet,
    Killed(OomKills),
    /// The container was deleted; there is nothing more to wait for.
    Gone,
}

/// Readable (poll, epoll) when a look may find something.
///
/// The first look tells the kills from before the watch was opened, so it needs no waiting. On cgroup2 a container at its
/// limit wakes up to a hundred times a second without a kill; who waits for it should not look more often than it cares.
#[derive(Debug)]
pub struct OomWatch {
    group: PathBuf,
    event: Event,
    /// As counted by the last look.
    told: u64,
}

#[derive(Debug)]
enum Event {
    /// `memory.events`, and an epoll that waits for it to change.
    Changed { file: File, ready: OwnedFd },
    /// An eventfd that the kernel adds to.
    Announced(OwnedFd),
}

/// The file and the key in it that count kills.
fn kills(version: Version) -> (&'static str, &'static str) {
    match version {
        Version::V1 => ("memory.oom_control", "oom_kill"),
        Version::V2 => ("memory.events", "oom_kill"),
    }
}

impl Groups {
    /// `None` when the container's memory is not counted, or it is gone.
    pub(crate) fn watch_oom(&self) -> io::Result<Option<OomWatch>> {
        let Some((group, version)) = self.memory() else { return Ok(None) };
        let event = match version {
            Version::V1 => Event::announced(group),
            Version::V2 => Event::changed(group, kills(version).0),
        };
        match event {
            Err(error) if is_gone(&error) => Ok(None),
            other => Ok(Some(OomWatch { group: group.to_owned(), event: other?, told: 0 })),
        }
    }
}

/// A group was removed, before or after a file in it was opened.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

impl Event {
    fn changed(group: &Path, name: &str) -> io::Result<Event> {
        let file = File::open(group.join(name))?;
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&ready, &file, epoll::EventData::new_u64(0), epoll::EventFlags::PRI)?;
        Ok(Event::Changed { file, ready })
    }

    fn announced(group: &Path) -> io::Result<Event> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let counter = File::open(group.join(kills(Version::V1).0))?;
        let order = format!("{} {}", event.as_raw_fd(), counter.as_raw_fd());
        fs::write(group.join("cgroup.event_control"), order)?;
        Ok(Event::Announced(event))
    }

    /// Whether a kill was announced that may not be counted yet. What happens after this wakes again.
    fn forget(&self) -> bool {
        match self {
            // Reading the counter forgets.
            Event::Changed { .. } => false,
            Event::Announced(event) => rustix::io::read(event, &mut [0u8; 8]).is_ok(),
        }
    }

    fn count(&self, group: &Path) -> io::Result<u64> {
        let text = match self {
            Event::Changed { file, .. } => {
                let mut text = [0; 512];
                let len = file.read_at(&mut text, 0)?;
                String::from_utf8_lossy(&text[..len]).into_owned()
            }
            Event::Announced(_) => fs::read_to_string(group.join(kills(Version::V1).0))?,
        };
        // Before Linux 4.13 v1 did not count.
        Ok(keyed(&text, kills(self.version()).1).unwrap_or(0))
    }

    fn version(&self) -> Version {
        match self {
            Event::Changed { .. } => Version::V2,
            Event::Announced(_) => Version::V1,
        }
    }
}

impl OomWatch {
    /// Whether there may be something to look at, waiting for it at most `timeout_ms`.
    pub fn wait(&self, timeout_ms: u64) -> io::Result<bool> {
        sys::wait_readable(self.as_fd(), timeout_ms)
    }

    /// What happened since the last look. On v1 this may take up to a second, until an announced kill is counted.
    pub fn look(&mut self) -> io::Result<OomLook> {
        /// The kernel first writes a report of it to its log, which may be a slow console.
        const COUNTED_WITHIN: Duration = Duration::from_secs(1);
        let announced = self.event.forget();
        let deadline = Instant::now() + COUNTED_WITHIN;
        loop {
            match self.event.count(&self.group) {
                Err(error) if is_gone(&error) => return Ok(OomLook::Gone),
                Err(error) => return Err(error),
                Ok(count) if count > self.told => {
                    self.told = count;
                    return Ok(OomLook::Killed(self.kills(count)));
                }
                // Memory may also have been given back in time.
                Ok(_) if !announced || Instant::now() >= deadline => return Ok(OomLook::Quiet),
                Ok(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    fn kills(&self, count: u64) -> OomKills {
        let (peak, limit) = match self.event.version() {
            Version::V1 => ("memory.max_usage_in_bytes", "memory.limit_in_bytes"),
            Version::V2 => ("memory.peak", "memory.max"),
        };
        let read = |file: &str| number(self.group.join(file));
        let limit_bytes = read(limit).filter(|limit| *limit < UNLIMITED_BYTES);
        OomKills { count, limit_bytes, peak_bytes: read(peak) }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.event {
            Event::Changed { ready, .. } => ready.as_fd(),
            Event::Announced(event) => event.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::cgroup::Layout;

    /// `memory.events` is only there with the controller; `cgroup.events` speaks the same way on every host.
    #[test]
    fn a_file_of_cgroup2_wakes_when_it_changed() -> io::Result<()> {
        let Some(unified) = Layout::detect()?.unified else { return Ok(()) };
        let group = unified.join(format!("wharf-unit-{}", std::process::id()));
        fs::create_dir(&group)?;
        let watched = || -> io::Result<()> {
            let event = Event::changed(&group, "cgroup.events")?;
            let Event::Changed { file, ready } = &event else { return Err(io::ErrorKind::Other.into()) };
            let populated = || -> io::Result<Option<u64>> {
                let mut text = [0; 512];
                let len = file.read_at(&mut text, 0)?;
                Ok(keyed(&String::from_utf8_lossy(&text[..len]), "populated"))
            };
            assert_eq!(populated()?, Some(0));
            assert!(!sys::wait_readable(ready.as_fd(), 0)?, "it was read");
            let mut child = Command::new("sleep").arg("1000").spawn()?;
            fs::write(group.join("cgroup.procs"), child.id().to_string())?;
            assert!(sys::wait_readable(ready.as_fd(), 5000)?, "it changed");
            assert_eq!(populated()?, Some(1));
            assert!(!sys::wait_readable(ready.as_fd(), 0)?, "it was read again");
            child.kill()?;
            child.wait()?;
            assert!(sys::wait_readable(ready.as_fd(), 5000)?, "it changed again");
            Ok(())
        };
        let outcome = watched();
        fs::remove_dir(&group)?;
        outcome
    }
}
