//! A crash at every operation, and again while the log is opened after it: what was acknowledged is there.

use consensus::{Persist, Recovered};
use proptest::{prelude::*, test_runner::TestRunner};

use super::{
    after, hard_state,
    model_disk::{Faults, ModelDisk},
    open, persist, settle, snapshot,
};
use crate::log::Opened;

/// One thing that is done to a log.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Persist>),
    /// A snapshot of the member's own state.
    Compact(u64),
}

/// Does the steps until one fails. Gives how many were done.
fn run(disk: &ModelDisk, steps: &[Step]) -> usize {
    let Ok(Opened { mut log, .. }) = open(disk) else { return 0 };
    let done = |step: &&Step| match step {
        Step::Append(batch) => log.append(batch).is_ok(),
        Step::Compact(index) => {
            let saved = log.snapshots().write(&own_snapshot(steps, *index));
            saved.is_ok_and(|saved| log.compact(&saved).is_ok())
        }
    };
    let mut done = done;
    steps.iter().take_while(|step| done(step)).count()
}

/// The term at an index does not change once it is committed, so the last word of the steps is right.
fn own_snapshot(steps: &[Step], index: u64) -> consensus::Snapshot {
    let term = steps.iter().flat_map(|step| match step {
        Step::Append(batch) => batch.iter().flat_map(|write| write.entries.iter()).collect::<Vec<_>>(),
        Step::Compact(_) => Vec::new(),
    });
    let term = term.filter(|entry| entry.index == index).last().map_or(1, |entry| entry.term);
    snapshot(index, term)
}

fn expected(steps: &[Step]) -> Recovered {
    steps.iter().fold(Recovered::bootstrap(1), |recovered, step| match step {
        Step::Append(batch) => after(recovered, batch),
        Step::Compact(index) => {
            settle(Recovered { snapshot: Some(own_snapshot(steps, *index)), ..recovered })
        }
    })
}

/// Every state that may be found after a crash in step `done`: a step happens whole or not at all, except that an
/// installed snapshot may be there before the log says so.
fn allowed(steps: &[Step], done: usize) -> Vec<Recovered> {
    let before = expected(&steps[..done]);
    let Some(step) = steps.get(done) else { return vec![before] };
    let mut allowed = vec![before.clone(), expected(&steps[..=done])];
    if let Step::Append(batch) = step {
        for write in batch.iter().filter(|write| write.snapshot.is_some()) {
            let snapshot = write.snapshot.clone();
            let mut half = after(Recovered { snapshot, entries: Vec::new(), ..before.clone() }, &[]);
            let term = half.last().1;
            if half.hard_state.term < term {
                (half.hard_state.term, half.hard_state.vote) = (term, 0);
            }
            allowed.push(half);
        }
    }
    allowed
}

fn check_crash(steps: &[Step], at: u64, seed: u64) {
    let mut bits = seed;
    let mut chance = move || {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        bits & 4 == 0
    };
    let disk = ModelDisk::default();
    disk.set_faults(Faults { crash_at: Some(at), ..Faults::default() });
    let done = run(&disk, steps);
    let allowed = allowed(steps, done);
    // The machine crashes again while it recovers, a little later each time.
    for again in 1..=4 {
        disk.restart(&mut chance);
        disk.set_faults(Faults { crash_at: Some(again), ..Faults::default() });
        let _ = open(&disk);
    }
    disk.restart(&mut chance);
    let opened = open(&disk).unwrap_or_else(|error| panic!("crash at {at}, seed {seed}: {error}: {error:?}"));
    let found = opened.recovered;
    assert!(
        allowed.contains(&found),
        "crash at {at}, seed {seed}, in step {done}: {found:#?}\nnot in {allowed:#?}"
    );
    // And it can be used and opened once more.
    let (index, term) = found.last();
    let more = persist(1, vec![super::entry(index + 1, term, 10)]);
    let mut log = opened.log;
    log.append(std::slice::from_ref(&more)).expect("the recovered log can be appended to");
    drop(log);
    disk.restart(&mut chance);
    assert_eq!(open(&disk).expect("the log opens again").recovered, after(found, &[more]));
}

/// How many operations the steps take without a crash.
fn operations(steps: &[Step]) -> u64 {
    let disk = ModelDisk::default();
    disk.set_faults(Faults::default());
    assert_eq!(run(&disk, steps), steps.len());
    disk.operations()
}

