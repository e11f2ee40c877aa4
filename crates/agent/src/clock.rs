//! The agent's clock: the wall's at start, and from then on steady.
//!
//! Backoffs and probes must not jump when an administrator or NTP sets the clock, so the time since the start is added to the
//! wall clock's time at the start. An hour's correction is seen at the next start of the agent. It goes on while the host
//! sleeps (CLOCK_BOOTTIME): a lease that was given before ends all the same.

use std::time::{SystemTime, UNIX_EPOCH};

use model::{Millis, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// Since the host started, also while it slept; what other processes of this host can compare with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BootTime(pub(crate) Millis);

impl BootTime {
    fn now() -> BootTime {
        let now = clock_gettime(ClockId::Boottime);
        BootTime(Millis(now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started_at: Timestamp,
    started: BootTime,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { started_at: Timestamp(since_epoch.as_millis() as u64), started: BootTime::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.at(BootTime::now())
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
        let clock = Clock::start();
        let (now, later) = (clock.now(), clock.now() + Millis(5_000));
        assert_eq!(clock.at(clock.boot_time(later)), later);
        assert!(clock.boot_time(now) <= BootTime::now());
        // Before the host started.
        assert!(clock.at(BootTime(Millis::ZERO)) <= now);
        assert_eq!(clock.boot_time(Timestamp(0)), BootTime(Millis::ZERO));
    }
}
