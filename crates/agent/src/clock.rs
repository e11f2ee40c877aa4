//! The agent's clock: the wall's at the first start of an agent since the host's, and from then on steady.
//!
//! Backoffs and probes must not jump when an administrator or NTP sets the clock, so the time since then is added to what the
//! wall clock showed then. The next agent goes on with it, because it reads in the ledger what this one wrote: the clock is
//! kept beside the runtime's state, together with the run of the host that it is of. In another run of the host it goes on
//! from the newest time in the ledger: how long the host did not run nobody can tell, since its wall clock may be another now,
//! and time in which nothing ran is none that a replica could have used. It goes on while the host sleeps (CLOCK_BOOTTIME): a lease that was given
//! before ends all the same.
//!
//! Nobody compares it with another host's. What must be true on other hosts, such as the validity of a certificate, is for
//! [`wall`].

use std::{
    io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use model::{Millis, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// Where the kernel tells which run of the host this is. Source: random(4).
pub(crate) const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Since the host started, also while it slept; what other processes of this host can compare with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BootTime(pub(crate) Millis);

impl BootTime {
    fn now() -> BootTime {
        let now = clock_gettime(ClockId::Boottime);
        BootTime(Millis(now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000))
    }
}

/// What the host's wall clock shows now; it may jump.
pub(crate) fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since_epoch.as_millis() as u64)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    started_at: Timestamp,
    started: BootTime,
}

impl Clock {
    /// The clock of this run of the host, which is kept at `path`; where there is none yet, one that shows `newest` now.
    pub(crate) fn open(path: &Path, newest: Option<Timestamp>) -> io::Result<Clock> {
        Clock::open_in(path, std::fs::read_to_string(BOOT_ID)?.trim(), newest.unwrap_or_else(wall))
    }

    fn open_in(path: &Path, boot: &str, begins: Timestamp) -> io::Result<Clock> {
        // One that cannot be read is none: then the clock is wrong by as much as the wall's was set since.
        let kept = std::fs::read_to_string(path).ok().and_then(|text| Clock::of_text(&text, boot));
        if let Some(clock) = kept {
            return Ok(clock);
        }
        let clock = Clock { started_at: begins, started: BootTime::now() };
        let (Timestamp(at), BootTime(since)) = (clock.started_at, clock.started);
        std::fs::write(path, format!("{boot} {at} {}\n", since.0))?;
        Ok(clock)
    }

    fn of_text(text: &str, boot: &str) -> Option<Clock> {
        let mut words = text.strip_suffix('\n')?.split(' ');
        let of_this_run = words.next() == Some(boot);
        let mut number = || words.next()?.parse::<u64>().ok();
        let (started_at, started) = (Timestamp(number()?), BootTime(Millis(number()?)));
        of_this_run.then_some(Clock { started_at, started })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.at(BootTime::now())
    }

    /// What this clock showed when the wall's showed that, unless the wall's was set since. Never later than now.
    pub(crate) fn at_wall(&self, at: Timestamp) -> Timestamp {
        let ago = wall().since(at);
        Timestamp(self.now().0.saturating_sub(ago.0))
    }

    /// What this clock shows at that time. The beginning of time if that is before it could show anything.
    pub(crate) fn at(&self, time: BootTime) -> Timestamp {
        let (BootTime(time), BootTime(started)) = (time, self.started);
        Timestamp((self.started_at.0 + time.0).saturating_sub(started.0))
    }

    /// When this clock will show that time.
    pub(crate) fn boot_time(&self, at: Timestamp) -> BootTime {
        let BootTime(started) = self.started;
        BootTime(Millis((at.0 + started.0).saturating_sub(self.started_at.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_there_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::open(&folder.path().join("clock"), None).unwrap();
        let (now, later) = (clock.now(), clock.now() + Millis(5_000));
        assert_eq!(clock.at(clock.boot_time(later)), later);
        assert!(clock.boot_time(now) <= BootTime::now());
        // Before the host started.
        assert!(clock.at(BootTime(Millis::ZERO)) <= now);
        assert_eq!(clock.boot_time(Timestamp(0)), BootTime(Millis::ZERO));
        // By the wall's clock.
        let (ago, from) = (clock.at_wall(Timestamp(wall().0 - 5_000)), clock.now().0 - 5_000);
        assert!(ago.0.abs_diff(from) < 1_000, "{ago:?} instead of {from}");
        assert!(clock.at_wall(wall() + Millis(60_000)) <= clock.now());
    }

    #[test]
    fn an_agent_goes_on_with_the_clock_of_the_one_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        // The first one began before NTP had set the clock.
        let first = Clock::open_in(&path, "boot-1", Timestamp(60_000)).unwrap();
        let next = Clock::open_in(&path, "boot-1", wall()).unwrap();
        assert_eq!(first, next);
        assert!(next.now() < Timestamp(120_000), "{:?}", next.now());
        // In another run of the host it goes on from what was written down, whatever the wall's clock shows.
        for (boot, newest) in [("boot-2", Timestamp(70_000)), ("boot-3", wall() + Millis(3_600_000))] {
            let after = Clock::open_in(&path, boot, newest).unwrap();
            assert!(after.now() >= newest && after.now() < newest + Millis(60_000), "{:?}", after.now());
        }
        std::fs::write(&path, "boot-3 1").unwrap();
        assert_eq!(Clock::open_in(&path, "boot-3", Timestamp(80_000)).unwrap().started_at, Timestamp(80_000));
    }
}
