//! Every field of the OCI runtime spec that is not done is refused by its name.

use serde_json::{Value, json};

use super::*;
use crate::{ExecRequest, ExecStdio, TerminalSize};

/// The smallest spec that can be started.
fn spec() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["/bin/true"], "cwd": "/" },
        "linux": { "namespaces": [{ "type": "pid" }, { "type": "mount" }] }
    })
}

/// Objects are merged, everything else is replaced.
fn merge(target: &mut Value, patch: &Value) {
    match (target.as_object_mut(), patch.as_object()) {
        (Some(target), Some(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        _ => *target = patch.clone(),
    }
}

fn plan(patch: &Value) -> Result<Plan, PlanError> {
    let mut changed = spec();
    merge(&mut changed, patch);
    Plan::of(&StartRequest {
        id: "web.1".parse().expect("an id"),
        spec: serde_json::from_value(changed).unwrap_or_else(|error| panic!("{patch}: {error}")),
        rootfs: Rootfs::Dir("/".into()),
        log: LogTarget { path: "/log".into(), max_bytes: 1 << 20, max_files: 1 },
        deadline: None,
        init: true,
    })
}

fn refused(field: &str, patch: &Value) {
    match plan(patch) {
        Ok(_) => panic!("{field} was taken: {patch}"),
        Err(error) => assert_eq!(error.field, field, "{patch}: {error}"),
    }
}

#[test]
fn the_smallest_spec_has_a_plan() {
    plan(&json!({})).expect("a plan");
    plan(&json!({ "annotations": { "of": "others" } })).expect("annotations are no business of ours");
}

/// One row for each field, in the order of the OCI spec's `config.md` and `config-linux.md`.
#[test]
fn what_is_not_done_is_refused_by_name() {
    let process =
        |field: &str, value: Value| (format!("process.{field}"), json!({ "process": { field: value } }));
    let linux = |field: &str, value: Value| (format!("linux.{field}"), json!({ "linux": { field: value } }));
    let resource = |field: &str, value: Value| {
        (format!("linux.resources.{field}"), json!({ "linux": { "resources": { field: value } } }))
    };
    let part = |part: &str, field: &str, value: Value| {
        let name = format!("linux.resources.{part}.{field}");
        (name, json!({ "linux": { "resources": { part: { field: value } } } }))
    };
    let top = |field: &str, value: Value| (field.to_owned(), json!({ field: value }));
    let range = json!([{ "containerID": 0, "hostID": 1, "size": 1 }]);
    let rows = [
        top("ociVersion", json!("2.0.0")),
        top("hooks", json!({})),
        top("solaris", json!({})),
        top("windows", json!({ "layerFolders": ["x"] })),
        top("vm", json!({ "kernel": { "path": "/x" } })),
        top("zos", json!({})),
        top("uidMappings", range.clone()),
        top("gidMappings", range.clone()),
        top("hostname", json!("box")),
        top("domainname", json!("box")),
        process("terminal", json!(true)),
        process("commandLine", json!("x")),
        process("apparmorProfile", json!("x")),
        process("selinuxLabel", json!("x")),
        process("ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 1 })),
        process("scheduler", json!({ "policy": "SCHED_BATCH" })),
        process("execCPUAffinity", json!({ "initial": "0" })),
        process("args", json!([])),
        process("cwd", json!("tmp")),
        ("process.user.username".into(), json!({ "process": { "user": { "username": "x" } } })),
        process("rlimits", json!([{ "type": "RLIMIT_CORE", "soft": 2, "hard": 1 }])),
        linux("netDevices", json!({ "eth0": { "name": "x" } })),
        linux("cgroupsPath", json!("/x")),
        linux("rootfsPropagation", json!("shared")),
        linux("rootfsPropagation", json!("rslave")),
        linux("mountLabel", json!("x")),
        linux("intelRdt", json!({})),
        linux("memoryPolicy", json!({ "mode": "MPOL_BIND" })),
        linux("personality", json!({ "domain": "LINUX32" })),
        linux("timeOffsets", json!({ "monotonic": { "secs": 1 } })),
        linux("uidMappings", range),
        linux("sysctl", json!({ "vm.swappiness": "1" })),
        linux("sysctl", json!({ "net.ipv4.ip_forward": "1" })),
        linux("maskedPaths", json!(["relative"])),
        linux("readonlyPaths", json!(["relative"])),
        linux("devices", json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 }])),
        resource("blockIO", json!({ "weight": 10 })),
        resource("hugepageLimits", json!([{ "pageSize": "2MB", "limit": 1 }])),
        resource("network", json!({ "classID": 1 })),
        resource("rdma", json!({ "mlx": { "hcaHandles": 1 } })),
        resource("unified", json!({ "memory.high": "1" })),
        part("memory", "reservation", json!(1)),
        part("memory", "kernel", json!(1)),
        part("memory", "kernelTCP", json!(1)),
        part("memory", "swappiness", json!(1)),
        part("memory", "disableOOMKiller", json!(true)),
        part("memory", "useHierarchy", json!(true)),
        part("memory", "checkBeforeUpdate", json!(true)),
        part("memory", "swap", json!(1)),
        part("cpu", "idle", json!(1)),
        part("cpu", "burst", json!(1)),
        part("cpu", "realtimeRuntime", json!(1)),
        part("cpu", "realtimePeriod", json!(1)),
        part("cpu", "cpus", json!("0")),
        part("cpu", "mems", json!("0")),
    ];
    for (field, patch) in &rows {
        refused(field, patch);
    }
}

