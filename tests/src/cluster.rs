//! A cluster on this machine, started and stopped as a user does it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{leftovers, wait_for};

/// The host has one bridge, one firewall table and one set of ports: clusters take turns.
static HOST: Mutex<()> = Mutex::new(());

pub(crate) fn take_host() -> MutexGuard<'static, ()> {
    HOST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A tmpfs on every host, as `/run` is where a system runs: what means nothing after a boot costs no disk.
pub(crate) const TMPFS: &str = "/dev/shm";

/// Starting, including the demo image of a debug build; a loaded CI machine is slow.
const UP: Duration = Duration::from_secs(90);

#[derive(Debug)]
pub struct Cluster {
    dev: Option<Child>,
    /// What `wharf dev` is told besides where it keeps things.
    arguments: Vec<String>,
    folder: TempDir,
    run: TempDir,
    before: leftovers::Host,
    _host: MutexGuard<'static, ()>,
}

/// What a command printed and how it ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The program under test: `WHARF_BIN`, as `tests/run` sets it, else that of the last build with this one's profile.
pub fn program() -> PathBuf {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    match std::env::var_os("WHARF_BIN") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(profile).join("wharf"),
    }
}

impl Cluster {
    /// Starts a cluster of nothing and waits until its node is ready.
    pub fn start() -> Cluster {
        Cluster::start_with(&[])
    }

    /// The same with more arguments for `wharf dev`.
    pub fn start_with(arguments: &[&str]) -> Cluster {
        let mut cluster = Cluster::prepare(arguments);
        cluster.resume();
        cluster
    }

    /// One that is not started yet.
    pub fn prepare(arguments: &[&str]) -> Cluster {
        let host = take_host();
        let folder = tempfile::Builder::new().prefix("wharf-test-").tempdir().expect("a temporary folder");
        let run = tempfile::Builder::new().prefix("wharf-test-").tempdir_in(TMPFS).expect("a tmpfs");
        let before = leftovers::Host::look();
        let mut cluster = Cluster { dev: None, arguments: Vec::new(), folder, run, before, _host: host };
        cluster.set_arguments(arguments);
        cluster
    }

