//! The agent's clock: the wall's at start, and from then on steady.
//!
//! Backoffs and probes must not jump when an administrator or NTP sets the clock, so the time since the start is added to the
//! wall clock's time at the start. An hour's correction is seen at the next start of the agent.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::Timestamp;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started_at: Timestamp,
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { started_at: Timestamp(since_epoch.as_millis() as u64), started: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.started_at + model::Millis(self.started.elapsed().as_millis() as u64)
    }

    /// When the steady clock will show this time; now if it is past.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        // One more millisecond: `now` is rounded down, and a wake that comes too early would be asked for again.
        let ahead = at.since(self.started_at).0.saturating_add(1);
        self.started.checked_add(Duration::from_millis(ahead)).unwrap_or_else(Instant::now)
    }
}
