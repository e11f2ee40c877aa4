//! What a container may see and use, as `/proc` and the container itself tell it.

use std::{collections::BTreeSet, fs, time::Duration};

use tests::{Cluster, http, wait_for};

use crate::{ONE, PORT, hello};

#[test]
fn three_replicas_answer_in_turn_isolated_and_limited() {
    let cluster = Cluster::start();
    let applied = cluster.apply("web", &hello(3, ONE, "", ""));
    assert_eq!(applied.code, 0, "{applied:#?}");
    let pids = cluster.pids("web");
    assert_eq!(pids.len(), 3, "{pids:?}");

    let hosts: Vec<String> = (0..9).map(|_| http::get(PORT, "/").expect("an answer")).collect();
    let turns: BTreeSet<&String> = hosts.iter().collect();
    assert_eq!(turns.len(), 3, "{hosts:#?}");
    for turn in hosts.windows(3) {
        assert_eq!(turn.iter().collect::<BTreeSet<_>>().len(), 3, "not in turn: {hosts:#?}");
    }

    for kind in ["mnt", "pid", "net", "uts", "ipc", "cgroup"] {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
        let own: BTreeSet<_> = pids.iter().map(|pid| namespace(&pid.to_string())).collect();
        assert_eq!(own.len(), 3, "replicas share {kind}");
        assert!(!own.contains(&namespace("self")), "a replica is in the host's {kind} namespace");
    }
    for pid in &pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the status of a process");
        for line in
            ["NoNewPrivs:\t1", "Seccomp:\t2", "CapInh:\t0000000000000000", "CapAmb:\t0000000000000000"]
        {
            assert!(status.contains(line), "{line} is missing in {status}");
        }
        assert_eq!(limit(*pid, "memory", "memory.limit_in_bytes", "memory.max"), (64_u64 << 20).to_string());
        assert_eq!(limit(*pid, "pids", "pids.max", "pids.max"), "64");
    }
    cluster.end();
}

/// A limit as the kernel holds it, in the hierarchy where the process is limited.
fn limit(pid: i32, controller: &str, v1: &str, v2: &str) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the groups of a process");
    let of = |wanted: &str| {
        let line = groups.lines().find(|line| line.split(':').nth(1) == Some(wanted))?;
        line.splitn(3, ':').nth(2).map(str::to_owned)
    };
    let v1_file = of(controller).map(|path| format!("/sys/fs/cgroup/{controller}{path}/{v1}"));
    let v2_file = of("").map(|path| format!("/sys/fs/cgroup{path}/{v2}"));
    let read = |file: Option<String>| fs::read_to_string(file?).ok();
    read(v1_file).or_else(|| read(v2_file)).expect("a limit").trim().to_owned()
}

#[test]
fn a_memory_hog_is_told_as_oom_killed_with_limit_and_peak() {
    let cluster = Cluster::start();
    let manifest =
        hello(1, ONE, "HELLO_EAT_MEMORY: 200Mi", "  update: {onFailure: continue, progressDeadline: 20s}\n");
    let path = cluster.folder().join("hog.yaml");
    fs::write(&path, manifest).expect("the manifest");
    cluster.ok(&["apply", "-f", path.to_str().expect("UTF-8")]);
    let told = wait_for("an OOM kill to be told", Duration::from_secs(30), || {
        let description = cluster.ok(&["describe", "web"]);
        if description.contains("OOM killed (limit 64Mi, peak 64Mi)") {
            Ok(description)
        } else {
            Err(description)
        }
    });
    assert!(told.contains("restarts"), "{told}");
    cluster.end();
}
