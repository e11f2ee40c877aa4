//! Amounts with their units in the type.

use std::{
    fmt,
    ops::{Add, Sub},
};

/// Milliseconds since the Unix epoch, as read by a shell and handed in; the cores never read a clock.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// A span of time in milliseconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    pub const ZERO: Millis = Millis(0);

    pub const fn from_secs(secs: u64) -> Millis {
        Millis(secs * 1_000)
    }
}

impl Timestamp {
    /// How long ago `earlier` was, and zero when it lies ahead: clocks of hosts differ.
    pub fn since(self, earlier: Timestamp) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Millis> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Millis) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0))
    }
}

impl Add for Millis {
    type Output = Millis;
    fn add(self, other: Millis) -> Millis {
        Millis(self.0.saturating_add(other.0))
    }
}

impl Sub for Millis {
    type Output = Millis;
    fn sub(self, other: Millis) -> Millis {
        Millis(self.0.saturating_sub(other.0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

impl fmt::Display for Millis {
    /// As a manifest would say it: the largest unit that keeps it exact (`90s`, `1m`, `250ms`, `0s`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (amount, unit) = match self.0 {
            0 => (0, "s"),
            ms if ms % 3_600_000 == 0 => (ms / 3_600_000, "h"),
            ms if ms % 60_000 == 0 => (ms / 60_000, "m"),
            ms if ms % 1_000 == 0 => (ms / 1_000, "s"),
            ms => (ms, "ms"),
        };
        f.pad(&format!("{amount}{unit}"))
    }
}

impl fmt::Debug for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Thousandths of one core.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MilliCpu(pub u64);

/// An amount of memory or disk in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl fmt::Display for MilliCpu {
    /// Whole cores as a number (`2`), anything else in millicores (`250m`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            milli if milli % 1_000 == 0 => f.pad(&(milli / 1_000).to_string()),
            milli => f.pad(&format!("{milli}m")),
        }
    }
}

impl fmt::Display for Bytes {
    /// The largest binary unit that keeps it exact (`64Mi`, `1Gi`, `1000`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
        let exact = UNITS.iter().find(|(size, _)| self.0 > 0 && self.0.is_multiple_of(*size));
        match exact {
            Some((size, unit)) => f.pad(&format!("{}{unit}", self.0 / size)),
            None => f.pad(&self.0.to_string()),
        }
    }
}

impl Bytes {
    /// For people: three digits are enough (`23.0Gi`, `7.6Gi`, `512Mi`).
    pub fn roughly(self) -> String {
        const UNITS: [(u64, &str); 4] = [(1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
        match UNITS.iter().find(|(size, _)| self.0 >= *size) {
            Some((size, unit)) if self.0.is_multiple_of(*size) => format!("{}{unit}", self.0 / size),
            Some((size, unit)) if self.0 >= 100 * size => format!("{}{unit}", self.0 / size),
            Some((size, unit)) => format!("{:.1}{unit}", self.0 as f64 / *size as f64),
            None => self.0.to_string(),
        }
    }
}

macro_rules! debug_as_display {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
debug_as_display!(MilliCpu, Bytes, CountOrPercent);

/// A number of replicas, or a share of those that a service wants.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CountOrPercent {
    Count(u32),
    /// 0 to 100.
    Percent(u8),
}

impl CountOrPercent {
    /// Of `total` replicas, rounded up. For what may be added: a share is never too small to make progress.
    pub fn of_rounded_up(self, total: u32) -> u32 {
        match self {
            CountOrPercent::Count(count) => count,
            CountOrPercent::Percent(percent) => (u64::from(total) * u64::from(percent)).div_ceil(100) as u32,
        }
    }

    /// Of `total` replicas, rounded down. For what may be missing: a share is never more than was allowed.
    pub fn of_rounded_down(self, total: u32) -> u32 {
        match self {
            CountOrPercent::Count(count) => count,
            CountOrPercent::Percent(percent) => (u64::from(total) * u64::from(percent) / 100) as u32,
        }
    }
}

impl fmt::Display for CountOrPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CountOrPercent::Count(count) => f.pad(&count.to_string()),
            CountOrPercent::Percent(percent) => f.pad(&format!("{percent}%")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_in_the_largest_exact_unit() {
        assert_eq!(Millis(0).to_string(), "0s");
        assert_eq!(Millis(90_000).to_string(), "90s");
        assert_eq!(Millis(120_000).to_string(), "2m");
        assert_eq!(Millis(1_500).to_string(), "1500ms");
        assert_eq!(Bytes(64 << 20).to_string(), "64Mi");
        assert_eq!(Bytes(1_000).to_string(), "1000");
        assert_eq!(Bytes(0).to_string(), "0");
        assert_eq!(Bytes(24_159_804 << 10).roughly(), "23.0Gi");
        assert_eq!(Bytes(512 << 20).roughly(), "512Mi");
        assert_eq!(Bytes((700 << 20) + 5).roughly(), "700Mi");
        assert_eq!(Bytes(5).roughly(), "5");
        assert_eq!(MilliCpu(1_500).to_string(), "1500m");
        assert_eq!(MilliCpu(2_000).to_string(), "2");
    }

    #[test]
    fn a_share_rounds_towards_what_is_safe() {
        let quarter = CountOrPercent::Percent(25);
        assert_eq!((quarter.of_rounded_up(3), quarter.of_rounded_down(3)), (1, 0));
        assert_eq!((quarter.of_rounded_up(8), quarter.of_rounded_down(8)), (2, 2));
    }
}
