//! All servers are restarted, one after the other, as an upgrade does it.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::{
    Hosts,
    cluster::signal,
    registers::{Pace, Registers, Servers},
    wait_for,
};

use crate::{hello, pids};

/// What a client may have to wait, with all its attempts.
const LONGEST: Duration = Duration::from_secs(5);

#[test]
fn no_request_fails_while_all_servers_are_restarted() {
    let hosts = Hosts::start(3);
    let before = hello(&hosts);
    let registers = Registers::start(Servers::at_sockets(hosts.sockets()), Pace::LIVELY, "host-1");
    for round in 1..=2 {
        for host in hosts.all() {
            let (server, led) = (hosts.server(host), hosts.leader() == host);
            let began = Instant::now();
            signal(server, Signal::TERM);
            wait_for("another server", Duration::from_secs(60), || {
                let now = hosts.server(host);
                if now == server { Err(now) } else { Ok(()) }
            });
            hosts.wait_until_all_answer();
            println!(
                "round {round}: the server of host {host} (led: {led}) is back after {:?}",
                began.elapsed()
            );
        }
    }
    let summary = registers.stop();
    println!("{summary:?}");
    assert!(summary.longest < LONGEST, "{summary:?}");
    assert_eq!(pids(&hosts), before);
    hosts.end();
}
