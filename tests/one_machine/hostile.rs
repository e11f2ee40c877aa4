//! A hostile and unlucky world: what is killed, taken away or damaged while the cluster runs.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::{Cluster, cluster::kill_9, http, leftovers, wait_for};

use crate::{ONE, PORT, hello};

const SOON: Duration = Duration::from_secs(20);

fn sh(script: &str) {
    let status = Command::new("/bin/sh").args(["-c", script]).status().expect("a shell");
    assert!(status.success(), "{script}: {status}");
}

fn signal(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a process id");
    kill_process(pid, signal).expect("the process runs");
}

/// What the agent has on a tmpfs.
fn run_dir(cluster: &Cluster) -> PathBuf {
    cluster.socket().with_file_name("agent")
}

fn answers() {
    wait_for("an answer at the published port", SOON, || http::get(PORT, "/"));
}

fn wait_until_ready(cluster: &Cluster, wanted: u64) {
    wait_for("the replicas to be ready", SOON, || {
        let listed = cluster.wharf(&["get", "services", "web", "-o", "json"]);
        let service: Value = serde_json::from_str(&listed.stdout).map_err(|error| error.to_string())?;
        let ready = service["status"]["ready"].as_u64();
        if ready == Some(wanted) { Ok(()) } else { Err(service["status"].to_string()) }
    });
}

/// The programs of the demo image that run on this host, whoever knows of them.
fn programs() -> usize {
    leftovers::processes().iter().filter(|process| process.command.starts_with("/wharf hello")).count()
}

fn wait_for_programs(wanted: usize) {
    wait_for("as many programs as replicas", SOON, || match programs() {
        found if found == wanted => Ok(()),
        found => Err(found),
    });
}

fn started(replicas: u32) -> Cluster {
    let cluster = Cluster::start();
    assert_eq!(cluster.apply("web", &hello(replicas, ONE, "", "")).code, 0);
    cluster
}

#[test]
fn an_agent_without_its_launcher_makes_room_for_another() {
    let cluster = started(1);
    let before = cluster.pids("web");
    let agent = cluster.daemons("agent")[0];
    let launcher = leftovers::processes().into_iter().find(|process| process.parent == agent);
    kill_9(launcher.expect("the agent has a launcher").pid);
    wait_for("another agent", SOON, || match cluster.daemons("agent")[..] {
        [another] if another != agent => Ok(()),
        ref other => Err(format!("{other:?}")),
    });
    cluster.ok(&["scale", "web", "--replicas", "2", "--wait", "--timeout", "30s"]);
    assert!(cluster.pids("web").contains(&before[0]), "what ran was restarted");
    cluster.end();
}

#[test]
fn a_node_whose_agent_hangs_is_not_called_ready() {
    let cluster = started(1);
    let state = || {
        let nodes: Value = serde_json::from_str(&cluster.ok(&["get", "nodes", "-o", "json"])).expect("JSON");
        nodes[0]["state"].as_str().unwrap_or_default().to_owned()
    };
    let is = |wanted: &'static str| {
        wait_for(wanted, SOON, || match state() {
            state if state == wanted => Ok(()),
            other => Err(other),
        })
    };
    let agent = cluster.daemons("agent")[0];
    signal(agent, Signal::STOP);
    is("unknown");
    assert!(http::get(PORT, "/").is_ok(), "what runs goes on running");
    signal(agent, Signal::CONT);
    is("ready");
    wait_until_ready(&cluster, 1);
    cluster.end();
}

#[test]
fn what_others_do_to_the_network_is_put_right() {
    let cluster = started(2);
    let before = cluster.pids("web");
    for damage in [
        "nft delete table ip wharf",
        "ip link delete wharf0",
        "ip address flush dev wharf0",
        "ip link set wharf0 down",
    ] {
        sh(damage);
        // It may take the next look at the network, so it must be seen broken before it can be seen mended.
        let broken = http::get(PORT, "/").is_err();
        answers();
        println!("{damage}: broken at first: {broken}");
    }
    assert_eq!(cluster.pids("web"), before, "containers were restarted");
    assert_eq!(cluster.apply("web", &hello(2, ONE, "A: b", "")).code, 0);
    answers();
    cluster.end();
}

