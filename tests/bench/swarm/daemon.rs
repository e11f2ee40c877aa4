//! `dockerd` in namespaces of its own.
//!
//! Its bridges, firewall rules, mounts and processes are in a network, mount and PID namespace that end with its first
//! process, however that or this program ends. What is left to remove are its control groups.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tests::{cluster::kill_9, leftovers::processes, wait_for};

use super::api;

pub(crate) const DOCKERD: &str = "/usr/sbin/dockerd";

/// What Docker makes its control groups under.
const CGROUP: &str = "wharf-bench-swarm";

/// Run by the namespaces' first process: a loopback for the swarm, and a `/run` in which no other containerd is found.
const SCRIPT: &str = "\
ip link set lo up && mount -t tmpfs tmpfs /run && exec dockerd --host \"$0\" --data-root \"$1/data\" \
--cgroup-parent \"/$2\"";

#[derive(Debug)]
pub(crate) struct Daemon {
    /// `unshare`, which waits for the namespaces' first process.
    outside: Child,
    folder: TempDir,
}

impl Daemon {
    pub(crate) fn start() -> Daemon {
        let folder =
            tempfile::Builder::new().prefix("wharf-bench-swarm-").tempdir().expect("a temporary folder");
        let log = File::create(folder.path().join("log")).expect("a log file");
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
        ]);
        command.args(["--kill-child", "docker-init", "--", "sh", "-c", SCRIPT]);
        command.arg(format!("unix://{}/docker.sock", folder.path().display())).arg(folder.path()).arg(CGROUP);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        let daemon = Daemon { outside: command.spawn().expect("util-linux is installed"), folder };
        wait_for("dockerd to answer", Duration::from_secs(60), || {
            match api::get(&daemon.socket(), "/info") {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{error}\n{}", daemon.log())),
            }
        });
        daemon
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The last lines of what it wrote.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Everything in its namespaces except their first process, which is only there for the benchmark.
    pub(crate) fn descendants(&self) -> BTreeSet<i32> {
        let all = processes();
        let children = |of: &BTreeSet<i32>| -> BTreeSet<i32> {
            all.iter().filter(|process| of.contains(&process.parent)).map(|process| process.pid).collect()
        };
        let mut generation = children(&self.first());
        let mut found = BTreeSet::new();
        while !generation.is_empty() {
            found.extend(&generation);
            generation = children(&generation);
        }
        found
    }

    fn first(&self) -> BTreeSet<i32> {
        let outside = self.outside.id() as i32;
        processes().iter().filter(|process| process.parent == outside).map(|process| process.pid).collect()
    }
}

impl Drop for Daemon {
    /// The first process takes all others and the namespaces with it.
    fn drop(&mut self) {
        for pid in self.first() {
            kill_9(pid);
        }
        // It has nothing more to say.
        let _ = self.outside.wait();
        for group in cgroups() {
            if let Err(error) = fs::remove_dir(&group) {
                eprintln!("a control group is left: {}: {error}", group.display());
            }
        }
    }
}

/// Of all controllers, the innermost first, which is the order in which they can be removed.
fn cgroups() -> Vec<PathBuf> {
    let args = ["/sys/fs/cgroup", "-depth", "-type", "d", "-path", &format!("*/{CGROUP}*")];
    let found = Command::new("find").args(args).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&found).lines().map(PathBuf::from).collect()
}