/// Appends, replaced entries, a full segment, an own snapshot, an installed one, and appends after it.
fn story() -> Vec<Step> {
    let entry = super::entry;
    let with = |mut write: Persist, term, commit| {
        write.hard_state = Some(hard_state(term, commit));
        write
    };
    let installed = Persist {
        number: 8,
        snapshot: Some(snapshot(40, 5)),
        entries: vec![entry(41, 5, 20)],
        hard_state: Some(hard_state(5, 40)),
    };
    vec![
        Step::Append(vec![with(persist(1, vec![entry(2, 2, 10)]), 2, 1)]),
        Step::Append(vec![persist(2, vec![entry(3, 2, 600)]), persist(3, vec![entry(4, 2, 10)])]),
        Step::Append(vec![with(persist(4, vec![entry(4, 3, 10), entry(5, 3, 10)]), 3, 3)]),
        Step::Append(vec![with(persist(5, vec![entry(6, 3, 5 << 10)]), 3, 5)]),
        Step::Compact(5),
        Step::Append(vec![persist(6, vec![entry(7, 3, 20 << 10)])]),
        Step::Compact(6),
        Step::Append(vec![persist(7, vec![entry(8, 3, 10)])]),
        Step::Append(vec![installed]),
        Step::Append(vec![persist(9, vec![entry(42, 5, 10)])]),
    ]
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_acknowledged() {
    let steps = story();
    for at in 1..=operations(&steps) {
        for seed in 1..=24 {
            check_crash(&steps, at, at * 1_000 + seed);
        }
    }
}

#[test]
fn a_killed_process_finds_what_it_wrote() {
    let steps = story();
    for at in 1..=operations(&steps) {
        let disk = ModelDisk::default();
        disk.set_faults(Faults { crash_at: Some(at), ..Faults::default() });
        let done = run(&disk, &steps);
        disk.restart_process();
        let found = open(&disk).expect("the log opens").recovered;
        assert!(allowed(&steps, done).contains(&found), "killed at {at}");
        // What was read is durable from now on, though the process that wrote it never synced it.
        disk.restart(&mut || false);
        assert_eq!(open(&disk).expect("the log opens").recovered, found, "killed at {at}");
    }
}

/// After a failed sync Linux counts the pages as clean: they are read as if they were there, and never written.
#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_not_trusted() {
    let disk = ModelDisk::default();
    let mut log = open(&disk).expect("a new log").log;
    log.append(&[persist(1, vec![super::entry(2, 1, 10)])]).expect("a good disk");
    disk.set_faults(Faults { fail_syncs_from: Some(1), ..Faults::default() });
    log.append(&[persist(2, vec![super::entry(3, 1, 700)])]).expect_err("the sync fails");
    drop(log);
    disk.restart_process();
    let found = open(&disk).expect("the log opens").recovered;
    assert_eq!(found.entries.len(), 2, "the page cache has it");
    disk.restart(&mut || false);
    assert_eq!(open(&disk).expect("the log opens").recovered, found);
}

/// Random appends; each may replace what is not committed.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = (0_u64..4, 1_usize..4, prop_oneof![0_usize..700, 1_000_usize..3_000], any::<bool>());
    prop::collection::vec(prop::collection::vec(write, 1..4), 1..12).prop_map(|groups| {
        let (mut last, mut commit, mut term, mut number) = (1_u64, 1_u64, 1_u64, 0_u64);
        let mut step = |group: Vec<(u64, usize, usize, bool)>| {
            let writes = group.into_iter().map(|(back, count, bytes, commits)| {
                let from = (last + 1).saturating_sub(back).max(commit + 1);
                term += u64::from(from <= last);
                last = from + count as u64 - 1;
                number += 1;
                let entries = (from..=last).map(|index| super::entry(index, term, bytes)).collect();
                commit = if commits { last } else { commit };
                let hard_state = Some(hard_state(term, commit));
                Persist { number, snapshot: None, entries, hard_state }
            });
            Step::Append(writes.collect())
        };
        groups.into_iter().map(&mut step).collect()
    })
}

#[test]
fn random_appends_survive_random_crashes() {
    let config = ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() };
    let inputs = (steps(), any::<prop::sample::Index>(), 1_u64..u64::MAX);
    let result = TestRunner::new(config).run(&inputs, |(steps, at, seed)| {
        check_crash(&steps, 1 + at.index(operations(&steps) as usize) as u64, seed);
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}
