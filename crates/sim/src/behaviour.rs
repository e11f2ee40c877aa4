//! What the programs of a revision are like, and the fate of one process.
//!
//! A behaviour travels as the first argument of the main container, so that it is part of the revision's content like
//! any other change of a manifest.

use model::{Bytes, ContainerSpec, ExitCause, Millis, Timestamp};

use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Behaviour {
    Healthy,
    /// Takes seconds until it is ready.
    Slow,
    /// Does not care for SIGTERM.
    Stubborn,
    /// Ends, or stops being ready for a while, every now and then.
    Flaky,
    /// After a while it does not answer any more, not even to SIGTERM.
    Hanging,
    NeverReady,
    /// Ends soon after its start.
    Crashing,
    /// The kernel kills it for its memory, at once or after it served for a while.
    Greedy,
}

impl Behaviour {
    /// Without faults of their own: what happens to these is the cluster's doing.
    pub(crate) const SOUND: [Behaviour; 3] = [Behaviour::Healthy, Behaviour::Slow, Behaviour::Stubborn];
    pub(crate) const ALL: [Behaviour; 8] = [
        Behaviour::Healthy,
        Behaviour::Slow,
        Behaviour::Stubborn,
        Behaviour::Flaky,
        Behaviour::Hanging,
        Behaviour::NeverReady,
        Behaviour::Crashing,
        Behaviour::Greedy,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Behaviour::Healthy => "healthy",
            Behaviour::Slow => "slow",
            Behaviour::Stubborn => "stubborn",
            Behaviour::Flaky => "flaky",
            Behaviour::Hanging => "hanging",
            Behaviour::NeverReady => "never-ready",
            Behaviour::Crashing => "crashing",
            Behaviour::Greedy => "greedy",
        }
    }

    /// A container that names no behaviour is healthy: sidecars and init containers.
    pub(crate) fn of(spec: &ContainerSpec) -> Behaviour {
        let word = spec.args.as_ref().and_then(|args| args.first());
        let named = |behaviour: &Behaviour| word.is_some_and(|word| word == behaviour.as_str());
        Behaviour::ALL.into_iter().find(named).unwrap_or(Behaviour::Healthy)
    }

    /// Whether it comes to run and be ready for good once there are no faults.
    pub(crate) fn comes_to_rest(self) -> bool {
        match self {
            Behaviour::Healthy
            | Behaviour::Slow
            | Behaviour::Stubborn
            | Behaviour::Flaky
            | Behaviour::Hanging => true,
            Behaviour::NeverReady | Behaviour::Crashing | Behaviour::Greedy => false,
        }
    }
}

/// What will become of one process, decided when it starts.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    pub(crate) ready_from: Option<Timestamp>,
    /// Between these it is not ready, though it runs.
    pub(crate) stalls: Option<(Timestamp, Timestamp)>,
    pub(crate) hangs_from: Option<Timestamp>,
    /// By itself.
    pub(crate) ends: Option<(Timestamp, ExitCause)>,
    /// From SIGTERM to its end, if it heeds it.
    pub(crate) heeds_stop: Option<Millis>,
}

impl Fate {
    /// `calm`: nothing goes wrong that can be helped.
    pub(crate) fn draw(behaviour: Behaviour, calm: bool, now: Timestamp, random: &mut Random) -> Fate {
        let mut fate = Fate {
            ready_from: Some(now + random.millis(5, 300)),
            stalls: None,
            hangs_from: None,
            ends: None,
            heeds_stop: Some(random.millis(1, 500)),
        };
        match behaviour {
            Behaviour::Healthy => {}
            Behaviour::Slow => fate.ready_from = Some(now + random.millis(1_000, 6_000)),
            Behaviour::Stubborn => fate.heeds_stop = None,
            Behaviour::Flaky if calm => {}
            Behaviour::Flaky => fate.be_flaky(now, random),
            Behaviour::Hanging if calm => {}
            Behaviour::Hanging => {
                fate.hangs_from = Some(now + random.millis(1_000, 20_000));
                fate.heeds_stop = None;
            }
            Behaviour::NeverReady => fate.ready_from = None,
            Behaviour::Crashing => {
                let code = random.between(0, 3) as u8;
                fate.ends = Some((now + random.millis(1, 400), ExitCause::Code(code)));
                fate.ready_from = None;
            }
            Behaviour::Greedy => {
                let limit = Bytes(64 << 20);
                let cause = ExitCause::OutOfMemory { limit, peak: limit };
                fate.ends = Some((now + random.millis(10, 8_000), cause));
            }
        }
        fate
    }

    /// An init container: it does its work and ends.
    pub(crate) fn draw_init(calm: bool, now: Timestamp, random: &mut Random) -> Fate {
        let fails = !calm && random.one_in(20);
        let ends = Some((now + random.millis(5, 800), ExitCause::Code(u8::from(fails))));
        Fate { ready_from: None, stalls: None, hangs_from: None, ends, heeds_stop: Some(Millis(5)) }
    }

    fn be_flaky(&mut self, now: Timestamp, random: &mut Random) {
        if random.one_in(2) {
            self.ends = Some((now + random.millis(500, 20_000), ExitCause::Code(1)));
        } else {
            let from = now + random.millis(500, 20_000);
            self.stalls = Some((from, from + random.millis(500, 8_000)));
        }
    }

    pub(crate) fn is_ready(&self, calm: bool, now: Timestamp) -> bool {
        let stalls = !calm && self.stalls.is_some_and(|(from, until)| from <= now && now < until);
        self.ready_from.is_some_and(|from| from <= now) && !stalls && !self.hangs(calm, now)
    }

    pub(crate) fn hangs(&self, calm: bool, now: Timestamp) -> bool {
        !calm && self.hangs_from.is_some_and(|from| from <= now)
    }
}
