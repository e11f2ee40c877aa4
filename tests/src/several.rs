//! Several servers and agents on this machine, founded and joined as a user does it.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    cluster::{Ended, TMPFS, ended, kill_9, program, signal, take_host},
    leftovers, wait_for,
};

/// A debug build on a loaded machine is slow.
const SOON: Duration = Duration::from_secs(60);

/// Daemons are named `server1`, `agent1`, and so on.
#[derive(Debug)]
pub struct Several {
    running: BTreeMap<String, Child>,
    /// What every server is told beside the usual.
    server_args: Vec<String>,
    /// What is on every host, and whoever asks uses it.
    program: PathBuf,
    /// What is on these hosts instead.
    installed: BTreeMap<String, PathBuf>,
    folder: TempDir,
    before: leftovers::Host,
    _host: MutexGuard<'static, ()>,
}

impl Several {
    /// A cluster of one server, which runs.
    pub fn found() -> Several {
        Several::found_with(&[])
    }

    pub fn found_with(server_args: &[&str]) -> Several {
        Several::found_in(Path::new(TMPFS), program(), server_args)
    }

    /// With everything it writes under `parent`.
    fn found_in(parent: &Path, program: PathBuf, server_args: &[&str]) -> Several {
        let host = take_host();
        let folder = tempfile::Builder::new().prefix("wharf-test-").tempdir_in(parent).expect("a folder");
        let before = leftovers::Host::look();
        let server_args = server_args.iter().map(|&arg| arg.to_owned()).collect();
        let (running, installed) = (BTreeMap::new(), BTreeMap::new());
        let mut several = Several { running, server_args, program, installed, folder, before, _host: host };
        several.init("server1");
        several
    }

    /// Lets a server found a cluster, and waits until it leads. More than one are clusters of their own.
    pub fn init(&mut self, name: &str) {
        let (address, data) = (self.choose_address(name), self.data(name));
        let reached = ["--name", name, "--advertise", &address, "--listen", &address, "--data", &data];
        self.ok_without_server(&[&["cluster", "init"], &reached[..]].concat());
        self.start(name);
        self.wait_for_voters(&[name]);
    }

    /// Also this many servers and agents in all, all of which take part.
    pub fn of(servers: usize, agents: usize) -> Several {
        Several::of_program(program(), servers, agents)
    }

    /// The same of another build.
    pub fn of_program(program: PathBuf, servers: usize, agents: usize) -> Several {
        let mut several = Several::found_in(Path::new(TMPFS), program, &[]);
        several.add_servers(servers);
        let token = several.token("agent", &[]);
        for name in names("agent", 1, agents) {
            several.join(&name, &token);
            several.start(&name);
        }
        several.wait_for_nodes(agents);
        several
    }

    /// This many servers in all and no agent, on the disk that `parent` is on.
    pub fn servers_in(parent: &Path, servers: usize) -> Several {
        let mut several = Several::found_in(parent, program(), &[]);
        several.add_servers(servers);
        several
    }

