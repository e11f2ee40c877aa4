//! When a probe runs next, and what its results mean.
//!
//! Until its first success a probe is eager: it is tried at short, growing pauses, so that a container that is up
//! in 40 ms is seen to be up then and not an interval later. Eager failures do not count more often than once per
//! interval, so that `failures` times `interval` stays the time that a container is given.

use model::{Millis, Probe, Timestamp};

use super::{Fault, Setback};

/// The first pause of an eager probe; each next one is twice as long.
const EAGER_PAUSE: Millis = Millis(10);

/// Until a probe that this node could not ask is tried again, if its interval is not shorter.
const NODE_PAUSE: Millis = Millis(1_000);

#[derive(Clone, Debug)]
pub(super) struct Prober {
    next_at: Timestamp,
    in_flight: bool,
    pace: Pace,
    successes: u32,
    failures: u32,
    /// How it failed last, until it succeeds.
    pub(super) complaint: Option<Setback>,
}

#[derive(Clone, Copy, Debug)]
enum Pace {
    /// No success yet. A failure counts if none was counted since this time plus the interval.
    Eager { pause: Millis, counted_at: Timestamp },
    /// Once per interval, and everything counts.
    Steady,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Undecided,
    Succeeds,
    /// So often in a row that it counts; the last failure in words.
    Fails(String),
}

impl Prober {
    /// For a container that has just started: ask soon, ask often.
    pub(super) fn eager(now: Timestamp) -> Prober {
        let pace = Pace::Eager { pause: EAGER_PAUSE, counted_at: now };
        Prober::new(now + EAGER_PAUSE, pace)
    }

    /// From `first` on, once per interval.
    pub(super) fn steady(first: Timestamp) -> Prober {
        Prober::new(first, Pace::Steady)
    }

    fn new(next_at: Timestamp, pace: Pace) -> Prober {
        Prober { next_at, in_flight: false, pace, successes: 0, failures: 0, complaint: None }
    }

    /// Whether it is to be run now; it then counts as running.
    pub(super) fn begin(&mut self, now: Timestamp) -> bool {
        let due = !self.in_flight && self.next_at <= now;
        self.in_flight |= due;
        due
    }

    pub(super) fn wake(&self) -> Option<Timestamp> {
        (!self.in_flight).then_some(self.next_at)
    }

    /// A result that nobody asked for, such as of a probe from before, changes nothing.
    pub(super) fn answer(&mut self, now: Timestamp, probe: &Probe, result: Result<(), Setback>) -> Verdict {
        if !self.in_flight {
            return Verdict::Undecided;
        }
        self.in_flight = false;
        // An interval of zero would be asked for without end.
        let interval = Millis(probe.interval.0.max(1));
        match result {
            Ok(()) => {
                self.complaint = None;
                self.pace = Pace::Steady;
                self.next_at = now + interval;
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                if self.successes >= probe.successes { Verdict::Succeeds } else { Verdict::Undecided }
            }
            // Nobody was asked, so it says nothing of the container.
            Err(setback @ Setback { fault: Fault::Node, .. }) => {
                self.complaint = Some(setback);
                self.next_at = now + interval.min(NODE_PAUSE);
                Verdict::Undecided
            }
            Err(setback @ Setback { fault: Fault::Replica, .. }) => {
                let detail = setback.reason.clone();
                self.successes = 0;
                let counts = self.after_failure(now, interval);
                self.failures = self.failures.saturating_add(u32::from(counts));
                self.complaint = Some(setback);
                if self.failures >= probe.failures.max(1) {
                    Verdict::Fails(detail)
                } else {
                    Verdict::Undecided
                }
            }
        }
    }

    /// Sets the next time; tells whether this failure counts.
    fn after_failure(&mut self, now: Timestamp, interval: Millis) -> bool {
        match &mut self.pace {
            Pace::Steady => {
                self.next_at = now + interval;
                true
            }
            Pace::Eager { pause, counted_at } => {
                *pause = Millis(pause.0.saturating_mul(2).min(interval.0));
                let due = *counted_at + interval;
                let counts = now >= due;
                if counts {
                    *counted_at = now;
                }
                // Never past the moment at which a failure would count.
                let limit = if counts { now + interval } else { due };
                self.next_at = (now + *pause).min(limit);
                counts
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ProbeAction;

    fn probe(interval_ms: u64, successes: u32, failures: u32) -> Probe {
        let action = ProbeAction::Exec { command: vec![] };
        Probe { action, interval: Millis(interval_ms), timeout: Millis(1_000), successes, failures }
    }

    /// Runs a probe that always fails; returns when it was asked and when it failed for good.
    fn always_failing(mut prober: Prober, probe: &Probe) -> (Vec<u64>, u64) {
        let mut asked = Vec::new();
        loop {
            let now = prober.wake().unwrap();
            assert!(prober.begin(now));
            asked.push(now.0);
            if let Verdict::Fails(_) = prober.answer(now, probe, Err(Setback::of_replica("refused"))) {
                return (asked, now.0);
            }
        }
    }

    #[test]
    fn an_eager_probe_asks_often_and_fails_after_its_intervals() {
        let (asked, failed_at) = always_failing(Prober::eager(Timestamp(0)), &probe(1_000, 1, 2));
        assert_eq!(asked, [10, 30, 70, 150, 310, 630, 1_000, 2_000]);
        assert_eq!(failed_at, 2_000);
    }

    #[test]
    fn a_steady_probe_counts_every_failure() {
        let (asked, failed_at) = always_failing(Prober::steady(Timestamp(0)), &probe(1_000, 1, 3));
        assert_eq!((asked, failed_at), (vec![0, 1_000, 2_000], 2_000));
    }

    #[test]
    fn successes_count_only_in_a_row() {
        let probe = probe(100, 2, 1);
        let mut prober = Prober::steady(Timestamp(0));
        let mut ask = |result| {
            let now = prober.wake().unwrap();
            prober.begin(now);
            prober.answer(now, &probe, result)
        };
        assert_eq!(ask(Ok(())), Verdict::Undecided);
        assert_eq!(ask(Err(Setback::of_node("no descriptors"))), Verdict::Undecided);
        assert_eq!(ask(Err(Setback::of_replica("x"))), Verdict::Fails("x".into()));
        assert_eq!(ask(Err(Setback::of_node("no descriptors"))), Verdict::Undecided);
        assert_eq!(ask(Ok(())), Verdict::Undecided);
        assert_eq!(ask(Ok(())), Verdict::Succeeds);
    }

    #[test]
    fn an_answer_that_was_not_asked_for_is_ignored() {
        let mut prober = Prober::steady(Timestamp(0));
        assert_eq!(prober.answer(Timestamp(0), &probe(100, 1, 1), Ok(())), Verdict::Undecided);
    }
}
