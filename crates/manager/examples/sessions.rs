//! What thousands of agents cost the one thread of a server: all of them open a session, as after the loss of a leader, and
//! all of them say that they are there.
//!
//!     cargo run --release -p manager --example sessions -- [nodes [replicas on each]]

#![allow(clippy::expect_used)]

#[path = "../tests/many/mod.rs"]
mod many;

use std::time::{Duration, Instant};

use many::Many;

const ROUNDS: usize = 5;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|arg| arg.parse().expect("a number"));
    let (nodes, replicas) = (numbers.next().unwrap_or(5_000), numbers.next().unwrap_or(4));
    let mut many = Many::new(nodes, replicas as u32);
    let mut sessions: Vec<Duration> = (0..ROUNDS).map(|_| timed(|| many.all_open_sessions())).collect();
    let mut beats: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            timed(|| {
                many.all_beat();
                many.tick()
            })
        })
        .collect();
    let settings = model::Settings::default();
    let (interval, scatter) = (settings.heartbeat_interval(nodes as usize), settings.scatter(nodes as usize));
    println!("{nodes} nodes with {replicas} replicas each, on one thread:");
    report("all open a session", nodes, &mut sessions);
    println!("  they come within {scatter} of each other");
    report("all are heard", nodes, &mut beats);
    println!("  every {interval}");
}

fn timed<T>(what: impl FnOnce() -> T) -> Duration {
    let began = Instant::now();
    std::hint::black_box(what());
    began.elapsed()
}

/// The median, of all and of each.
fn report(what: &str, nodes: u64, took: &mut [Duration]) {
    took.sort_unstable();
    let median = took[took.len() / 2];
    println!("{what}: {median:.1?}, {:.1?} each", median / nodes as u32);
}