    /// Until there are this many in all, and all of them vote.
    fn add_servers(&mut self, servers: usize) {
        let token = self.token("server", &[]);
        for name in names("server", 2, servers) {
            self.join(&name, &token);
            self.start(&name);
        }
        let voters = names("server", 1, servers);
        self.wait_for_voters(&voters.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// From its next start on this host runs that program; with nobody named, all do, and whoever asks.
    pub fn install(&mut self, name: &str, program: &Path) {
        self.installed.insert(name.to_owned(), program.to_owned());
    }

    pub fn install_everywhere(&mut self, program: &Path) {
        self.installed.clear();
        self.program = program.to_owned();
    }

    pub fn program(&self, name: &str) -> &Path {
        self.installed.get(name).unwrap_or(&self.program)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn data(&self, daemon: &str) -> String {
        self.path(daemon).display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn socket(&self, server: &str) -> PathBuf {
        self.path(&format!("{server}.sock"))
    }

    /// Of this server alone, also while it is restarted: whoever dials comes from 127.0.0.1, and may take any port there. All
    /// of 127.0.0.0/8 is this host. Remembered, for those who join.
    fn choose_address(&self, server: &str) -> String {
        static CHOSEN: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id().wrapping_mul(1_024) | CHOSEN.fetch_add(1, Ordering::Relaxed);
        let host = Ipv4Addr::from_bits(0x7f40_0000 | number & 0x003f_ffff);
        let address = format!("{host}:7400");
        std::fs::write(self.path(&format!("{server}.address")), &address).expect("a file");
        address
    }

    /// As an administrator does it: for a server that does not run. Its new address.
    pub fn move_to_another_address(&self, server: &str) -> String {
        let (before, after) = (self.address(server), self.choose_address(server));
        let path = self.path(server).join("host.json");
        let known = std::fs::read_to_string(&path).expect("what the server was told when it joined");
        std::fs::write(&path, known.replace(&before, &after)).expect("it is written");
        after
    }

    pub fn address(&self, server: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{server}.address"))).expect("the address of a server")
    }

    /// A join token.
    pub fn token(&self, role: &str, more: &[&str]) -> String {
        let args = [&["cluster", "token", "create", "--role", role], more].concat();
        self.ok(&args).trim().to_owned()
    }

    /// Lets `server2` or `agent1` join.
    pub fn join(&self, name: &str, token: &str) {
        let ended = self.try_join(name, token);
        assert_eq!(ended.code, 0, "{name} joins: {ended:#?}");
    }

    pub fn try_join(&self, name: &str, token: &str) -> Ended {
        let address = name.starts_with("server").then(|| self.choose_address(name));
        self.try_join_at(address, name, token)
    }

    /// Takes everything from a server that does not run, and lets it join again where it was.
    pub fn join_anew(&self, server: &str, token: &str) {
        std::fs::remove_dir_all(self.path(server)).expect("what the server had is removed");
        let ended = self.try_join_at(Some(self.address(server)), server, token);
        assert_eq!(ended.code, 0, "{server} joins again: {ended:#?}");
    }

    fn try_join_at(&self, address: Option<String>, name: &str, token: &str) -> Ended {
        let known =
            self.address(self.running.keys().find(|name| name.starts_with("server")).expect("a server"));
        let data = self.data(name);
        let mut args = vec!["join", "--token", token, &known, "--data", &data];
        if let Some(address) = &address {
            args.extend(["--name", name, "--advertise", address, "--listen", address]);
        }
        ended(Command::new(self.program(name)).args(&args))
    }

    pub fn start(&mut self, name: &str) {
        self.start_with(name, &[]);
    }

    /// Starts a server, and waits until it answers.
    pub fn start_to_answer(&mut self, server: &str) {
        self.start(server);
        wait_for(server, SOON, || {
            let asked = self.ask(server, &["get", "services"]);
            if asked.code == 0 { Ok(()) } else { Err(format!("{asked:?}\n{}", self.log(server))) }
        });
    }

    /// With more arguments than it needs.
    pub fn start_with(&mut self, name: &str, more: &[&str]) {
        let log = OpenOptions::new().create(true).append(true).open(self.path(&format!("{name}.log")));
        let log = log.expect("a log file");
        let mut command = Command::new(self.program(name));
        if name.starts_with("server") {
            command.arg("server").arg("--data").arg(self.path(name)).arg("--listen").arg(self.socket(name));
            command.args(&self.server_args);
        } else {
            let number = name.trim_start_matches("agent");
            command.arg("agent").arg("--data").arg(self.path(name)).args(["--name", name, "--stop-on-exit"]);
            command.arg("--run").arg(self.path(&format!("{name}.run")));
            command
                .arg("--prefix")
                .arg(format!("wht{number}"))
                .arg("--subnet")
                .arg(format!("10.21{number}.0.0/16"));
        }
        command.args(more).stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        let child = command.spawn().expect("WHARF_BIN, or the wharf in target, can be started");
        self.running.insert(name.to_owned(), child);
    }

    /// The process id of a daemon that runs.
    pub fn pid(&self, name: &str) -> i32 {
        self.running[name].id() as i32
    }

    pub fn kill(&mut self, name: &str) {
        let mut child = self.running.remove(name).expect("it runs");
        kill_9(child.id() as i32);
        child.wait().expect("it has ended");
    }

    /// As a service manager does it: it may finish what it does.
    pub fn stop(&mut self, name: &str) {
        signal(self.pid(name), rustix::process::Signal::TERM);
        let code = self.ended(name);
        assert_eq!(code, 0, "{name}: {}", self.log(name));
    }

    /// Waits for the end of a daemon that ends by itself; its exit code.
    pub fn ended(&mut self, name: &str) -> i32 {
        let mut child = self.running.remove(name).expect("it ran");
        wait_for(name, SOON, || match child.try_wait() {
            Ok(Some(status)) => Ok(status.code().unwrap_or(-1)),
            other => Err(format!("{other:?}")),
        })
    }

    /// A file in a daemon's data folder.
    pub fn file(&self, name: &str, path: &str) -> String {
        std::fs::read_to_string(self.path(name).join(path)).unwrap_or_default()
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    fn without_server(&self, args: &[&str]) -> Ended {
        ended(Command::new(&self.program).args(args))
    }

    pub fn ok_without_server(&self, args: &[&str]) {
        let ended = self.without_server(args);
        assert_eq!(ended.code, 0, "wharf {args:?}: {ended:#?}");
    }

    /// Asks the server of this name.
    pub fn ask(&self, server: &str, args: &[&str]) -> Ended {
        self.ask_by(&self.program, server, args)
    }

    /// The same with another program than is used here.
    pub fn ask_by(&self, program: &Path, server: &str, args: &[&str]) -> Ended {
        let (before, after) = args.split_at(args.iter().position(|arg| *arg == "--").unwrap_or(args.len()));
        ended(Command::new(program).args(before).arg("--socket").arg(self.socket(server)).args(after))
    }

    /// As somebody does who is on none of these hosts: with a file of contexts, and these variables.
    pub fn from_afar(&self, variables: &[(&str, &str)], args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env("WHARF_CONFIG", self.path("contexts/config.yaml"));
        command.envs(variables.iter().copied());
        command
    }

    /// Asks the first server that runs, for what must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let server = self.running.keys().find(|name| name.starts_with("server")).expect("a server");
        let ended = self.ask(server, args);
        assert_eq!(ended.code, 0, "wharf {args:?} at {server}: {ended:#?}\n{}", self.logs());
        ended.stdout
    }

    /// Who leads, as a server that runs sees it.
    pub fn leader(&self) -> String {
        wait_for("a leader", SOON, || {
            let seen = self.ok(&["cluster", "status"]);
            let leader =
                seen.lines().find_map(|line| line.strip_prefix("leader ")).unwrap_or_default().trim();
            if self.running.contains_key(leader) { Ok(leader.to_owned()) } else { Err(seen.clone()) }
        })
    }

    /// Waits until these vote, and no others.
    pub fn wait_for_voters(&self, expected: &[&str]) {
        wait_for("the votes", SOON, || {
            let seen = ended(
                Command::new(&self.program)
                    .args(["cluster", "members", "--socket"])
                    .arg(self.socket(expected[0])),
            );
            let mut voters: Vec<&str> = seen
                .stdout
                .lines()
                .filter(|line| line.split_whitespace().nth(3) == Some("voter"))
                .filter_map(|line| line.split_whitespace().next())
                .collect();
            voters.sort_unstable();
            if voters == expected { Ok(()) } else { Err(format!("{seen:?}\n{}", self.logs())) }
        });
    }

    pub fn wait_for_nodes(&self, expected: usize) {
        wait_for("the nodes", SOON, || {
            let nodes: Value =
                serde_json::from_str(&self.ok(&["get", "nodes", "-o", "json"])).unwrap_or_default();
            let ready = nodes
                .as_array()
                .map_or(0, |nodes| nodes.iter().filter(|node| node["state"] == "ready").count());
            if ready == expected { Ok(()) } else { Err(format!("{nodes}\n{}", self.logs())) }
        });
    }

    /// The processes of a service, by its slots.
    pub fn pids(&self, service: &str) -> BTreeMap<u64, i64> {
        let seen: Value = serde_json::from_str(&self.ok(&["get", "services", service, "-o", "json"]))
            .expect("JSON of a service");
        let replicas = seen["status"]["replicas"].as_array().cloned().unwrap_or_default();
        let pid =
            |replica: &Value| Some((replica["slot"].as_u64()?, replica["containers"][0]["pid"].as_i64()?));
        replicas.iter().filter_map(pid).collect()
    }

    fn logs(&self) -> String {
        let of = |name: &String| {
            let log = self.log(name);
            let lines: Vec<&str> = log.lines().collect();
            format!("== {name}\n{}\n", lines[lines.len().saturating_sub(20)..].join("\n"))
        };
        self.running.keys().map(of).collect()
    }

    /// Stops everything and fails if anything of it is left on the host.
    pub fn end(mut self) {
        for agents_first in ["agent", "server"] {
            let of_kind: Vec<String> =
                self.running.keys().filter(|name| name.starts_with(agents_first)).cloned().collect();
            for name in &of_kind {
                signal(self.running[name].id() as i32, rustix::process::Signal::TERM);
            }
            for name in of_kind {
                let code = self.ended(&name);
                assert_eq!(code, 0, "{name}: {}", self.log(&name));
            }
        }
        wait_for("the host to be as before", Duration::from_secs(10), || {
            let left = leftovers::Host::look().since(&self.before, self.folder.path());
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
    }
}

fn names(what: &str, first: usize, last: usize) -> Vec<String> {
    (first..=last).map(|number| format!("{what}{number}")).collect()
}

impl Drop for Several {
    /// A test that failed leaves as little as possible to the next; the agents stop what they run.
    fn drop(&mut self) {
        for (name, child) in &mut self.running {
            let how = if name.starts_with("agent") {
                rustix::process::Signal::TERM
            } else {
                rustix::process::Signal::KILL
            };
            signal(child.id() as i32, how);
        }
        for child in self.running.values_mut() {
            let _ = child.wait();
        }
    }
}
