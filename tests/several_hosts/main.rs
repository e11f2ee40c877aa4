//! Hosts with addresses of their own, made by `wharf dev --nodes`, and what befalls them under a load of writes.

mod disk;
mod faults;
mod overlay;
mod readme;
mod rolling;
mod starting;

use std::time::Duration;

use tests::{Hosts, wait_for};

/// Three replicas, one on each of three hosts.
fn hello(hosts: &Hosts) -> Vec<i32> {
    let applied = hosts.cluster.apply("hello", include_str!("../../manifests/hello.yaml"));
    assert_eq!(applied.code, 0, "{applied:#?}");
    pids(hosts)
}

/// What it runs; another set than before means that something was restarted. A new leader is told by the nodes, in a
/// moment.
fn pids(hosts: &Hosts) -> Vec<i32> {
    wait_for("three processes", Duration::from_secs(60), || {
        let mut pids = hosts.cluster.pids("hello");
        pids.sort_unstable();
        if pids.len() == 3 { Ok(pids) } else { Err(pids) }
    })
}
