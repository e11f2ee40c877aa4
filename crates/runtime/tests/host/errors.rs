//! What people read when a container cannot be started. Nothing of it may be left.

use std::fs;

use runtime::{StartError, StartRequest};
use serde_json::{Value, json};

use crate::Test;
use crate::fixture::{Host, spec};

pub(crate) const TESTS: &[Test] = &[
    ("errors::programs", programs),
    ("errors::surroundings", surroundings),
    ("errors::unsupported", unsupported),
    ("errors::an_id_is_taken", an_id_is_taken),
];

/// The error of a start that must fail and leave nothing.
fn refused(host: &Host, request: &StartRequest) -> String {
    let error = host.runtime.start(request).expect_err("a refusal").to_string();
    assert!(host.runtime.find(&request.id).unwrap().is_none(), "something is left after: {error}");
    for controller in ["memory", "pids", "unified"] {
        let group = format!("/sys/fs/cgroup/{controller}/{}/{}", host.config.cgroup_parent, request.id);
        assert!(!std::path::Path::new(&group).exists(), "{group} is left after: {error}");
    }
    error
}

fn check(host: &Host, change: impl Fn(&mut Value), expected: &str) {
    let mut changed = spec(&["/bin/true"]);
    change(&mut changed);
    for init in [true, false] {
        let request = StartRequest { init, ..host.request_for(changed.clone()) };
        assert_eq!(refused(host, &request), expected, "init {init}");
    }
}

fn programs(host: &Host) {
    let bin = host.rootfs().join("bin");
    fs::write(bin.join("plain"), "text").unwrap();
    fs::write(bin.join("script"), "#!/no/such/interpreter\n").unwrap();
    fs::write(bin.join("garbage"), "\u{7f}ELF but not really").unwrap();
    for name in ["script", "garbage"] {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let cases = [
        ("/bin/foo", "exec /bin/foo: No such file or directory in the image"),
        ("/bin/plain", "exec /bin/plain: Permission denied"),
        ("/bin", "exec /bin: Is a directory"),
        ("foo", "exec foo: not found in the image's $PATH (/bin:/usr/bin)"),
        ("plain", "exec plain: found, but not executable by this user, in $PATH (/bin:/usr/bin)"),
        ("/bin/script", "exec /bin/script: its interpreter or dynamic loader does not exist in the image"),
        ("garbage", "exec garbage: no program for this machine (wrong architecture, or a script without #!)"),
    ];
    for (program, expected) in cases {
        check(host, |spec| spec["process"]["args"] = json!([program]), expected);
    }
    // The kernel takes 128 KiB in one piece.
    let long = format!("A={}", "x".repeat(200 << 10));
    check(host, |spec| spec["process"]["env"] = json!([long]), "exec /bin/true: Argument list too long");
    let mut path = spec(&["no-such-program"]);
    path["process"]["env"] = json!([format!("PATH={}", "/bin:".repeat(50 << 10))]);
    let error = refused(host, &host.request_for(path));
    assert!(error.starts_with("exec no-such-program: not found in the image's $PATH (/bin:/bin:"), "{error}");
    assert!(error.ends_with('…') && error.len() < 5000, "{} bytes", error.len());
}

fn surroundings(host: &Host) {
    let mount =
        |mount: Value| move |spec: &mut Value| spec["mounts"].as_array_mut().unwrap().push(mount.clone());
    check(
        host,
        |spec| spec["process"]["cwd"] = json!("/bin/sh"),
        "working directory /bin/sh: Not a directory",
    );
    let missing = mount(json!({ "destination": "/data", "source": "/no/such/path", "options": ["bind"] }));
    check(host, missing, "mount /no/such/path: No such file or directory");
    let strange = mount(json!({ "destination": "/data", "type": "tmpfs", "options": ["colour=red"] }));
    check(host, strange, "mount /data: Invalid argument");
    let namespace =
        json!([{ "type": "mount" }, { "type": "pid" }, { "type": "network", "path": "/run/netns/none" }]);
    let joins = |spec: &mut Value| {
        spec["linux"]["namespaces"] = namespace.clone();
        for field in ["mounts", "hostname"] {
            spec.as_object_mut().unwrap().remove(field);
        }
    };
    check(host, joins, "namespaces /run/netns/none: No such file or directory");
    let tiny = |spec: &mut Value| spec["linux"]["resources"]["memory"]["limit"] = json!(4096);
    let request = host.request_for({
        let mut changed = spec(&["/bin/true"]);
        tiny(&mut changed);
        changed
    });
    let error = refused(host, &request);
    assert!(error.contains("killed, perhaps by too small a memory limit"), "{error}");

    let quick = |spec: &mut Value| spec["linux"]["resources"]["cpu"] = json!({ "quota": 10 });
    let mut changed = spec(&["/bin/true"]);
    quick(&mut changed);
    let error = refused(host, &host.request_for(changed));
    assert!(
        error.starts_with("cgroup /sys/fs/cgroup/") && error.ends_with("_quota_us = 10: Invalid argument"),
        "{error}"
    );

    let mut request = host.request("true");
    request.log.path = "/no/such/directory/log".into();
    assert_eq!(refused(host, &request), "log /no/such/directory: No such file or directory");
}

fn unsupported(host: &Host) {
    let cases = [
        (json!({ "hooks": {} }), "hooks in the OCI spec: not supported by this runtime; remove it"),
        (
            json!({ "process": { "apparmorProfile": "x" } }),
            "process.apparmorProfile in the OCI spec: not supported by this runtime; remove it",
        ),
        (
            json!({ "process": { "terminal": true } }),
            "process.terminal in the OCI spec: a container's output goes to its log; use exec for an interactive terminal",
        ),
        (
            json!({ "process": { "capabilities": { "ambient": ["CAP_KILL"] } } }),
            "process.capabilities.ambient in the OCI spec: must be empty: it would survive into programs that never asked for it (CVE-2022-27650)",
        ),
        (
            json!({ "linux": { "sysctl": { "vm.swappiness": "1" } } }),
            "linux.sysctl in the OCI spec: vm.swappiness belongs to no namespace of the container",
        ),
        (
            json!({ "linux": { "namespaces": [{ "type": "mount" }] } }),
            "linux.namespaces in the OCI spec: a container needs a new pid namespace of its own; add it",
        ),
        (
            json!({ "linux": { "rootfsPropagation": "shared" } }),
            "linux.rootfsPropagation in the OCI spec: not supported by this runtime; remove it",
        ),
        (
            json!({ "linux": { "resources": { "devices": [{ "allow": true, "access": "rwm" }] } } }),
            "linux.resources.devices in the OCI spec: allowing all devices is not supported; list those that are needed",
        ),
    ];
    for (patch, expected) in cases {
        check(host, |spec| merge(spec, &patch), expected);
    }
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

fn an_id_is_taken(host: &Host) {
    let request = host.request("sleep 1000");
    host.start(&request);
    let error = host.runtime.start(&request).unwrap_err();
    assert!(matches!(error, StartError::Exists(_)), "{error}");
    assert!(host.runtime.exit_record(&request.id).unwrap().is_none(), "the first one goes on");
}
