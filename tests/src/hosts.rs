//! Hosts of `wharf dev --nodes`, and what can befall them.
//!
//! Each has an address, a server (the first three) and an agent. Hosts are called by their numbers, from 1.

use std::{
    ffi::CString,
    net::IpAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use serde_json::Value;

use crate::{
    cluster::{Cluster, Ended, command_at, ended},
    wait_for,
};

/// A debug build on a loaded machine is slow.
const SOON: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Hosts {
    /// What is asked here is asked of the server of host 1.
    pub cluster: Cluster,
    count: u8,
    /// A file system of its own below the data of one server.
    small_disk: Option<PathBuf>,
}

/// Which packets of a host's do not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Both,
    /// It hears nobody.
    In,
    /// Nobody hears it.
    Out,
}

impl Hosts {
    /// Completes when all servers vote and all nodes are ready.
    pub fn start(count: u8) -> Hosts {
        let cluster = Cluster::start_with(&["--nodes", &count.to_string()]);
        let hosts = Hosts { cluster, count, small_disk: None };
        hosts.wait_until_up();
        hosts
    }

    /// The same, and the server of this host has a disk of so many MiB to itself.
    pub fn start_with_small_disk(count: u8, host: u8, mib: u32) -> Hosts {
        let mut cluster = Cluster::prepare(&["--nodes", &count.to_string()]);
        let disk = cluster.data().join(format!("hosts/host-{host}/server"));
        std::fs::create_dir_all(&disk).expect("a folder");
        let options = CString::new(format!("size={mib}m,mode=700")).expect("text");
        mount("wharf-test", &disk, "tmpfs", MountFlags::empty(), options.as_c_str()).expect("a tmpfs");
        cluster.resume();
        let hosts = Hosts { cluster, count, small_disk: Some(disk) };
        hosts.wait_until_up();
        hosts
    }

    pub fn small_disk(&self) -> &Path {
        self.small_disk.as_deref().expect("a server has a disk to itself")
    }

    /// The same hosts again, after they were stopped or killed.
    pub fn resume(&mut self) {
        self.resume_with(self.count);
    }

    /// The same and more, or fewer.
    pub fn resume_with(&mut self, count: u8) {
        self.count = count;
        self.cluster.set_arguments(&["--nodes", &count.to_string()]);
        self.cluster.resume();
        self.wait_until_up();
    }

    fn wait_until_up(&self) {
        self.cluster.wait_until_it_says("Ctrl-C stops everything");
    }

    pub fn all(&self) -> RangeInclusive<u8> {
        1..=self.count
    }

    /// The process of its server.
    pub fn server(&self, host: u8) -> i32 {
        self.daemon(host, "server")
    }

    /// The process of its agent.
    pub fn agent(&self, host: u8) -> i32 {
        self.daemon(host, "agent")
    }

    fn daemon(&self, host: u8, what: &str) -> i32 {
        wait_for(&format!("the {what} of host {host}"), SOON, || {
            let found = self.cluster.daemons(&format!("hosts/host-{host}/{what}"));
            found.first().copied().ok_or_else(|| self.cluster.log("dev.log"))
        })
    }

    pub fn folder(&self, host: u8) -> PathBuf {
        self.cluster.data().join(format!("hosts/host-{host}"))
    }

    /// What a daemon said.
    pub fn log(&self, host: u8, what: &str) -> String {
        std::fs::read_to_string(self.folder(host).join(format!("{what}.log"))).unwrap_or_default()
    }

    /// Where its server is asked.
    pub fn socket(&self, host: u8) -> PathBuf {
        let usual = self.cluster.socket();
        if host == 1 { usual } else { usual.with_file_name(format!("host-{host}")).join("wharf.sock") }
    }

    /// Asks the server of this host.
    pub fn ask(&self, host: u8, args: &[&str]) -> Ended {
        ended(&mut command_at(&self.socket(host), args))
    }

    /// As the node tells it.
    pub fn address(&self, host: u8) -> IpAddr {
        let nodes: Value =
            serde_json::from_str(&self.cluster.ok(&["get", "nodes", "-o", "json"])).expect("JSON");
        let nodes = nodes.as_array().cloned().unwrap_or_default();
        let node = nodes.iter().find(|node| node["name"] == format!("host-{host}")).expect("the node");
        node["address"].as_str().and_then(|address| address.parse().ok()).expect("its address")
    }

    /// Runs a program of this machine on a host, for what must succeed.
    pub fn run(&self, host: u8, program: &str, args: &[&str]) -> String {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.folder(host).join("netns").display())).arg(program).args(args);
        let ended = ended(&mut command);
        assert_eq!(ended.code, 0, "{program} {args:?} on host {host}: {ended:#?}");
        ended.stdout
    }

    /// Where all servers are asked.
    pub fn sockets(&self) -> Vec<PathBuf> {
        self.all().map(|host| self.socket(host)).collect()
    }

    /// The host whose server leads, as one that answers sees it.
    pub fn leader(&self) -> u8 {
        wait_for("a leader", SOON, || {
            let seen: Vec<Ended> = self.all().map(|host| self.ask(host, &["cluster", "status"])).collect();
            let leader = |ended: &Ended| {
                let name = ended.stdout.lines().find_map(|line| line.strip_prefix("leader "))?;
                name.trim().strip_prefix("host-")?.parse().ok()
            };
            seen.iter().filter(|ended| ended.code == 0).find_map(leader).ok_or(seen)
        })
    }

    /// Waits until the server of each host answers what only a cluster that agrees can answer.
    pub fn wait_until_all_answer(&self) {
        for host in self.all() {
            wait_for(&format!("the server of host {host}"), SOON, || {
                let ended = self.ask(host, &["get", "nodes"]);
                if ended.code == 0 { Ok(()) } else { Err((ended, self.log(host, "server"))) }
            });
        }
    }

    /// What goes to and from the other hosts is lost from now on.
    pub fn cut(&self, host: u8, cut: Cut) {
        let input = "add chain inet cut in { type filter hook input priority -400; }; add rule inet cut in iif eth0 drop";
        let output = "add chain inet cut out { type filter hook output priority -400; }; add rule inet cut out oif eth0 drop";
        let chains = match cut {
            Cut::Both => format!("{input}; {output}"),
            Cut::In => input.to_owned(),
            Cut::Out => output.to_owned(),
        };
        self.run(host, "nft", &[&format!("add table inet cut; {chains}")]);
    }

    pub fn mend(&self, host: u8) {
        self.run(host, "nft", &["delete table inet cut"]);
    }

    /// Stops everything and fails if anything of it is left on the machine.
    pub fn end(mut self) {
        self.cluster.stop();
        self.unmount();
        self.cluster.verify_nothing_is_left();
    }

    fn unmount(&mut self) {
        if let Some(disk) = self.small_disk.take() {
            unmount(&disk, UnmountFlags::DETACH).expect("it is mounted");
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (host, what) in self.all().flat_map(|host| [(host, "server"), (host, "agent")]) {
                let log = self.log(host, what);
                let lines: Vec<&str> = log.lines().collect();
                eprintln!(
                    "the {what} of host {host}:\n{}",
                    lines[lines.len().saturating_sub(30)..].join("\n")
                );
            }
        }
        if self.small_disk.is_some() {
            self.cluster.stop();
            self.unmount();
        }
    }
}
