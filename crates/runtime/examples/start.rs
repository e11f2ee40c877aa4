//! What a start costs: from the call to the application's exec, beside other runtimes on the same bundle.
//!
//! `cargo run --release -p runtime --example start [ROUNDS]`, as root. The container has what a production one has:
//! every namespace, overlay, masks, capabilities, seccomp, memory and pids limits. Back-to-back starts hide what the
//! kernel makes a quiet host wait for (the cgroup lock), so both are measured. Other runtimes are found on the PATH.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use oci_spec::runtime::Spec;
use runtime::{Config, ContainerId, LogTarget, Rootfs, Runtime, StartRequest, seccomp};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(40), |text| text.parse::<u32>())?;
    let dir = PathBuf::from(format!("/tmp/wharf-bench-{}", std::process::id()));
    fs::create_dir_all(dir.join("logs"))?;
    let config = Config {
        state_dir: PathBuf::from(format!("/dev/shm/wharf-bench-{}", std::process::id())),
        cgroup_parent: format!("wharf-bench-{}", std::process::id()),
    };
    // Before any thread.
    let runtime = Runtime::fork(config.clone())?;
    let bench = Bench { runtime, dir: dir.clone() };
    let outcome = bench.run(rounds);
    bench.runtime.teardown()?;
    fs::remove_dir_all(&config.state_dir)?;
    fs::remove_dir_all(&dir)?;
    outcome
}

struct Bench {
    runtime: Runtime,
    dir: PathBuf,
}

impl Bench {
    fn run(&self, rounds: u32) -> Outcome<()> {
        make_rootfs(&self.dir.join("rootfs"))?;
        println!("{:<34} {:>12} {:>14}", "median of start, ms", "back to back", "100 ms apart");
        let rows = [
            ("wharf, with init", true, false),
            ("wharf, init: false", false, false),
            ("wharf, with a user namespace", true, true),
        ];
        for (name, init, userns) in rows {
            let line = self.measure(rounds, |number| self.start(number, init, userns))?;
            println!("{name:<34} {:>12.2} {:>14.2}", line[0], line[1]);
        }
        let ours = self.measure(rounds, |number| self.to_end(number))?;
        println!("{:<34} {:>12.2} {:>14.2}", "wharf, start to record of the end", ours[0], ours[1]);
        for name in ["crun", "runc", "youki"] {
            match self.other(name, rounds) {
                Ok(Some(line)) => {
                    let ratios = [line[0] / ours[0], line[1] / ours[1]];
                    println!(
                        "{:<34} {:>12.2} {:>14.2}   {:.1}x and {:.1}x of wharf",
                        format!("{name} run"),
                        line[0],
                        line[1],
                        ratios[0],
                        ratios[1]
                    );
                }
                Ok(None) => println!("{name}: not installed"),
                Err(error) => println!("{name}: {error}"),
            }
        }
        self.resident()
    }

    /// Medians back to back and 100 ms apart, in ms.
    fn measure(&self, rounds: u32, once: impl Fn(u32) -> Outcome<Duration>) -> Outcome<[f64; 2]> {
        let mut medians = [0.0; 2];
        once(0)?; // Warm caches are what a host in use has.
        for (pause_ms, median) in [0, 100].into_iter().zip(&mut medians) {
            let mut times = Vec::new();
            for number in 0..rounds {
                thread::sleep(Duration::from_millis(pause_ms));
                times.push(once(number)?);
            }
            times.sort();
            *median = times[times.len() / 2].as_secs_f64() * 1000.0;
        }
        Ok(medians)
    }

    fn request(&self, name: &str, args: &[&str], init: bool) -> Outcome<StartRequest> {
        let id: ContainerId = name.parse()?;
        let scratch = self.dir.join("scratch").join(name);
        let (upper, work) = (scratch.join("upper"), scratch.join("work"));
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        Ok(StartRequest {
            spec: serde_json::from_value::<Spec>(spec(args, false)?)?,
            rootfs: Rootfs::Overlay { lowers: vec![self.dir.join("rootfs")], upper, work },
            log: LogTarget { path: self.dir.join("logs").join(name), max_bytes: 1 << 20, max_files: 2 },
            deadline: None,
            init,
            id,
        })
    }

    /// From the call of `start` to its return, which is after the application's exec.
    fn start(&self, number: u32, init: bool, userns: bool) -> Outcome<Duration> {
        let mut request = self.request(&format!("b{number}"), &["/bin/true"], init)?;
        if userns {
            request.spec = with_user_namespace(request.spec)?;
        }
        let begun = Instant::now();
        self.runtime.start(&request)?;
        let took = begun.elapsed();
        self.finish(&request.id)?;
        Ok(took)
    }

    /// To the record of its end, which is what `run` of other runtimes waits for.
    fn to_end(&self, number: u32) -> Outcome<Duration> {
        let request = self.request(&format!("e{number}"), &["/bin/true"], true)?;
        let begun = Instant::now();
        self.runtime.start(&request)?;
        self.runtime.watch(&request.id)?.wait(10_000)?;
        self.runtime.exit_record(&request.id)?.ok_or("no record")?;
        let took = begun.elapsed();
        self.finish(&request.id)?;
        Ok(took)
    }