#[test]
fn capabilities_lie_within_each_other() {
    let sets = |bounding: &[&str], permitted: &[&str], effective: &[&str]| {
        let sets = json!({ "bounding": bounding, "permitted": permitted, "effective": effective });
        json!({ "process": { "capabilities": sets } })
    };
    plan(&sets(&["CAP_KILL", "CAP_CHOWN"], &["CAP_KILL"], &["CAP_KILL"])).expect("a plan");
    refused("process.capabilities.permitted", &sets(&[], &["CAP_KILL"], &[]));
    refused("process.capabilities.effective", &sets(&["CAP_KILL"], &[], &["CAP_KILL"]));
    refused(
        "process.capabilities.ambient",
        &json!({ "process": { "capabilities": { "ambient": ["CAP_KILL"] } } }),
    );
}

#[test]
fn device_rules_never_allow_more_than_they_say() {
    let rules = |rules: Value| json!({ "linux": { "resources": { "devices": rules } } });
    let bad = [
        json!([{ "allow": true }]),
        json!([{ "allow": true, "type": "c", "major": 4_294_967_296_i64 }]),
        json!([{ "allow": true, "type": "c", "major": -2 }]),
        json!([{ "allow": true, "type": "p", "major": 1 }]),
        json!([{ "allow": true, "type": "c", "major": 1, "access": "rx" }]),
        json!([{ "allow": false, "type": "c", "major": 1 }]),
        json!([{ "allow": false, "access": "m" }]),
    ];
    for rule in bad {
        refused("linux.resources.devices", &rules(rule));
    }
    let fuse = json!([{ "allow": false }, { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" }]);
    assert_eq!(plan(&rules(fuse)).expect("a plan").limits.devices.len(), 1);
}

#[test]
fn mounts_say_only_what_is_done() {
    let with = |mount: Value| {
        json!({ "mounts": [mount], "linux": { "namespaces": [
        { "type": "pid" }, { "type": "mount" }, { "type": "cgroup" }
    ] } })
    };
    let target = |patch: &Value| plan(patch).expect("a plan").mounts[0].target.clone();
    assert_eq!(target(&with(json!({ "destination": "//dev/./", "type": "tmpfs" }))), "/dev");
    for destination in ["/", "/.", "dev", "/a/../b", "/.."] {
        let mount = json!({ "destination": destination, "type": "tmpfs" });
        refused(&format!("mounts[{destination}]"), &with(mount));
    }
    for option in ["slave", "rslave", "rshared", "unbindable", "size=1"] {
        let mount = json!({ "destination": "/a", "source": "/b", "options": ["bind", option] });
        refused("mounts[/a]", &with(mount));
    }
    for option in ["rw", "memory"] {
        refused("mounts[/a]", &with(json!({ "destination": "/a", "type": "cgroup", "options": [option] })));
    }
    refused("mounts[/a]", &with(json!({ "destination": "/a", "type": "mqueue" })));
    refused("mounts[/a]", &with(json!({ "destination": "/a", "type": "ext4" })));
}

#[test]
fn devices_have_names_of_their_own() {
    let node = |name: &str| json!({ "path": name, "type": "c", "major": 1, "minor": 3 });
    let with = |devices: Value, namespaces: Value| {
        json!({ "mounts": [{ "destination": "/dev", "type": "tmpfs" }], "linux": { "devices": devices, "namespaces": namespaces,
            "uidMappings": [{ "containerID": 0, "hostID": 1, "size": 1 }], "gidMappings": [{ "containerID": 0, "hostID": 1, "size": 1 }] } })
    };
    let namespaces = json!([{ "type": "pid" }, { "type": "mount" }, { "type": "user" }]);
    plan(&with(json!([node("/dev/null"), node("/dev/other")]), namespaces.clone())).expect("a plan");
    for taken in ["/dev/pts", "/dev/stdin", "/dev/x"] {
        let devices = json!([node("/dev/x"), node(taken)]);
        refused(&format!("linux.devices[{taken}]"), &with(devices, namespaces.clone()));
    }
    let mut owned = node("/dev/x");
    owned["uid"] = json!(5);
    refused("linux.devices[/dev/x]", &with(json!([owned]), namespaces));
}

#[test]
fn id_ranges_end_somewhere() {
    for (first, size) in [(0, 0), (u32::MAX, 2)] {
        let ranges = json!([{ "containerID": 0, "hostID": first, "size": size }]);
        refused("linux.uidMappings", &json!({ "linux": { "uidMappings": ranges } }));
    }
}

#[test]
fn an_exec_says_once_whether_it_has_a_terminal() {
    let null = || -> std::os::fd::OwnedFd { std::fs::File::open("/dev/null").expect("null").into() };
    let check = |patch: Value, stdio: ExecStdio| {
        let mut process = spec()["process"].clone();
        merge(&mut process, &patch);
        let process = serde_json::from_value(process).expect("a process");
        let request = ExecRequest { id: "web.1".parse().expect("an id"), process, stdio };
        ProcessPlan::of_exec(&request).map(drop).map_err(|error| error.field)
    };
    let descriptors = || ExecStdio::Fds { stdin: null(), stdout: null(), stderr: null() };
    let terminal = || ExecStdio::Tty(TerminalSize { rows: 1, columns: 1 });
    assert_eq!(check(json!({ "terminal": true }), descriptors()), Err("process.terminal".into()));
    let sized = json!({ "terminal": true, "consoleSize": { "height": 1, "width": 1 } });
    assert_eq!(check(sized, terminal()), Err("process.consoleSize".into()));
    assert_eq!(check(json!({ "terminal": true }), terminal()), Ok(()));
    assert_eq!(check(json!({ "terminal": false }), descriptors()), Ok(()));
}
