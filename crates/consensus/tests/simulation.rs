//! A whole cluster in one loop: messages are lost, doubled and reordered, members crash and lose what they had not
//! synced, snapshots are taken, members join and leave. Seeded; a failing seed is replayed with
//! `SIMULATION_SEED=n cargo test -p consensus --test simulation`.
//!
//! Checked all the time: at most one leader per term; no two members apply different entries at an index; what was
//! acknowledged to a client is applied by every later leader; a linearizable read sees what was acknowledged before it.

#[path = "simulation/cluster.rs"]
mod cluster;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/random.rs"]
mod random;

use cluster::{Cluster, Faults};

fn seeds(count: u64) -> Box<dyn Iterator<Item = u64>> {
    match std::env::var("SIMULATION_SEED") {
        Ok(seed) => Box::new(std::iter::once(seed.parse().expect("SIMULATION_SEED is a number"))),
        Err(_) => Box::new(0..count * times()),
    }
}

#[track_caller]
fn run(seed: u64, voters: u64, faults: Faults, steps: u32) -> Cluster {
    let mut cluster = Cluster::new(seed, voters, faults);
    for _ in 0..steps {
        cluster.step();
    }
    cluster.calm();
    cluster
}

#[test]
fn a_single_voter_loses_nothing_in_crashes() {
    let mut acknowledged = 0;
    for seed in seeds(100) {
        acknowledged += run(seed, 1, Faults { crash: 40, ..Faults::default() }, 1_500).acknowledged();
    }
    assert!(acknowledged > 1_000, "the simulation did not do much: {acknowledged} acknowledged");
}

#[test]
fn three_voters_survive_loss_reordering_and_crashes() {
    let mut acknowledged = 0;
    for seed in seeds(60) {
        acknowledged +=
            run(seed, 3, Faults { crash: 8, lose: 50, delay: 6, ..Faults::default() }, 2_000).acknowledged();
    }
    assert!(acknowledged > 1_000, "the simulation did not do much: {acknowledged} acknowledged");
}

#[test]
fn five_voters_survive_loss_reordering_and_crashes() {
    for seed in seeds(20) {
        run(seed, 5, Faults { crash: 12, lose: 100, delay: 10, ..Faults::default() }, 1_500);
    }
}

#[test]
fn members_come_and_go_under_faults() {
    let mut changes = 0;
    for seed in seeds(60) {
        let faults = Faults { crash: 5, lose: 30, delay: 4, change: 20, ..Faults::default() };
        changes += run(seed, 3, faults, 2_500).membership_changes();
    }
    assert!(changes > 300, "the simulation did not do much: {changes} membership changes");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let faults = Faults { crash: 8, lose: 50, delay: 6, change: 10, ..Faults::default() };
    for seed in 0..5 {
        assert_eq!(run(seed, 3, faults, 1_000).trace(), run(seed, 3, faults, 1_000).trace());
    }
}

/// The simulation must be able to fail: a disk that acknowledges before it wrote has to be found out.
#[test]
fn a_lying_disk_is_noticed() {
    let noticed = (0..40).any(|seed| {
        let faults = Faults { crash: 20, lose: 50, delay: 6, lying_disk: true, ..Faults::default() };
        std::panic::catch_unwind(|| run(seed, 3, faults, 2_000)).is_err()
    });
    assert!(noticed, "acknowledging before syncing went unnoticed in 40 seeds");
}

/// `SIMULATION_TIMES=20` runs twenty times as many seeds.
fn times() -> u64 {
    std::env::var("SIMULATION_TIMES").map_or(1, |times| times.parse().expect("SIMULATION_TIMES is a number"))
}
