//! A runtime of its own in a temporary directory, with a root filesystem made of busybox.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use oci_spec::runtime::Spec;
use runtime::{Config, ContainerId, ExitRecord, LogTarget, Rootfs, Runtime, StartRequest, Started, seccomp};
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Host {
    pub(crate) runtime: Runtime,
    pub(crate) dir: TempDir,
    pub(crate) config: Config,
    /// Left open for whatever is executed, as a careless caller's might be; no keeper shall have it.
    pub(crate) inherited: OwnedFd,
    next: AtomicU32,
}

/// Capabilities of the default container.
pub(crate) const CAPABILITIES: [&str; 4] = ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"];

impl Host {
    pub(crate) fn new() -> Host {
        let dir = TempDir::with_prefix("wharf-runtime-").unwrap();
        let config = Config {
            state_dir: dir.path().join("state"),
            cgroup_parent: format!("wharf-test-{}", std::process::id()),
        };
        let inherited = rustix::fs::open(dir.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        let runtime = Runtime::fork(config.clone()).unwrap();
        make_rootfs(&dir.path().join("rootfs"));
        fs::create_dir(dir.path().join("logs")).unwrap();
        Host { runtime, dir, config, inherited, next: AtomicU32::new(1) }
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    pub(crate) fn id(&self) -> ContainerId {
        format!("c{}", self.next.fetch_add(1, Ordering::Relaxed)).parse().unwrap()
    }

    /// A request for a shell script in a container with everything that is usual.
    pub(crate) fn request(&self, script: &str) -> StartRequest {
        self.request_for(spec(&["/bin/sh", "-c", script]))
    }

    pub(crate) fn request_for(&self, spec: Value) -> StartRequest {
        let id = self.id();
        StartRequest {
            spec: serde_json::from_value::<Spec>(spec).unwrap(),
            rootfs: self.overlay(&id, vec![self.rootfs()]),
            log: LogTarget {
                path: self.dir.path().join("logs").join(id.as_str()),
                max_bytes: 64 << 20,
                max_files: 3,
            },
            deadline: None,
            init: true,
            id,
        }
    }

    pub(crate) fn overlay(&self, id: &ContainerId, lowers: Vec<PathBuf>) -> Rootfs {
        let scratch = self.dir.path().join("scratch").join(id.as_str());
        let (upper, work) = (scratch.join("upper"), scratch.join("work"));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        Rootfs::Overlay { lowers, upper, work }
    }

    pub(crate) fn start(&self, request: &StartRequest) -> Started {
        self.runtime.start(request).unwrap_or_else(|error| panic!("start: {error}"))
    }

    /// Waits for the container's end, removes it, and gives its record and log lines.
    pub(crate) fn finish(&self, request: &StartRequest) -> (ExitRecord, Vec<String>) {
        let record = self.wait(&request.id);
        let log = read_log(&request.log.path);
        self.runtime.delete(&request.id).unwrap();
        (record, log)
    }

    pub(crate) fn wait(&self, id: &ContainerId) -> ExitRecord {
        let watch = self.runtime.watch(id).unwrap();
        let deadline = Instant::now() + DEADLINE;
        while !watch.wait(1000).unwrap() {
            assert!(Instant::now() < deadline, "{id} has not ended");
        }
        self.runtime.exit_record(id).unwrap().expect("a record after the end")
    }

    /// Runs a shell script to its end.
    pub(crate) fn run(&self, script: &str) -> (ExitRecord, Vec<String>) {
        let request = self.request(script);
        self.start(&request);
        self.finish(&request)
    }

    /// Runs a container with that spec to its end.
    pub(crate) fn run_spec(&self, spec: Value) -> (ExitRecord, Vec<String>) {
        let request = self.request_for(spec);
        self.start(&request);
        self.finish(&request)
    }

    /// Ends what a test, perhaps a failed one, has left.
    pub(crate) fn clean(&self) {
        for container in self.runtime.list().unwrap() {
            let killed = self.runtime.kill(&container.id);
            if killed.is_ok() {
                self.wait(&container.id);
            }
            self.runtime.delete(&container.id).unwrap();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.clean();
        self.runtime.teardown().unwrap();
    }
}

/// Waits until `seen` gives something.
pub(crate) fn await_some<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = seen() {
            return value;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The texts of a log, without time, stream and tag.
pub(crate) fn read_log(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned()).collect()
}

pub(crate) fn make_rootfs(path: &Path) {
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "home"] {
        fs::create_dir_all(path.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", path.join("bin/busybox")).unwrap();
    fs::write(path.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n")
        .unwrap();
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap().stdout;
    for applet in String::from_utf8(applets).unwrap().lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", path.join("bin").join(applet)).unwrap();
    }
}

/// A spec as an agent would make it: all namespaces, default mounts, masks, limits and filter. A shell script gets one
/// stream for all its output: between two, the order is not kept.
pub(crate) fn spec(args: &[&str]) -> Value {
    let args: Vec<String> = match args {
        [shell, "-c", script] => vec![(*shell).into(), "-c".into(), format!("exec 2>&1; {script}")],
        _ => args.iter().map(|arg| (*arg).into()).collect(),
    };
    let names: Vec<&str> = CAPABILITIES.iter().map(|name| name.trim_start_matches("CAP_")).collect();
    let (nosuid, shm) =
        (["nosuid", "noexec", "nodev"], ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]);
    json!({
        "ociVersion": "1.2.0",
        "hostname": "box",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/bin:/usr/bin", "HOME=/root"],
            "cwd": "/",
            "capabilities": { "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024 }],
            "noNewPrivileges": true
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": nosuid },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": shm },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": nosuid },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"] }
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "mount" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "cgroup" }
            ],
            "resources": {
                "memory": { "limit": 67_108_864 },
                "pids": { "limit": 64 },
                "devices": [{ "allow": false, "access": "rwm" }]
            },
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware",
                "/sys/devices/virtual/powercap"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": seccomp::default_profile(&names)
        }
    })
}