    /// Starts `wharf dev` over the same data again.
    pub fn resume(&mut self) {
        let log = File::create(self.folder.path().join("dev.log")).expect("a log file");
        let mut command = Command::new(program());
        command.arg("dev").arg("--data").arg(self.data()).arg("--socket").arg(self.socket());
        let child = command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("WHARF_BIN, or the wharf in target, can be started");
        self.dev = Some(child);
        wait_for("the cluster to come up", UP, || match self.nodes_ready() {
            true => Ok(()),
            false => Err(self.log("dev.log")),
        });
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn socket(&self) -> PathBuf {
        self.run.path().join("wharf.sock")
    }

    /// A place for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The log of `server` or `agent`, or another file of the folder.
    pub fn log(&self, name: &str) -> String {
        let in_data = std::fs::read(self.data().join(name));
        let bytes = in_data.or_else(|_| std::fs::read(self.folder.path().join(name))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn nodes_ready(&self) -> bool {
        let nodes = self.wharf(&["get", "nodes", "-o", "json"]);
        let nodes: Value = serde_json::from_str(&nodes.stdout).unwrap_or_default();
        nodes.as_array().is_some_and(|nodes| nodes.iter().any(|node| node["state"] == "ready"))
    }

    pub fn command(&self, args: &[&str]) -> Command {
        command_at(&self.socket(), args)
    }

    /// Runs the CLI to its end.
    pub fn wharf(&self, args: &[&str]) -> Ended {
        let (before, after) = args.split_at(args.iter().position(|arg| *arg == "--").unwrap_or(args.len()));
        let mut command = self.command(before);
        command.args(after);
        ended(&mut command)
    }

    /// The same, for what must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let ended = self.wharf(args);
        assert_eq!(ended.code, 0, "wharf {args:?}: {ended:#?}\nagent: {}", self.log("agent.log"));
        ended.stdout
    }

    /// Applies a manifest's text and waits for its rollout; the exit code tells how that ended.
    pub fn apply(&self, name: &str, manifest: &str) -> Ended {
        let path = self.folder.path().join(format!("{name}.yaml"));
        std::fs::write(&path, manifest).expect("the manifest can be written");
        self.wharf(&["apply", "-f", path.to_str().unwrap_or_default(), "--wait", "--timeout", "2m"])
    }

    pub fn service(&self, name: &str) -> Value {
        serde_json::from_str(&self.ok(&["get", "services", name, "-o", "json"])).expect("JSON of a service")
    }

    /// The replicas of a service that are not stopping, in the order of their slots.
    pub fn replicas(&self, name: &str) -> Vec<Value> {
        let service = self.service(name);
        let all = service["status"]["replicas"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|replica| replica["desired"] != "stopped").collect()
    }

    pub fn pids(&self, name: &str) -> Vec<i32> {
        let pid = |replica: &Value| {
            let containers = replica["containers"].as_array()?;
            containers.iter().find(|c| c["name"] == "main")?["pid"].as_i64().map(|pid| pid as i32)
        };
        self.replicas(name).iter().filter_map(pid).collect()
    }

    /// The process ids of the daemons of this cluster called `what`: `server` or `agent`. Not of what they forked.
    pub fn daemons(&self, what: &str) -> Vec<i32> {
        let data = self.data().join(what);
        let dev = self.dev.as_ref().map_or(0, |dev| dev.id());
        leftovers::processes()
            .into_iter()
            .filter(|process| process.parent == dev as i32)
            .filter(|process| process.command.contains(&data.display().to_string()))
            .map(|process| process.pid)
            .collect()
    }

    /// kill -9 of the daemons called `what`; `dev` starts them again.
    pub fn kill(&self, what: &str) {
        for pid in self.daemons(what) {
            kill_9(pid);
        }
    }

    /// Waits until `wharf dev` has said this.
    pub fn wait_until_it_says(&self, text: &str) {
        wait_for(&format!("wharf dev to say {text:?}"), UP, || {
            let log = self.log("dev.log");
            if log.contains(text) { Ok(()) } else { Err(log) }
        });
    }

    /// Other arguments from the next start on.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    }

    /// kill -9 of `wharf dev` itself and then of these, so that nobody does anything about it.
    pub fn kill_dev_and(&mut self, others: &[i32]) {
        let mut dev = self.dev.take().expect("wharf dev runs");
        // Stopped, so that it starts nothing again; those that end with it are not told before they are killed.
        signal(dev.id() as i32, Signal::STOP);
        others.iter().copied().for_each(kill_9);
        dev.kill().expect("it is killed");
        dev.wait().expect("it has ended");
    }

    /// Ctrl-C, and waits until everything has ended.
    pub fn stop(&mut self) {
        let Some(mut dev) = self.dev.take() else { return };
        signal(dev.id() as i32, Signal::INT);
        wait_for("wharf dev to end", Duration::from_secs(60), || match dev.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}\n{}", self.log("agent.log"))),
        });
    }

    /// Stops the cluster and fails if anything of it is left on the host.
    pub fn end(mut self) {
        self.stop();
        self.verify_nothing_is_left();
    }

    /// Once it was stopped.
    pub fn verify_nothing_is_left(&self) {
        let seen = wait_for("the host to be as before", Duration::from_secs(10), || {
            let after = leftovers::Host::look();
            let left = after.since(&self.before, self.folder.path());
            if left.is_empty() { Ok(left) } else { Err(left) }
        });
        assert!(seen.is_empty());
    }
}

impl Drop for Cluster {
    /// For a test that failed: the host is still to be given back.
    fn drop(&mut self) {
        if let Some(dev) = &mut self.dev {
            if std::thread::panicking() {
                eprintln!(
                    "agent.log:\n{}\nserver.log:\n{}",
                    tail(&self.folder, "agent"),
                    tail(&self.folder, "server")
                );
            }
            signal(dev.id() as i32, Signal::INT);
            let until = std::time::Instant::now() + Duration::from_secs(30);
            while std::time::Instant::now() < until && matches!(dev.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(50));
            }
            // Harmless where it has ended.
            let _ = dev.kill();
            let _ = dev.wait();
        }
    }
}

fn tail(folder: &TempDir, daemon: &str) -> String {
    let text =
        std::fs::read_to_string(folder.path().join("data").join(format!("{daemon}.log"))).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// The CLI, asking the server at this socket.
pub(crate) fn command_at(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(args).arg("--socket").arg(socket).env_remove("WHARF_NAMESPACE");
    command
}

/// Runs a command of the CLI to its end.
pub fn ended(command: &mut Command) -> Ended {
    ended_with(command, Stdio::null())
}

/// The same with something on standard input.
pub fn ended_with(command: &mut Command, stdin: Stdio) -> Ended {
    let output = command.env_remove("WHARF_NAMESPACE").stdin(stdin).output().expect("the CLI runs");
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}

pub fn kill_9(pid: i32) {
    signal(pid, Signal::KILL);
}
