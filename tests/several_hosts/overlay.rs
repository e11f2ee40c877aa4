//! Replicas reach each other across hosts, and a published port answers on every host, whatever happens to the rest.

use std::{net::IpAddr, process::Command, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::{Hosts, cluster::kill_9, http, load::Load, wait_for};

const SOON: Duration = Duration::from_secs(30);
const PORT: u16 = 8080;
/// Of a debug build on a machine that does other things too.
const PER_SECOND: u32 = 200;

fn web(replicas: u32, version: u32) -> String {
    format!(
        "apiVersion: wharf/v1
kind: Service
metadata: {{ name: web }}
spec:
  replicas: {replicas}
  image: wharf.local/hello:{version}
  env: {{ HELLO_MODE: server, PORT: '8080' }}
  ports: [{{ name: http, port: 8080, publish: {PORT} }}]
  health: {{ readiness: {{ http: {{ port: http, path: /healthz }} }} }}
  stopGrace: 5s
  update: {{ order: start-first, maxSurge: 1 }}
"
    )
}

/// A replica: its host, its address, the process of its program.
struct Replica {
    host: u8,
    address: String,
    pid: i64,
}

fn replicas(hosts: &Hosts) -> Vec<Replica> {
    let replica = |replica: &Value| {
        let node = replica["node"].as_str().expect("a node");
        Replica {
            host: node.trim_start_matches("host-").parse().expect("a host's number"),
            address: replica["address"].as_str().expect("an address").to_owned(),
            pid: replica["containers"][0]["pid"].as_i64().expect("a process"),
        }
    };
    hosts.cluster.replicas("web").iter().map(replica).collect()
}

/// Who answers at a host's address, several times in a row.
fn answers(hosts: &Hosts, host: u8) -> Vec<String> {
    let address: IpAddr = hosts.address(host);
    answers_at(address)
}

fn answers_at(address: IpAddr) -> Vec<String> {
    let answer =
        || http::get_at(address, PORT, "/").map(|body| body.lines().next().unwrap_or_default().to_owned());
    wait_for(&format!("answers at {address}"), SOON, || {
        (0..4).map(|_| answer()).collect::<Result<Vec<_>, _>>()
    })
}

/// From inside of one replica to another.
fn reaches(from: &Replica, to: &Replica) {
    let url = format!("http://{}:8080/", to.address);
    let mut curl = Command::new("nsenter");
    curl.args(["-t", &from.pid.to_string(), "-n", "curl", "-sS", "--max-time", "5", &url]);
    let output = curl.output().expect("nsenter");
    let body = String::from_utf8_lossy(&output.stdout);
    assert!(body.contains("hello from web-"), "host {} to host {}: {output:?}", from.host, to.host);
}

fn signal(pids: &[i32], signal: Signal) {
    for pid in pids {
        kill_process(Pid::from_raw(*pid).expect("a process"), signal).expect("it is there");
    }
}

#[test]
fn hosts_are_one_network_with_or_without_servers() {
    let hosts = Hosts::start(3);
    let applied = hosts.cluster.apply("web", &web(2, 1));
    assert_eq!(applied.code, 0, "{applied:#?}");
    let all = replicas(&hosts);
    let [one, two] = all.as_slice() else { panic!("two replicas") };
    assert_ne!(one.host, two.host, "they are spread over hosts");
    let without = hosts.all().find(|host| ![one.host, two.host].contains(host)).expect("a third host");

    // The port answers everywhere, by both replicas, and they reach each other by address.
    for host in hosts.all() {
        let mut seen = answers(&hosts, host);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 2, "host {host}: {seen:?}");
    }
    reaches(one, two);
    reaches(two, one);

    // No server answers any more; the agent of the host that only passes on is killed, and another one begins.
    let address = hosts.address(without);
    let servers: Vec<i32> = hosts.all().map(|host| hosts.server(host)).collect();
    let agent = hosts.agent(without);
    signal(&servers, Signal::STOP);
    answers_at(address);
    kill_9(agent);
    wait_for("another agent", SOON, || match hosts.agent(without) {
        same if same == agent => Err(same),
        _ => Ok(()),
    });
    // What it begins with is what it remembers: nobody could tell it anything.
    wait_for("the agent to begin", SOON, || {
        let log = hosts.log(without, "agent");
        if log.matches("the agent starts").count() >= 2 { Ok(()) } else { Err(log) }
    });
    answers_at(address);
    reaches(one, two);
    signal(&servers, Signal::CONT);

    // A host that is cut off from the kernel's tables finds its way again.
    let tunnel = hosts.run(without, "ip", &["-br", "link", "show", "type", "vxlan"]);
    let tunnel = tunnel.split_whitespace().next().expect("a tunnel").to_owned();
    hosts.run(without, "ip", &["link", "del", &tunnel]);
    answers_at(address);
    hosts.end();
}

#[test]
fn a_rolling_update_loses_no_request_at_a_host_that_only_passes_them_on() {
    let hosts = Hosts::start(3);
    assert_eq!(hosts.cluster.apply("web", &web(2, 1)).code, 0);
    let used: Vec<u8> = replicas(&hosts).iter().map(|replica| replica.host).collect();
    let without = hosts.all().find(|host| !used.contains(host)).expect("a host without a replica");
    hosts.cluster.ok(&["node", "cordon", &format!("host-{without}")]);
    answers(&hosts, without);
    let load = Load::start_at(hosts.address(without), PORT, PER_SECOND);
    for version in [2, 1, 2, 1, 2] {
        let applied = hosts.cluster.apply("web", &web(2, version));
        assert_eq!(applied.code, 0, "{applied:#?}");
    }
    let tally = load.stop();
    println!("{} answered in {:?}, by version {:?}", tally.answered, tally.lasted, tally.versions);
    assert_eq!(tally.failed, Vec::<String>::new(), "{tally:#?}");
    assert_eq!(tally.versions.len(), 2, "{tally:#?}");
    assert!(replicas(&hosts).iter().all(|replica| replica.host != without), "it still has none");
    hosts.end();
}