    fn finish(&self, id: &ContainerId) -> Outcome<()> {
        self.runtime.watch(id)?.wait(10_000)?;
        self.runtime.delete(id)?;
        fs::remove_dir_all(self.dir.join("scratch").join(id.as_str()))?;
        Ok(())
    }

    /// `run` of another runtime, which waits for the end of `true`; `None` when it is not installed.
    fn other(&self, name: &str, rounds: u32) -> Outcome<Option<[f64; 2]>> {
        if Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return Ok(None);
        }
        let bundle = self.dir.join("bundle");
        fs::create_dir_all(&bundle)?;
        fs::write(bundle.join("config.json"), serde_json::to_vec(&spec(&["/bin/true"], true)?)?)?;
        // The others expect a mounted root filesystem, which is not counted against them.
        if !bundle.join("rootfs").exists() {
            make_rootfs(&bundle.join("rootfs"))?;
        }
        // crun refuses hybrid hosts because of the controllers file there; it sees an empty one in a mount namespace.
        let hide = "f=/sys/fs/cgroup/unified/cgroup.controllers; [ -e $f ] && mount --bind /dev/null $f; exec \"$0\" \"$@\"";
        let once = |number: u32| -> Outcome<Duration> {
            let id = format!("wharf-bench-{name}-{number}");
            let begun = Instant::now();
            let output = Command::new("unshare")
                .args(["-m", "sh", "-c", hide, name])
                .args(["--root"])
                .arg(self.dir.join("other"))
                .args(["run", "--bundle"])
                .arg(&bundle)
                .arg(&id)
                .stdin(Stdio::null())
                .output()?;
            let took = begun.elapsed();
            if output.status.success() {
                Ok(took)
            } else {
                Err(String::from_utf8_lossy(&output.stderr).into())
            }
        };
        let wrapper = |_: u32| -> Outcome<Duration> {
            let begun = Instant::now();
            Command::new("unshare").args(["-m", "sh", "-c", hide, "/bin/true"]).output()?;
            Ok(begun.elapsed())
        };
        let (with, without) = (self.measure(rounds, once)?, self.measure(rounds, wrapper)?);
        Ok(Some([with[0] - without[0], with[1] - without[1]]))
    }

    /// What stays resident for each container.
    fn resident(&self) -> Outcome<()> {
        let mut ids = Vec::new();
        let mut keeper = 0;
        for number in 0..10 {
            let request =
                self.request(&format!("r{number}"), &["/bin/sh", "-c", "seq 1 1000; exec sleep 1000"], true)?;
            keeper = self.runtime.start(&request)?.keeper_pid;
            ids.push(request.id);
        }
        thread::sleep(Duration::from_millis(200));
        let first = self.runtime.processes(&ids[9])?.into_iter().min().ok_or("no process")?;
        for (name, pid) in [("keeper", keeper), ("init", first)] {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let field = |key: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(key));
                line.map_or("?", str::trim).to_owned()
            };
            println!(
                "{name}: RSS {}, PSS {}, private dirty {}",
                field("Rss:"),
                field("Pss:"),
                field("Private_Dirty:")
            );
        }
        for id in &ids {
            self.runtime.kill(id)?;
            self.finish(id)?;
        }
        Ok(())
    }
}

fn make_rootfs(path: &Path) -> Outcome<()> {
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(path.join(directory))?;
    }
    fs::copy("/bin/busybox", path.join("bin/busybox"))?;
    for applet in ["true", "sh", "sleep", "seq"] {
        symlink("busybox", path.join("bin").join(applet))?;
    }
    Ok(())
}

fn with_user_namespace(spec: Spec) -> Outcome<Spec> {
    let mut spec = serde_json::to_value(spec)?;
    let namespaces = spec["linux"]["namespaces"].as_array_mut().ok_or("namespaces")?;
    namespaces.push(json!({ "type": "user" }));
    for field in ["uidMappings", "gidMappings"] {
        spec["linux"][field] = json!([{ "containerID": 0, "hostID": 1_000_000, "size": 65_536 }]);
    }
    Ok(serde_json::from_value(spec)?)
}

/// `foreign` adds what only other runtimes want to be told.
fn spec(args: &[&str], foreign: bool) -> Outcome<Value> {
    let capabilities = ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_BIND_SERVICE"];
    let names: Vec<&str> = capabilities.iter().map(|name| name.trim_start_matches("CAP_")).collect();
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "hostname": "bench",
        "process": {
            "user": { "uid": 0, "gid": 0 }, "args": args, "env": ["PATH=/bin"], "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024 }],
            "noNewPrivileges": true
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] }
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "mount" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "cgroup" }
            ],
            "resources": {
                "memory": { "limit": 134_217_728 }, "pids": { "limit": 128 },
                "devices": [{ "allow": false, "access": "rwm" }]
            },
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": serde_json::to_value(seccomp::default_profile(&names))?
        }
    });
    if foreign {
        spec["root"] = json!({ "path": "rootfs" });
        // Older ones know no flags.
        spec["linux"]["seccomp"].as_object_mut().ok_or("a profile")?.remove("flags");
    }
    Ok(spec)
}