#[test]
fn replicas_start_again_though_their_namespaces_were_unmounted() {
    let cluster = started(1);
    let folder = run_dir(&cluster).join("netns").display().to_string();
    sh(&format!("grep -o ' {folder}[^ ]*' /proc/self/mounts | xargs -n1 umount"));
    wait_for("the namespace to be mounted again", SOON, || {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if mounts.contains(&folder) { Ok(()) } else { Err("it is not") }
    });
    kill_9(cluster.pids("web")[0]);
    wait_until_ready(&cluster, 1);
    answers();
    cluster.end();
}

#[test]
fn groups_that_others_removed_are_made_again() {
    let cluster = started(1);
    cluster.ok(&["scale", "web", "--replicas", "0", "--wait"]);
    wait_for_programs(0);
    // The agent removes some of them itself meanwhile.
    let all_gone = "find /sys/fs/cgroup -depth -type d -path '*/wharf*' -not -path '*/wharf-*' -exec rmdir {} ';' 2>/dev/null; \
                    test -z \"$(find /sys/fs/cgroup -type d -name wharf)\"";
    wait_for("the groups to be gone", SOON, || {
        let status =
            Command::new("/bin/sh").args(["-c", all_gone]).status().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err("they are still there".to_owned()) }
    });
    cluster.ok(&["scale", "web", "--replicas", "2", "--wait", "--timeout", "30s"]);
    cluster.end();
}

#[test]
fn a_server_that_lost_its_state_stops_nothing() {
    let cluster = started(2);
    let before = cluster.pids("web");
    fs::remove_dir_all(cluster.data().join("server")).expect("the server's data");
    cluster.kill("server");
    let log = wait_for("the agent to say what it found", SOON, || {
        let log = cluster.log("agent.log");
        if log.contains("did it lose its data?") { Ok(log) } else { Err(log) }
    });
    assert!(log.contains("what runs goes on running"), "{log}");
    for pid in before {
        assert!(fs::exists(format!("/proc/{pid}")).unwrap_or(false), "{pid} was stopped");
    }
    answers();
    cluster.end();
}

#[test]
fn a_node_that_lost_its_ledger_runs_everything_once() {
    let cluster = started(2);
    let ledger = cluster.data().join("agent/ledger.redb");
    // Stopped first, so that it cannot be started again between the two.
    for agent in cluster.daemons("agent") {
        signal(agent, Signal::STOP);
    }
    fs::remove_file(ledger).expect("the ledger");
    cluster.kill("agent");
    wait_for("the next agent to adopt", SOON, || {
        let starts = cluster.log("agent.log").matches("the agent starts").count();
        if starts == 2 { Ok(()) } else { Err(starts) }
    });
    wait_until_ready(&cluster, 2);
    wait_for_programs(2);
    answers();
    cluster.end();
}

#[test]
fn containers_whose_run_directory_was_emptied_are_still_ended() {
    let cluster = started(2);
    let containers = run_dir(&cluster).join("containers").display().to_string();
    sh(&format!("test -n \"$(ls {containers})\" && rm -rf {containers}/*"));
    cluster.kill("agent");
    wait_for("the next agent to adopt", SOON, || {
        let starts = cluster.log("agent.log").matches("the agent starts").count();
        if starts == 2 { Ok(()) } else { Err(starts) }
    });
    wait_until_ready(&cluster, 2);
    wait_for_programs(2);
    sh(&format!("rm -rf {containers}/*"));
    assert_eq!(cluster.wharf(&["delete", "web"]).code, 0);
    wait_for_programs(0);
    cluster.end();
}

#[test]
fn a_second_cluster_on_the_host_leaves_the_first_alone() {
    let cluster = started(2);
    let before = cluster.pids("web");
    let other = cluster.folder().join("other");
    let refused = wait_for("the second agent to be refused", SOON, || {
        let mut agent = Command::new(tests::cluster::program());
        agent.arg("agent").arg("--data").arg(other.join("data")).arg("--run").arg(other.join("run"));
        let ended =
            agent.arg("--server").arg(cluster.socket()).output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        if ended.status.success() { Err(said) } else { Ok(said) }
    });
    assert!(refused.contains("runs on this machine already"), "{refused}");
    assert_eq!(cluster.pids("web"), before);
    answers();
    cluster.end();
}
