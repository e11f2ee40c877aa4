//! The clocks of hosts. Each is off by as much as an hour at the beginning and jumps meanwhile. A process goes by what the
//! wall's clock showed when the process started, and from then on steadily; a server also looks at the wall's now and then.

use model::Timestamp;

use crate::random::Random;

pub(crate) const HOUR_MS: u64 = 3_600_000;

/// How far a clock is ahead of the world's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostClock {
    ahead_ms: i64,
}

impl HostClock {
    pub(crate) fn draw(random: &mut Random) -> HostClock {
        match random.between(1, 3) {
            1 => HostClock::default(),
            _ => HostClock { ahead_ms: random.between(0, 2 * HOUR_MS) as i64 - HOUR_MS as i64 },
        }
    }

    pub(crate) fn jump(&mut self, by_ms: i64) {
        self.ahead_ms += by_ms;
    }

    /// What it shows at a time of the world.
    pub(crate) fn shows(self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_add_signed(self.ahead_ms))
    }

    /// When in the world it shows that.
    pub(crate) fn in_world(self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.saturating_add_signed(-self.ahead_ms))
    }

    /// One that shows `at` when it is `now` in the world.
    pub(crate) fn that_shows(at: Timestamp, now: Timestamp) -> HostClock {
        HostClock { ahead_ms: at.0 as i64 - now.0 as i64 }
    }
}
