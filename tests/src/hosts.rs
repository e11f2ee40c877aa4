//! Hosts of `wharf dev --nodes`, and what can befall them.
//!
//! Each has an address, a server (the first three) and an agent. Hosts are called by their numbers, from 1.

use std::{net::IpAddr, ops::RangeInclusive, path::PathBuf, process::Command, time::Duration};

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
}

impl Hosts {
    /// Completes when all servers vote and all nodes are ready.
    pub fn start(count: u8) -> Hosts {
        let cluster = Cluster::start_with(&["--nodes", &count.to_string()]);
        let hosts = Hosts { cluster, count };
        hosts.wait_until_up();
        hosts
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

    /// Stops everything and fails if anything of it is left on the machine.
    pub fn end(self) {
        self.cluster.end();
    }
}
