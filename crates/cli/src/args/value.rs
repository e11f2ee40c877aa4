//! Values that people write in words: spans of time, and moments.

use std::time::Duration;

use model::Timestamp;

/// `90s`, `5m`, `1h30m`, `250ms`, `2d`.
pub fn read_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a duration; write it like 90s, 5m, 1h30m or 250ms");
    let mut total_ms: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let amount: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        let (unit, ms) =
            units.into_iter().find(|(unit, _)| rest[digits..].starts_with(unit)).ok_or_else(bad)?;
        total_ms = amount.checked_mul(ms).and_then(|span| total_ms.checked_add(span)).ok_or_else(bad)?;
        rest = &rest[digits + unit.len()..];
    }
    if text.is_empty() { Err(bad()) } else { Ok(Duration::from_millis(total_ms)) }
}

/// From when on: so long ago, or since a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    Ago(Duration),
    Moment(Timestamp),
}

impl Since {
    pub fn read(text: &str) -> Result<Since, String> {
        if let Ok(ago) = read_duration(text) {
            return Ok(Since::Ago(ago));
        }
        let moment = text.parse::<jiff::Timestamp>().map_err(|_| {
            format!("{text:?} is neither a duration, such as 10m, nor a time, such as 2026-01-31T12:00:00Z")
        })?;
        Ok(Since::Moment(Timestamp(u64::try_from(moment.as_millisecond()).unwrap_or(0))))
    }

    pub fn moment(self, now: Timestamp) -> Timestamp {
        match self {
            Since::Ago(ago) => Timestamp(now.0.saturating_sub(ago.as_millis() as u64)),
            Since::Moment(moment) => moment,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_manifests_write_them() {
        let read = |text| read_duration(text).map(|span| span.as_millis()).ok();
        assert_eq!(
            ["90s", "1h30m", "250ms", "2d", "0s"].map(read),
            [90_000, 5_400_000, 250, 172_800_000, 0].map(Some)
        );
        assert_eq!(
            ["", "5", "s", "5x", "-5s", "99999999999999999999s", "300000000000d"].map(read),
            [None; 7]
        );
    }

    #[test]
    fn since_is_a_span_or_a_moment() {
        let now = Timestamp(1_000_000);
        assert_eq!(Since::read("10s").map(|since| since.moment(now)), Ok(Timestamp(990_000)));
        assert_eq!(Since::read("1970-01-01T00:00:01Z").map(|since| since.moment(now)), Ok(Timestamp(1_000)));
        assert!(Since::read("yesterday").is_err());
    }
}
