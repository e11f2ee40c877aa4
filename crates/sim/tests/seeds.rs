//! Many seeds, none of which may break a rule.
//!
//! `WHARF_SIM_SEED=n` replays one seed with its whole trace; `WHARF_SIM_SEEDS=n` runs the first n instead of 2,000.
#![expect(clippy::unwrap_used, reason = "a test fails where it goes wrong")]

use std::{
    env,
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use sim::{Detail, Shrunk, run, shrink};

const SEEDS: u64 = 2_000;

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
    let seeds = from_environment("WHARF_SIM_SEEDS").unwrap_or(SEEDS);
    let failed = failing(seeds);
    let Some(first) = failed.first() else { return };
    panic!("{} of {seeds} seeds fail: {failed:?}\n{}", failed.len(), explain(*first));
}

/// Every failing seed below `seeds`. Each run is one thread's; the seeds are shared between threads.
fn failing(seeds: u64) -> Vec<u64> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut failed = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return failed;
            }
            if run(seed, None, Detail::Hash).violation.is_some() {
                failed.push(seed);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut failed: Vec<u64> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    failed.sort_unstable();
    failed
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
