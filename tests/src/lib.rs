//! Real processes on a real host: what the end-to-end tests share.
//!
//! [`Cluster`] is `wharf dev` as a user runs it. One at a time: it has the bridge, the firewall table and the ports of
//! this host. When it is dropped it stops the cluster and checks that nothing of it is left. [`Hosts`] is `wharf dev` with
//! several hosts, which can be cut off and lost. [`Several`] is several servers and agents, each a process of its own, made
//! as a user makes them.

pub mod busybox;
pub mod cluster;
pub mod hosts;
pub mod http;
pub mod leftovers;
pub mod load;
pub mod registers;
pub mod runbook;
pub mod several;
pub mod vm;

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

pub use cluster::{Cluster, program};
pub use hosts::Hosts;
pub use several::Several;

/// Waits until `look` gives something; fails with what was seen last.
pub fn wait_for<T, E: Debug>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<T, E>) -> T {
    let until = Instant::now() + deadline;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => {
                assert!(Instant::now() < until, "waited {deadline:?} for {what}; last seen: {seen:?}")
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
