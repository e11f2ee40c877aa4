//! They start, end and start again, whatever ended them before.

use std::{collections::BTreeSet, net::IpAddr, path::Path, time::Duration};

use tests::{Hosts, cluster::kill_9, http, wait_for};

use crate::{hello, pids};

const SOON: Duration = Duration::from_secs(30);

/// Each host has one of the three replicas, and each answers at its own address.
fn answers_at_each_address(hosts: &Hosts) -> BTreeSet<IpAddr> {
    let addresses: BTreeSet<IpAddr> = hosts.all().map(|host| hosts.address(host)).collect();
    for &address in &addresses {
        wait_for("an answer", SOON, || {
            let body = http::get_at(address, 8080, "/")?;
            if body.contains("hello from hello-") { Ok(()) } else { Err(body) }
        });
    }
    addresses
}

fn voters(hosts: &Hosts) -> usize {
    hosts.cluster.ok(&["cluster", "members"]).lines().filter(|line| line.contains("voter")).count()
}

#[test]
fn three_hosts_serve_survive_their_daemons_and_start_again() {
    let mut hosts = Hosts::start(3);
    assert_eq!(voters(&hosts), 3);
    let before = hello(&hosts);
    let addresses = answers_at_each_address(&hosts);
    assert_eq!(addresses.len(), 3, "{addresses:?}");
    let names: BTreeSet<String> =
        hosts.all().map(|host| hosts.run(host, "ip", &["-4", "-br", "address", "show", "eth0"])).collect();
    assert!(addresses.iter().all(|address| names.iter().any(|name| name.contains(&address.to_string()))));

    // Each daemon of a host may die; another one takes over what runs.
    for kill in [hosts.server(2), hosts.agent(2), hosts.agent(1), hosts.server(1)] {
        kill_9(kill);
    }
    for host in [1, 2] {
        hosts.server(host);
        hosts.agent(host);
    }
    wait_for("the nodes", SOON, || {
        let nodes = hosts.cluster.wharf(&["get", "nodes"]).stdout;
        if nodes.matches(" ready ").count() == 3 { Ok(()) } else { Err(nodes) }
    });
    assert_eq!(pids(&hosts), before);

    let cluster = |hosts: &Hosts| hosts.cluster.ok(&["cluster", "status"]).lines().next().map(str::to_owned);
    let id = cluster(&hosts);
    hosts.cluster.stop();
    hosts.resume();
    assert_eq!(cluster(&hosts), id);
    assert_eq!(voters(&hosts), 3);
    assert_eq!(answers_at_each_address(&hosts), addresses);
    hosts.end();
}

#[test]
fn what_a_kill_leaves_is_taken_over_or_removed_by_the_next_start() {
    let mut hosts = Hosts::start(3);
    let before = hello(&hosts);
    // Nobody is left to stop what runs: it goes on, and so do its hosts.
    hosts.cluster.kill_dev_and(&hosts.all().map(|host| hosts.agent(host)).collect::<Vec<_>>());
    hosts.resume();
    assert_eq!(pids(&hosts), before);
    answers_at_each_address(&hosts);

    // Agents that outlive `wharf dev` stop what they run; a cluster of this machine alone removes the hosts.
    hosts.cluster.kill_dev_and(&[]);
    let left = Path::new("/run/wharf/hosts");
    assert!(left.exists());
    hosts.cluster.set_arguments(&["--nodes", "1"]);
    hosts.cluster.resume();
    assert!(!left.exists());
    assert!(before.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()), "{before:?}");
    hosts.end();
}

#[test]
fn two_hosts_have_one_server_and_a_third_brings_two_more() {
    let mut hosts = Hosts::start(2);
    assert_eq!(voters(&hosts), 1);
    hosts.cluster.stop();
    hosts.resume_with(3);
    assert_eq!(voters(&hosts), 3);
    hosts.end();
}
