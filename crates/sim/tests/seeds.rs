//! Many seeds, none of which may break a rule.
//!
//! `WHARF_SIM_SEED=n` replays one seed with its whole trace. `WHARF_SIM_SEEDS=n` runs n instead of 2,000, from
//! `WHARF_SIM_FIRST=m` on, and `WHARF_SIM_HOURS=h` as many as fit into h hours. Every minute it says how far it is. For a
//! night, with optimization and all assertions:
//!
//! ```text
//! RUSTFLAGS='-C debug-assertions -C overflow-checks' WHARF_SIM_HOURS=8 WHARF_SIM_FIRST=1000000 \
//!     cargo test --release -p sim --test seeds -- --nocapture
//! ```
#![expect(clippy::unwrap_used, reason = "a test fails where it goes wrong")]

use std::{
    env,
    fmt::Write as _,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use sim::{Detail, Shrunk, run, shrink};

const SEEDS: u64 = 2_000;
const SAYS_EVERY: Duration = Duration::from_secs(60);

fn from_environment(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text:?}: {error}")))
}

#[test]
fn no_seed_breaks_a_rule() {
    if let Some(seed) = from_environment("WHARF_SIM_SEED") {
        let outcome = run(seed, None, Detail::Lines);
        println!("{}", outcome.trace.join("\n"));
        if outcome.violation.is_some() {
            panic!("{}", explain(seed));
        }
        return println!("seed {seed}: at rest after {} ms", outcome.virtual_ms);
    }
    let campaign = Campaign::of_environment();
    let Outcome { done, failed } = campaign.run();
    let Some(first) = failed.first() else { return println!("{done} seeds, none failed") };
    panic!("{} of {done} seeds fail: {failed:?}\n{}", failed.len(), explain(*first));
}

/// Which seeds are run.
struct Campaign {
    first: u64,
    seeds: u64,
    until: Option<Instant>,
}

/// What came of them.
#[derive(Default)]
struct Outcome {
    done: u64,
    failed: Vec<u64>,
}

impl Campaign {
    fn of_environment() -> Campaign {
        let hours = from_environment("WHARF_SIM_HOURS");
        let seeds = from_environment("WHARF_SIM_SEEDS");
        Campaign {
            first: from_environment("WHARF_SIM_FIRST").unwrap_or(0),
            seeds: seeds.unwrap_or(if hours.is_some() { u64::MAX } else { SEEDS }),
            until: hours.map(|hours| Instant::now() + Duration::from_secs(hours * 3_600)),
        }
    }

    /// Each run is one thread's; the seeds are shared between threads.
    fn run(&self) -> Outcome {
        let next = AtomicU64::new(0);
        let outcome = Mutex::new((Outcome::default(), Instant::now()));
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.seeds || self.until.is_some_and(|until| Instant::now() >= until) {
                    return;
                }
                let seed = self.first + number;
                let failed = run(seed, None, Detail::Hash).violation.is_some();
                let (outcome, said_at) = &mut *outcome.lock().unwrap();
                outcome.done += 1;
                if failed {
                    outcome.failed.push(seed);
                }
                if said_at.elapsed() >= SAYS_EVERY {
                    *said_at = Instant::now();
                    println!("{} seeds, these failed: {:?}", outcome.done, outcome.failed);
                }
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        let (mut outcome, _) = outcome.into_inner().unwrap();
        outcome.failed.sort_unstable();
        outcome
    }
}

fn explain(seed: u64) -> String {
    let Some(Shrunk { faults, asks, runs, outcome }) = shrink(seed, None) else {
        return format!("seed {seed} does not fail again: the simulation is not deterministic");
    };
    let mut text = String::new();
    let violation = outcome.violation.map(|violation| violation.to_string()).unwrap_or_default();
    writeln!(text, "seed {seed} breaks a rule: {violation}").unwrap();
    writeln!(text, "the smallest plan found in {runs} runs has").unwrap();
    faults.iter().for_each(|fault| writeln!(text, "  fault  {fault}").unwrap());
    asks.iter().for_each(|ask| writeln!(text, "  wish   {ask}").unwrap());
    writeln!(text, "and ends so:").unwrap();
    let shown = outcome.trace.len().saturating_sub(40);
    outcome.trace[shown..].iter().for_each(|line| writeln!(text, "  {line}").unwrap());
    writeln!(text, "replay: WHARF_SIM_SEED={seed} cargo test -p sim --test seeds -- --nocapture").unwrap();
    text
}
