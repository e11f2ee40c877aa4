//! What a container sees, and what it cannot do.

use runtime::Ending;
use serde_json::json;

use crate::Test;
use crate::fixture::{Host, spec};

pub(crate) const TESTS: &[Test] = &[
    ("isolation::own_namespaces", own_namespaces),
    ("isolation::only_its_own_mounts", only_its_own_mounts),
    ("isolation::masked_and_read_only_paths", masked_and_read_only_paths),
    ("isolation::rights", rights),
    ("isolation::an_ordinary_user", an_ordinary_user),
    ("isolation::devices", devices),
    ("isolation::nothing_is_left_open", nothing_is_left_open),
    ("isolation::read_only_root", read_only_root),
    ("isolation::volumes", volumes),
    ("isolation::sysctls_and_names", sysctls_and_names),
    ("isolation::filtered_calls", filtered_calls),
];

fn own_namespaces(host: &Host) {
    let script = "cat /proc/1/comm; hostname; set -- /proc/[0-9]*; echo $#; ls /sys/class/net; \
                  for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup";
    let (record, log) = host.run(script);
    assert_eq!(record.ending, Ending::Code(0), "{log:?}");
    assert_eq!(&log[..2], ["wharf-init", "box"]);
    // init and the shell.
    assert_eq!(log[2], "2");
    assert_eq!(log[3], "lo");
    for (name, inside) in ["mnt", "pid", "net", "ipc", "uts", "cgroup"].into_iter().zip(&log[4..10]) {
        let ours = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(inside, ours.to_str().unwrap(), "{name}");
        assert!(inside.starts_with(name), "{inside}");
    }
    for line in log[10..]
        .iter()
        .filter(|line| line.contains("memory") || line.contains("pids") || line.starts_with("0:"))
    {
        assert!(line.ends_with(":/"), "{line}");
    }
}

