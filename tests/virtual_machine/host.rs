//! A virtual machine that runs `wharf dev`, as a user's host does.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use tests::{
    vm::{Debian, Machine, Ran},
    wait_for,
};

use tests::busybox::busybox_archive;

/// From the start of `wharf dev` to a node that is ready; most of it is the demo image.
const UP: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub struct Host {
    pub machine: Machine,
    before: BTreeSet<String>,
}

impl Host {
    /// A host on which `wharf dev` has come up with nothing to run.
    pub fn start(name: &str) -> Host {
        let host = Host::boot(name);
        host.dev("");
        host.wait_for_dev("Ctrl-C stops everything");
        host
    }

    /// A host on which nothing runs yet.
    pub fn boot(name: &str) -> Host {
        Host::boot_kernel(name, Debian::default())
    }

    pub fn boot_kernel(name: &str, kernel: Debian) -> Host {
        let hello = include_str!("../../manifests/hello.yaml");
        let builder = Machine::builder(name).kernel(kernel).disk_mib(1024).file("/root/hello.yaml", hello);
        let machine = builder.file("/root/box.tar", busybox_archive()).start();
        let before = everything(&machine);
        Host { machine, before }
    }

    /// Starts `wharf dev` in the background.
    pub fn dev(&self, arguments: &str) {
        self.machine.ok(&format!("wharf dev {arguments} >/root/dev.log 2>&1 & echo $! >/run/dev.pid"));
    }

    /// Waits until it has printed this.
    pub fn wait_for_dev(&self, text: &str) {
        wait_for(&format!("wharf dev to say {text:?}"), UP, || {
            let log = self.machine.ok("cat /root/dev.log");
            if log.contains(text) { Ok(()) } else { Err(self.logs()) }
        });
    }

    /// What `dev` and the daemons have said.
    pub fn logs(&self) -> String {
        self.machine.run("cd /var/lib/wharf; tail -n 30 /root/dev.log agent.log server.log").output
    }

    pub fn wharf(&self, arguments: &str) -> Ran {
        self.machine.run(&format!("wharf {arguments}"))
    }

    pub fn ok(&self, arguments: &str) -> String {
        let ran = self.wharf(arguments);
        assert_eq!(ran.code, 0, "wharf {arguments}: {}\n{}", ran.output, self.logs());
        ran.output
    }

    pub fn apply(&self, manifest: &str, arguments: &str) -> Ran {
        self.wharf(&format!("apply {arguments} -f - <<'END'\n{manifest}\nEND"))
    }

    pub fn load_box(&self) {
        self.ok("image load /root/box.tar --name box:1");
    }

    /// The replicas of a service that are not stopping.
    pub fn replicas(&self, name: &str) -> Vec<Value> {
        let text = self.ok(&format!("get services {name} -o json"));
        let service: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let all = service["status"]["replicas"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|replica| replica["desired"] != "stopped").collect()
    }

    /// The processes that their main containers run.
    pub fn pids(&self, name: &str) -> Vec<i64> {
        let pid = |replica: &Value| {
            let containers = replica["containers"].as_array()?;
            containers.iter().find(|container| container["name"] == "main")?["pid"].as_i64()
        };
        self.replicas(name).iter().filter_map(pid).collect()
    }

    /// Waits until so many replicas are ready, and gives their processes.
    pub fn wait_ready(&self, name: &str, count: usize) -> Vec<i64> {
        wait_for(&format!("{count} ready replicas of {name}"), Duration::from_secs(90), || {
            let ready = self.ok(&format!("get services {name} -o json"));
            let ready: Value = serde_json::from_str(&ready).unwrap_or_default();
            let pids = self.pids(name);
            if ready["status"]["ready"] == count && pids.len() == count { Ok(pids) } else { Err(ready) }
        })
    }

    /// The folder of the control group that a process is in.
    pub fn group(&self, pid: i64) -> String {
        self.machine.ok(&format!("echo /sys/fs/cgroup$(cut -d : -f 3 /proc/{pid}/cgroup)")).trim().to_owned()
    }

    /// A file of that group.
    pub fn limit(&self, pid: i64, file: &str) -> String {
        self.machine.ok(&format!("cat {}/{file}", self.group(pid))).trim().to_owned()
    }

    /// The process of `wharf agent` or `wharf server` that `dev` has started.
    pub fn daemon(&self, what: &str) -> String {
        let find = format!(
            "ps -o pid,ppid,args | awk -v dev=$(cat /run/dev.pid) '$2 == dev && $4 == \"{what}\" {{ print $1 }}'"
        );
        self.machine.ok(&find).trim().to_owned()
    }

    /// Ctrl-C; everything that the host did not have before must go away.
    pub fn end(&self) {
        self.machine.ok("kill -INT $(cat /run/dev.pid)");
        wait_for("wharf dev to end", Duration::from_secs(90), || {
            let running = self.machine.run("kill -0 $(cat /run/dev.pid) 2>/dev/null");
            if running.code != 0 { Ok(()) } else { Err(self.logs()) }
        });
        wait_for("the host to be as before", Duration::from_secs(30), || {
            let now = everything(&self.machine);
            let left: Vec<&String> = now.difference(&self.before).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}\n{}", self.logs())) }
        });
    }
}

/// Everything that a cluster must not leave behind, a line each.
fn everything(machine: &Machine) -> BTreeSet<String> {
    let script = "
        find /sys/fs/cgroup -type d | sed 's/^/cgroup /'
        # Without the options: a size in them depends on how much memory this boot has left.
        cut -d ' ' -f 1-3 /proc/self/mounts | sed 's/^/mount /'
        ip -o link | cut -d : -f 2 | sed 's/^/link/'
        nft list tables | sed 's/^/nftables /'
        ps -o args | grep '[w]harf' | sed 's/^/process /'
    ";
    machine.run(script).output.lines().map(str::to_owned).collect()
}
