//! From when to when a certificate holds, and when its host asks for the next one.

use std::fmt;

use model::{Millis, Timestamp};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// What a node's certificate lives if nobody says otherwise.
pub const NODE_LIFETIME: Millis = Millis(90 * DAY);
/// What an authority lives if nobody says otherwise.
pub const AUTHORITY_LIFETIME: Millis = Millis(3_650 * DAY);

/// Both ends included; certificates count in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// Where in its life a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// By this host's clock it does not hold yet.
    NotYet {
        starts_in: Millis,
    },
    Valid {
        renews_in: Millis,
        ends_in: Millis,
    },
    /// Holds, but the next one should have been asked for.
    Due {
        ends_in: Millis,
    },
    Expired {
        since: Millis,
    },
}

impl Validity {
    /// `lifetime` from now on, and dated back by a tenth of it, an hour at most: the clocks of hosts differ.
    pub(crate) fn starting(now: Timestamp, lifetime: Millis) -> Validity {
        let skew = HOUR.min(lifetime.0 / 10);
        Validity { not_before: Timestamp(now.0.saturating_sub(skew)), not_after: now + lifetime }
    }

    pub fn life(&self) -> Millis {
        self.not_after.since(self.not_before)
    }

    /// Two thirds of life, and up to a twelfth later: `jitter` is any number, best one of the node's own such as its id, so
    /// that hosts which joined together do not renew together. The same number always gives the same moment.
    pub fn renews_at(&self, jitter: u64) -> Timestamp {
        let life = self.life().0;
        // Fibonacci hashing (Knuth, TAOCP 6.4) spreads numbers that are close together evenly over all there are.
        let hash = u128::from(jitter.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let spread = ((hash * u128::from(life / 12)) >> 64) as u64;
        self.not_before + Millis(life / 3 * 2 + spread)
    }

    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    pub fn standing(&self, now: Timestamp, jitter: u64) -> Standing {
        let renews_at = self.renews_at(jitter);
        let ends_in = self.not_after.since(now);
        if now < self.not_before {
            Standing::NotYet { starts_in: self.not_before.since(now) }
        } else if now > self.not_after {
            Standing::Expired { since: now.since(self.not_after) }
        } else if now >= renews_at {
            Standing::Due { ends_in }
        } else {
            Standing::Valid { renews_in: renews_at.since(now), ends_in }
        }
    }
}

impl fmt::Display for Standing {
    /// For `status`: `valid for 89 days, renewed in 59 days`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Standing::NotYet { starts_in } => {
                write!(f, "not valid for another {}: is this host's clock right?", Roughly(starts_in))
            }
            Standing::Valid { renews_in, ends_in } => {
                write!(f, "valid for {}, renewed in {}", Roughly(ends_in), Roughly(renews_in))
            }
            Standing::Due { ends_in } => write!(f, "valid for {}, renewal is due", Roughly(ends_in)),
            Standing::Expired { since } => {
                write!(f, "expired {} ago: join again with a token", Roughly(since))
            }
        }
    }
}

/// A span as people say it: one unit, rounded down, two of it at least.
pub(crate) struct Roughly(pub(crate) Millis);

impl fmt::Display for Roughly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.0;
        match ms {
            _ if ms >= 2 * DAY => write!(f, "{} days", ms / DAY),
            _ if ms >= 2 * HOUR => write!(f, "{} hours", ms / HOUR),
            _ if ms >= 2 * MINUTE => write!(f, "{} minutes", ms / MINUTE),
            _ => write!(f, "{} seconds", ms / 1_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn renewal_lies_between_two_and_three_quarters_of_life(start in 0..1u64 << 42, life in 1..1u64 << 40, jitter: u64) {
            let validity = Validity { not_before: Timestamp(start), not_after: Timestamp(start + life) };
            let at = validity.renews_at(jitter).0 - start;
            prop_assert!(at >= life / 3 * 2 && at <= life / 4 * 3 + 3, "{at} of {life}");
        }
    }

    #[test]
    fn neighbours_renew_apart() {
        let validity = Validity::starting(Timestamp(0), NODE_LIFETIME);
        let mut moments: Vec<u64> = (0..100).map(|node| validity.renews_at(node).0).collect();
        moments.sort_unstable();
        moments.dedup();
        assert_eq!(moments.len(), 100);
        assert!(moments[99] - moments[0] > 6 * DAY, "spread over {} ms", moments[99] - moments[0]);
    }

    #[test]
    fn a_life_is_told_in_words() {
        let validity = Validity { not_before: Timestamp(10 * DAY), not_after: Timestamp(100 * DAY) };
        let told = |now: u64| validity.standing(Timestamp(now), 0).to_string();
        assert_eq!(told(0), "not valid for another 10 days: is this host's clock right?");
        assert_eq!(told(10 * DAY), "valid for 90 days, renewed in 60 days");
        assert_eq!(told(69 * DAY + HOUR), "valid for 30 days, renewed in 23 hours");
        assert_eq!(told(70 * DAY), "valid for 30 days, renewal is due");
        assert_eq!(told(100 * DAY), "valid for 0 seconds, renewal is due");
        assert_eq!(told(100 * DAY + 90_000), "expired 90 seconds ago: join again with a token");
    }

    #[test]
    fn a_short_life_is_not_due_when_it_begins() {
        let now = Timestamp(1_000 * DAY);
        let validity = Validity::starting(now, Millis(10_000));
        assert!(matches!(validity.standing(now, u64::MAX), Standing::Valid { .. }));
    }
}
