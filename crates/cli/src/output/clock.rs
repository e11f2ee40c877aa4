//! Times for people: how long ago, and when, in the zone of whoever looks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;
use model::{Millis, Timestamp};

/// What is now, and where on earth. The server's clock where it said it: then ages are right on any machine.
#[derive(Clone, Debug)]
pub struct Clock {
    pub now: Timestamp,
    zone: TimeZone,
}

impl Clock {
    /// In the zone of this machine.
    pub fn at(now: Timestamp) -> Clock {
        Clock { now, zone: TimeZone::system() }
    }

    #[cfg(test)]
    pub fn utc(now: Timestamp) -> Clock {
        Clock { now, zone: TimeZone::UTC }
    }

    pub fn later(&self, by: Duration) -> Clock {
        Clock { now: self.now + Millis(by.as_millis() as u64), zone: self.zone.clone() }
    }

    /// How long ago, in whole seconds: `0s`, `2m5s`, `3h2m`, `5d1h`.
    pub fn age(&self, then: Timestamp) -> String {
        let seconds = self.now.since(then).0 / 1_000;
        match seconds {
            s if s < 60 => format!("{s}s"),
            s if s < 3_600 => format!("{}m{}s", s / 60, s % 60),
            s if s < 86_400 => format!("{}h{}m", s / 3_600, s / 60 % 60),
            s => format!("{}d{}h", s / 86_400, s / 3_600 % 24),
        }
    }

    /// `2026-11-23 06:18:52.744`
    pub fn time(&self, at: Timestamp) -> String {
        self.formatted(at, "%Y-%m-%d %H:%M:%S%.3f")
    }

    /// The same with the zone, as RFC 3339 has it: to be read by programs too.
    pub fn exact_time(&self, at: Timestamp) -> String {
        self.formatted(at, "%Y-%m-%dT%H:%M:%S%.3f%:z")
    }

    fn formatted(&self, at: Timestamp, format: &str) -> String {
        let time = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        match time {
            Some(time) => time.to_zoned(self.zone.clone()).strftime(format).to_string(),
            None => format!("{}ms after 1970", at.0),
        }
    }
}

/// As RFC 3339 writes it, in UTC, for JSON and YAML.
pub fn utc(at: Timestamp) -> String {
    Clock { now: at, zone: TimeZone::UTC }.formatted(at, "%Y-%m-%dT%H:%M:%S%.3fZ")
}

/// By the clock of this machine.
pub fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units_at_most() {
        let clock = Clock::utc(Timestamp(1_000_000_000));
        let age = |ms: u64| clock.age(Timestamp(1_000_000_000 - ms));
        let ages = [999, 59_999, 60_000, 3_661_000, 90_000_000].map(age);
        assert_eq!(ages, ["0s", "59s", "1m0s", "1h1m", "1d1h"]);
        assert_eq!(clock.age(Timestamp(2_000_000_000)), "0s", "a clock that is ahead");
    }

    #[test]
    fn times_of_any_size_are_shown() {
        assert_eq!(utc(Timestamp(1_795_414_732_744)), "2026-11-23T06:18:52.744Z");
        let clock = Clock::utc(Timestamp(0));
        assert_eq!(clock.time(Timestamp(1_795_414_732_744)), "2026-11-23 06:18:52.744");
        assert_eq!(clock.exact_time(Timestamp(0)), "1970-01-01T00:00:00.000+00:00");
        assert_eq!(utc(Timestamp(u64::MAX)), "18446744073709551615ms after 1970");
    }
}
