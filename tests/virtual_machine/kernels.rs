//! The same service on the newest kernel that Debian has and on the one before, on which newer calls are done the older
//! way.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use tests::{vm::Debian, wait_for};

use crate::host::Host;

const SOON: Duration = Duration::from_secs(90);

#[test]
fn hello_is_limited_survives_kills_and_leaves_nothing() {
    let host = Host::boot_kernel("thirteen", Debian::Thirteen);
    doctor_finds_cgroup_v2_and_lacks(&host, &["overlays of mounts without a path"]);
    hello(&host);
    host.end();
}

#[test]
fn so_it_does_on_linux_6_1() {
    let host = Host::boot_kernel("twelve", Debian::Twelve);
    let older = ["overlay layers one by one", "overlays of mounts without a path"];
    doctor_finds_cgroup_v2_and_lacks(&host, &older);
    // This kernel maps the owners of files on disks, and not yet those in memory.
    let in_memory = findings(&host, "--data /tmp/images");
    let mapped = find(&in_memory, "user namespace for images");
    assert_eq!(mapped["status"], "warning", "{mapped}");
    hello(&host);
    host.end();
}

/// A kernel that lacks nothing else must not be said to: only these cost a little there.
fn doctor_finds_cgroup_v2_and_lacks(host: &Host, lacking: &[&str]) {
    let findings = findings(host, "");
    let find = |name| find(&findings, name);
    assert_eq!(find("cgroups")["detail"], "v2");
    for controller in ["memory controller", "pids controller", "cpu controller"] {
        assert_eq!(find(controller)["detail"], "cgroup2");
    }
    let not_ok = findings.iter().filter(|finding| finding["status"] != "ok");
    let named: BTreeSet<_> = not_ok.clone().filter_map(|finding| finding["name"].as_str()).collect();
    assert_eq!(named, lacking.iter().copied().collect(), "{:#?}", not_ok.collect::<Vec<_>>());
    for name in lacking {
        assert_eq!(find(name)["status"], "warning", "{}", find(name));
    }
}

fn findings(host: &Host, arguments: &str) -> Vec<Value> {
    serde_json::from_str(&host.ok(&format!("doctor -o json {arguments}"))).expect("a list of findings")
}

fn find<'a>(findings: &'a [Value], name: &str) -> &'a Value {
    let found = findings.iter().find(|finding| finding["name"] == name);
    found.unwrap_or_else(|| panic!("no finding {name} in {findings:#?}"))
}

fn hello(host: &Host) {
    host.dev("-f /root/hello.yaml");
    host.wait_for_dev("Ctrl-C stops everything");
    let pids = host.wait_ready("hello", 3);
    assert!(host.machine.ok("wget -q -O - http://127.0.0.1:8080/").contains("hello from hello-"));
    for pid in &pids {
        let limits =
            ["memory.max", "memory.swap.max", "pids.max", "cpu.max"].map(|file| host.limit(*pid, file));
        assert_eq!(limits, ["67108864", "0", "64", "20000 100000"]);
    }
    users_are_their_own(host, &pids);

    // The agent is gone and comes back: the containers are the same processes.
    let agent = host.daemon("agent");
    host.machine.ok(&format!("kill -9 {agent}"));
    wait_for("another agent", SOON, || {
        let now = host.daemon("agent");
        if !now.is_empty() && now != agent { Ok(()) } else { Err(now) }
    });
    wait_for("the containers to be adopted", SOON, || {
        let now = host.wait_ready("hello", 3);
        if now == pids { Ok(()) } else { Err(now) }
    });

    // A container is gone: its node starts it again, in a group with the same limits.
    host.machine.ok(&format!("kill -9 {}", pids[0]));
    wait_for("the container to be restarted", SOON, || {
        let now = host.wait_ready("hello", 3);
        if now.contains(&pids[0]) { Err(now) } else { Ok(()) }
    });
    for pid in host.pids("hello") {
        assert_eq!(host.limit(pid, "memory.max"), "67108864");
    }
    let told = host.ok("describe hello");
    assert!(told.contains("killed by SIGKILL"), "{told}");
}

/// Root in a container is somebody else on the host and in the other containers, and still owns the image's files.
fn users_are_their_own(host: &Host, pids: &[i64]) {
    let users = pids.iter().map(|pid| {
        let map = host.machine.ok(&format!("cat /proc/{pid}/uid_map"));
        let [inside, outside, _] = map.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{map}") };
        assert_eq!(inside, "0", "{map}");
        assert_ne!(outside, "0", "{map}");
        let owner = host.machine.ok(&format!("stat -c %u /proc/{pid}/root/wharf"));
        assert_eq!(owner.trim(), outside, "the owner of a file of the image");
        outside.to_owned()
    });
    assert_eq!(users.collect::<BTreeSet<_>>().len(), pids.len());
}
