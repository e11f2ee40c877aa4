//! A host with nothing but cgroup2: this one, seen from a mount namespace without its v1 hierarchies.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use runtime::{Config, ExitRecord, LogTarget, Rootfs, Runtime, StartRequest};
use serde_json::json;

use crate::Test;
use crate::fixture::{Host, read_log, spec};

pub(crate) const TESTS: &[Test] = &[("unified::a_container_on_cgroup2_alone", a_container_on_cgroup2_alone)];

const ORDER: &str = "WHARF_TEST_UNIFIED";

pub(crate) fn order() -> Option<String> {
    std::env::var(ORDER).ok()
}

/// Runs one container and prints its log; the order is the directory and the parent cgroup of the test's host.
pub(crate) fn run(order: &str) -> ExitCode {
    let (dir, parent) = order.split_once(' ').unwrap();
    let dir = PathBuf::from(dir);
    let config = Config { state_dir: dir.join("unified-state"), cgroup_parent: format!("{parent}-unified") };
    let runtime = Runtime::fork(config).unwrap();
    let script = "mount | grep -c 'type cgroup2 (ro'; cat /proc/self/cgroup | grep '^0:'; ls /sys/fs/cgroup | grep -c cgroup.procs; \
                  echo x > /dev/null && echo null; mknod /tmp/sda b 254 0; mknod /tmp/kmsg c 1 11";
    let mut changed = spec(&["/bin/sh", "-c", script]);
    for set in ["bounding", "effective", "permitted"] {
        changed["process"]["capabilities"][set] = json!(["CAP_MKNOD"]);
    }
    // No controller is left here, so there is nothing that could limit.
    changed["linux"]["resources"] = json!({});
    let scratch = dir.join("scratch/unified");
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    fs::create_dir_all(&upper).unwrap();
    fs::create_dir_all(&work).unwrap();
    let request = StartRequest {
        id: "unified".parse().unwrap(),
        spec: serde_json::from_value(changed).unwrap(),
        rootfs: Rootfs::Overlay { lowers: vec![dir.join("rootfs")], upper, work },
        log: LogTarget { path: dir.join("logs/unified"), max_bytes: 1 << 20, max_files: 2 },
        deadline: None,
        init: true,
    };
    runtime.start(&request).unwrap();
    assert!(runtime.watch(&request.id).unwrap().wait(10_000).unwrap());
    assert!(runtime.usage(&request.id).unwrap().cpu_ns.is_some_and(|used| used > 0));
    let record: ExitRecord = runtime.exit_record(&request.id).unwrap().unwrap();
    assert_eq!(record.memory_limit_bytes, None);
    runtime.delete(&request.id).unwrap();
    runtime.teardown().unwrap();
    ExitCode::SUCCESS
}

fn a_container_on_cgroup2_alone(host: &Host) {
    let order = format!("{} {}", host.dir.path().display(), host.config.cgroup_parent);
    let hide = "for mount in $(grep -E '^[^ ]+ [^ ]+ cgroup ' /proc/self/mounts | cut -d' ' -f2); do umount $mount; done; exec \"$0\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", hide]).arg(std::env::current_exe().unwrap()).env(ORDER, order);
    assert!(command.status().unwrap().success());
    let log = read_log(&host.dir.path().join("logs/unified"));
    assert_eq!(&log[..4], ["1", "0::/", "1", "null"], "{log:?}");
    assert_eq!(log.iter().filter(|line| line.contains("not permitted")).count(), 2, "{log:?}");
    let group = format!("/sys/fs/cgroup/unified/{}-unified", host.config.cgroup_parent);
    assert!(!std::path::Path::new(&group).exists(), "{group} is left");
}
