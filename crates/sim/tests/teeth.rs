//! The checkers have teeth: each deliberate bug of a shell is noticed within so many seeds. And a seed is a run: the same
//! one twice is the same to the byte.

use std::fmt::Write as _;

use sim::{Bug, Detail, run, shrink};

/// Within how many seeds a bug must be noticed.
const SEEDS: u64 = 500;

#[test]
fn every_deliberate_bug_is_noticed() {
    let mut missed = Vec::new();
    let mut told = String::new();
    for bug in Bug::ALL {
        let caught = (0..SEEDS).find_map(|seed| Some((seed, run(seed, Some(bug), Detail::Hash).violation?)));
        match caught {
            Some((seed, violation)) => writeln!(told, "{bug:?}: seed {seed}, {violation}").unwrap(),
            None => missed.push(bug),
        }
    }
    println!("{told}");
    assert!(missed.is_empty(), "within {SEEDS} seeds nobody noticed {missed:?}; noticed were\n{told}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let (first, second) = (run(seed, None, Detail::Lines), run(seed, None, Detail::Lines));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.hash, run(seed, None, Detail::Hash).hash, "seed {seed}, without its lines");
    }
}

#[test]
fn different_seeds_are_different_runs() {
    let mut hashes: Vec<u64> = (0..50).map(|seed| run(seed, None, Detail::Hash).hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 50);
}

#[test]
fn a_failing_seed_is_made_smaller() {
    let bug = Some(Bug::LoseLastGroup);
    let fails = |seed: &u64| run(*seed, bug, Detail::Hash).violation.is_some();
    let seed = (0..SEEDS).find(fails).unwrap_or_else(|| panic!("no seed below {SEEDS} fails"));
    let shrunk = shrink(seed, bug).unwrap_or_else(|| panic!("seed {seed} does not fail again"));
    assert!(shrunk.outcome.violation.is_some(), "what is left still fails");
    assert!(shrunk.faults.len() <= 2, "one crash is enough: {:?}", shrunk.faults);
    assert!(!shrunk.outcome.trace.is_empty(), "with its story");
}