fn only_its_own_mounts(host: &Host) {
    let (_, log) =
        host.run("cut -d' ' -f2 /proc/self/mounts; ls /; ls /sys/fs/cgroup; echo x > /sys/fs/cgroup/y");
    let mounts: Vec<&str> = log.iter().map(String::as_str).take_while(|line| line.starts_with('/')).collect();
    let expected = ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"];
    assert_eq!(&mounts[..expected.len()], expected);
    let allowed = |path: &&str| path.starts_with("/proc/") || path.starts_with("/sys/");
    let strange: Vec<_> = mounts[expected.len()..].iter().filter(|path| !allowed(path)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert_eq!(
        &log[mounts.len()..mounts.len() + 9],
        ["bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "memory"]
    );
    assert!(log.last().unwrap().contains("Read-only"), "{log:?}");
}

fn masked_and_read_only_paths(host: &Host) {
    let script = "wc -c < /proc/timer_list; wc -c < /proc/interrupts; ls /proc/acpi /sys/firmware 2>/dev/null | grep -v ':' | grep -c .; \
                  echo 1 > /proc/sys/kernel/printk; echo 1 > /sys/kernel/profiling; mount -o remount,rw /proc/sys";
    let (_, log) = host.run(script);
    assert_eq!(&log[..3], ["0", "0", "0"], "{log:?}");
    assert_eq!(log.iter().filter(|line| line.contains("Read-only")).count(), 2, "{log:?}");
    assert!(
        log.last().unwrap().contains("ermission denied") || log.last().unwrap().contains("not permitted"),
        "{log:?}"
    );
}

fn rights(host: &Host) {
    let (_, log) = host.run("grep -E '^(Cap|NoNew|Seccomp:|Groups)' /proc/self/status; cat /proc/self/oom_score_adj; ulimit -n; umask");
    // CHOWN 0, KILL 5, SETGID 6, SETUID 7.
    let expected = [
        "Groups:\t ",
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000000000e1",
        "CapEff:\t00000000000000e1",
        "CapBnd:\t00000000000000e1",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "0",
        "1024",
        "0022",
    ];
    assert_eq!(log, expected);
}

fn an_ordinary_user(host: &Host) {
    let mut spec = spec(&[
        "/bin/sh",
        "-c",
        "id -u; id -g; grep CapEff /proc/self/status; echo out > /dev/stdout; echo err > /dev/stderr; pwd; \
                          touch /file; kill -0 1 && echo may",
    ]);
    spec["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [7] });
    spec["process"]["cwd"] = json!("/home/made/for/me");
    let (_, log) = host.run_spec(spec);
    assert_eq!(&log[..2], ["1000", "1001"], "{log:?}");
    assert_eq!(log[2], "CapEff:\t0000000000000000");
    for line in ["out", "err", "/home/made/for/me", "may"] {
        assert!(log.iter().any(|found| found == line), "{line} in {log:?}");
    }
    assert!(log.iter().any(|line| line.contains("/file: Permission denied")), "{log:?}");
}

fn devices(host: &Host) {
    let script = "for d in null zero full random urandom tty ptmx; do ls -lL /dev/$d | tr -s ' ' | cut -d' ' -f1,5,6; done; \
                  head -c 4 /dev/urandom | wc -c; echo x > /dev/null; echo x > /dev/full; ls /dev; mknod /tmp/sda b 8 0";
    let (_, log) = host.run(script);
    let expected = [
        "crw-rw-rw- 1, 3",
        "crw-rw-rw- 1, 5",
        "crw-rw-rw- 1, 7",
        "crw-rw-rw- 1, 8",
        "crw-rw-rw- 1, 9",
        "crw-rw-rw- 5, 0",
        "crw-rw-rw- 5, 2",
        "4",
    ];
    assert_eq!(&log[..8], expected, "{log:?}");
    let names = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero",
    ];
    assert!(
        log.iter().map(String::as_str).collect::<Vec<_>>().windows(names.len()).any(|window| window == names),
        "{log:?}"
    );
    assert!(log.last().unwrap().contains("not permitted"), "{log:?}");

    // With the right to make nodes, the device rules still stand in the way of using others.
    let script =
        "stat -c %a /dev/null; mknod /tmp/sda b 254 0; mknod /tmp/kmsg c 1 11; cat /tmp/kmsg; cat /dev/kmsg";
    let mut allowed = spec(&["/bin/sh", "-c", script]);
    for set in ["bounding", "effective", "permitted"] {
        allowed["process"]["capabilities"][set] = json!(["CAP_MKNOD", "CAP_SYSLOG"]);
    }
    allowed["linux"]["devices"] = json!([
        { "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11 },
        { "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o644 }
    ]);
    let (_, log) = host.run_spec(allowed.clone());
    assert_eq!(log[0], "644", "a standard node that a spec lists is as it says");
    assert_eq!(log.iter().filter(|line| line.contains("not permitted")).count(), 3, "{log:?}");
    allowed["linux"]["resources"]["devices"] = json!([
        { "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rm" }
    ]);
    let script =
        "mknod /tmp/kmsg c 1 11; : < /tmp/kmsg && echo opened; : < /dev/kmsg && echo opened; : > /dev/kmsg";
    allowed["process"]["args"] = json!(["/bin/sh", "-c", script]);
    let (_, log) = host.run_spec(allowed);
    assert_eq!(&log[..2], ["opened", "opened"], "{log:?}");
    assert_eq!(
        log.iter().filter(|line| line.contains("not permitted")).count(),
        1,
        "writing is not allowed: {log:?}"
    );
}

fn nothing_is_left_open(host: &Host) {
    // 3 is the directory that ls reads. PID 1 has nothing but its pipes and its report.
    let (_, log) = host.run("ls /proc/self/fd; readlink /proc/self/fd/0; readlink /proc/1/exe; env");
    assert_eq!(&log[..5], ["0", "1", "2", "3", "/dev/null"], "{log:?}");
    // The agent's file is nowhere: init is a sealed memory file, and cannot even be looked at.
    assert!(!log.iter().any(|line| line.contains("host-") || line.contains("memfd")), "{log:?}");
    assert!(log.contains(&"HOME=/root".to_owned()));
}

fn read_only_root(host: &Host) {
    let mut spec =
        spec(&["/bin/sh", "-c", "touch /x; touch /tmp/x && echo tmp; touch /dev/shm/x && echo shm"]);
    spec["root"] = json!({ "path": "rootfs", "readonly": true });
    spec["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "destination": "/tmp", "type": "tmpfs", "options": ["size=1m", "nosuid"] }));
    let (_, log) = host.run_spec(spec);
    assert!(log[0].contains("Read-only"), "{log:?}");
    assert_eq!(&log[1..], ["tmp", "shm"]);
}

fn volumes(host: &Host) {
    let source = host.dir.path().join("volume");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "content\n").unwrap();
    let mut spec = spec(&[
        "/bin/sh",
        "-c",
        "cat /data/file; echo new > /data/new; cat /etc/hosts; echo x >> /etc/hosts; echo y > /ro/z; mount -o remount,rw /ro",
    ]);
    let hosts = source.join("file");
    spec["mounts"].as_array_mut().unwrap().extend([
        json!({ "destination": "/data", "source": source, "options": ["rbind", "nosuid", "nodev"] }),
        json!({ "destination": "/ro", "type": "bind", "source": source, "options": ["ro"] }),
        json!({ "destination": "/etc/hosts", "source": hosts, "options": ["bind", "ro"] }),
    ]);
    let (_, log) = host.run_spec(spec);
    assert_eq!(&log[..2], ["content", "content"], "{log:?}");
    assert_eq!(log.iter().filter(|line| line.contains("Read-only")).count(), 2, "{log:?}");
    assert_eq!(std::fs::read_to_string(source.join("new")).unwrap(), "new\n");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(host.dir.path().to_str().unwrap()), "the host sees a container's mounts");
}

fn sysctls_and_names(host: &Host) {
    let mut spec = spec(&[
        "/bin/sh",
        "-c",
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni; cat /proc/sys/kernel/domainname",
    ]);
    spec["linux"]["sysctl"] = json!({ "net.ipv4.ip_unprivileged_port_start": "80", "kernel.shmmni": "100" });
    spec["domainname"] = json!("example");
    assert_eq!(host.run_spec(spec).1, ["80", "100", "example"]);
}

fn filtered_calls(host: &Host) {
    let (_, log) = host.run("unshare -m true; mount -t tmpfs x /tmp; chroot / /bin/true; date -s 2000-01-01; dmesg | head -1; echo $?");
    for part in ["unshare", "mount", "chroot", "date", "dmesg"] {
        let denied = |line: &&String| {
            line.contains(part) && (line.contains("not permitted") || line.contains("denied"))
        };
        assert!(log.iter().any(|line| denied(&line)), "{part} in {log:?}");
    }
}
