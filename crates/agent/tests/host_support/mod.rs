//! What the test of the whole agent stands on: directories, an image, an agent that can be killed, a load.

mod server;

use std::{
    cell::RefCell,
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use image::{FileContent, FileEntry, ImageConfig, Store};
use model::{
    Assignment, Backoff, Bytes, Capabilities, ContainerSpec, ContainerState, Desired, Health, ImageRef,
    MilliCpu, Millis, Name, Observed, Port, Probe, ProbeAction, Protocol, ReplicaId, ReplicaTemplate,
    Resources, RestartPolicy, RestartWhen, RevisionNumber, ServiceKey, Slot, probe::ProbePort,
};
use tokio::sync::oneshot;

pub(crate) use server::Server;

pub(crate) const IMAGE: &str = "test/busybox:1";
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Stage {
    dir: tempfile::TempDir,
    runtime: runtime::Runtime,
    pub(crate) server: Server,
    /// Of the host, for the published service.
    pub(crate) port: u16,
    network: String,
    subnet: network::Subnet,
    digest: RefCell<model::Digest>,
    agent: RefCell<Option<Agent>>,
}

/// An agent with a tokio runtime of its own, so that dropping it is as good as a kill.
struct Agent {
    tokio: tokio::runtime::Runtime,
    shutdown: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), agent::Error>>,
}

impl Stage {
    pub(crate) fn build() -> Stage {
        let own = std::process::id();
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("containers");
        let config = runtime::Config { state_dir, cgroup_parent: format!("wharf-test-{own}") };
        // Before anything else: it must be forked while there is one thread.
        let runtime = runtime::Runtime::fork(config).unwrap();
        let (name, digit) = (format!("wt{}", own % 100_000), own % 250);
        let stage = Stage {
            server: Server::listen(&dir.path().join("server.sock")),
            runtime,
            port: free_port(),
            network: name,
            subnet: format!("10.{}.{digit}.0/24", 210 + own % 40).parse().unwrap(),
            digest: RefCell::new(format!("sha256:{}", "0".repeat(64)).parse().unwrap()),
            agent: RefCell::new(None),
            dir,
        };
        stage.import_image();
        stage
    }

    fn config(&self, stop_on_exit: bool) -> agent::Config {
        agent::Config {
            data_dir: self.dir.path().join("data"),
            run_dir: self.dir.path().join("run"),
            name: name("alpha"),
            labels: [("zone".to_owned(), "here".to_owned())].into(),
            server: agent::ServerAddress::Unix(self.dir.path().join("server.sock")),
            network: self.network.clone(),
            subnet: Some(self.subnet),
            user_namespaces: Some(agent::Config::FIRST_HOST_ID),
            warm_sandboxes: 4,
            address: [127, 0, 0, 1].into(),
            reserved_cpu: MilliCpu(0),
            reserved_memory: Bytes(64 << 20),
            stop_on_exit,
            version: "test".to_owned(),
        }
    }

    pub(crate) fn import_image(&self) {
        fs::create_dir_all(self.dir.path().join("data")).unwrap();
        let store = Store::open(&self.config(false).images_dir()).unwrap();
        let file = |path: &str, mode, content| FileEntry { path: path.to_owned(), mode, content };
        let mut files = vec![
            file("/bin/busybox", 0o755, FileContent::CopyOf("/bin/busybox".into())),
            file("/tmp", 0o1777, FileContent::Directory),
            file("/etc/passwd", 0o644, FileContent::Bytes(b"root:x:0:0:root:/:/bin/sh\n".to_vec())),
        ];
        for applet in ["sh", "httpd", "sleep", "tr", "echo", "cat"] {
            files.push(file(&format!("/bin/{applet}"), 0o755, FileContent::SymlinkTo("busybox".into())));
        }
        let config = ImageConfig { cmd: vec!["/bin/sleep".into(), "1000".into()], ..ImageConfig::default() };
        let image = store.import_files(IMAGE, &files, config).unwrap();
        *self.digest.borrow_mut() = image.digest.to_string().parse().unwrap();
    }

    /// What is in the root of the only container's writable layer.
    pub(crate) fn written_by_container(&self) -> Vec<String> {
        let names = |dir: &Path| -> Vec<String> {
            let entries = fs::read_dir(dir).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let snapshots = self.config(false).images_dir().join("snapshots");
        let [snapshot] = names(&snapshots).try_into().unwrap();
        names(&snapshots.join(snapshot).join("upper"))
    }

    pub(crate) fn start_agent(&self, stop_on_exit: bool) {
        let tokio =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (shutdown, wait) = oneshot::channel::<()>();
        let run = agent::run(self.config(stop_on_exit), self.runtime.clone(), async { drop(wait.await) });
        let ended = tokio.spawn(run);
        *self.agent.borrow_mut() = Some(Agent { tokio, shutdown, ended });
    }

    /// As kill -9 would: nothing is said, nothing is finished. Blocking calls that had begun end first, since threads cannot
    /// be killed.
    pub(crate) fn crash_agent(&self) {
        let Agent { tokio, .. } = self.agent.take().expect("an agent");
        tokio.shutdown_timeout(PATIENCE);
        self.server.forget();
    }

    pub(crate) fn stop_agent(&self) {
        let Agent { tokio, shutdown, ended } = self.agent.take().expect("an agent");
        shutdown.send(()).expect("the agent still runs");
        let result = tokio.block_on(async { tokio::time::timeout(PATIENCE, ended).await });
        result.expect("the agent ends in time").unwrap().unwrap();
        tokio.shutdown_timeout(PATIENCE);
        self.server.forget();
    }

    /// Waits for the agent to end by itself, with an error.
    pub(crate) fn agent_error(&self) -> agent::Error {
        let Agent { tokio, ended, shutdown: _kept } = self.agent.take().expect("an agent");
        let result = tokio.block_on(async { tokio::time::timeout(PATIENCE, ended).await });
        let error = result.expect("the agent ends in time").unwrap().unwrap_err();
        tokio.shutdown_timeout(PATIENCE);
        error
    }

    pub(crate) fn damage_ledger(&self) {
        fs::write(self.dir.path().join("data/ledger.redb"), [0xa5; 20_000]).unwrap();
    }

    pub(crate) fn remove_ledger(&self) {
        fs::remove_file(self.dir.path().join("data/ledger.redb")).unwrap();
    }

    pub(crate) fn damaged_ledgers(&self) -> usize {
        let entries = fs::read_dir(self.dir.path().join("data")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("ledger.damaged-")).count()
    }

    /// Of every container there is, in order.
    pub(crate) fn container_replicas(&self) -> Vec<ReplicaId> {
        let all = self.runtime.list().unwrap();
        let ids = all.iter().map(|container| container.id.as_str().parse::<agent::core::ContainerId>());
        let mut replicas: Vec<ReplicaId> = ids.map(|id| id.unwrap().replica).collect();
        replicas.sort();
        replicas
    }

    /// A web server that shows its host's name and its environment, begins with a word, and is ready when it answers.
    pub(crate) fn web(&self, replica: ReplicaId, desired: Desired) -> Assignment {
        let script = "echo web begins; cd /tmp; echo $WHARF_NAMESPACE/$WHARF_SERVICE/$WHARF_SLOT > env; \
                      mkdir etc; cat /etc/hostname > etc/hostname; trap 'exit 5' TERM; httpd -f -p 8080 -h /tmp & wait";
        let mut container = self.container();
        container.command = Some(["/bin/sh", "-c", script].map(str::to_owned).to_vec());
        let action = ProbeAction::Http { port: ProbePort::Named(name("http")), path: "/env".into() };
        let probe =
            Probe { action, interval: Millis(500), timeout: Millis(1_000), successes: 1, failures: 3 };
        container.health = Health { readiness: Some(probe), ..Health::default() };
        let publish = Some(self.port);
        let ports = vec![Port { name: name("http"), port: 8080, protocol: Protocol::Tcp, publish }];
        self.assignment("web", replica, desired, container, ports)
    }

    /// It heeds no signal, and stops with the lease.
    pub(crate) fn leased(&self, replica: ReplicaId) -> Assignment {
        let mut container = self.container();
        let script = "trap '' TERM; while :; do sleep 1; done";
        container.command = Some(["/bin/sh", "-c", script].map(str::to_owned).to_vec());
        let mut assignment = self.assignment("leased", replica, Desired::Running, container, vec![]);
        Arc::make_mut(&mut assignment.template).on_partition = model::OnPartition::Stop;
        assignment
    }

    pub(crate) fn sleeper(&self, replica: ReplicaId, desired: Desired) -> Assignment {
        self.assignment("sleeper", replica, desired, self.container(), vec![])
    }

    /// Healthy until somebody makes a file in it.
    pub(crate) fn may_fall_sick(&self, replica: ReplicaId) -> Assignment {
        let mut container = self.container();
        let probe = |script: &str| Probe {
            action: ProbeAction::Exec { command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec() },
            interval: Millis(100),
            timeout: Millis(2_000),
            successes: 1,
            failures: 1,
        };
        let (startup, liveness) = (Some(probe("true")), Some(probe("test ! -e /tmp/sick")));
        container.health = Health { startup, liveness, ..Health::default() };
        self.assignment("moods", replica, Desired::Running, container, vec![])
    }

    /// Takes more memory than it may have, once.
    pub(crate) fn greedy(&self, replica: ReplicaId) -> Assignment {
        let mut container = self.container();
        container.command = Some(["/bin/busybox", "tail", "/dev/zero"].map(str::to_owned).to_vec());
        let mut assignment = self.assignment("greedy", replica, Desired::Running, container, vec![]);
        Arc::make_mut(&mut assignment.template).restart.when = RestartWhen::Never;
        assignment
    }

    pub(crate) fn mounting(&self, replica: ReplicaId, path: &Path) -> Assignment {
        let mut container = self.container();
        let source = path.to_str().unwrap().to_owned();
        container.mounts =
            vec![model::Mount::HostPath { source, target: "/mnt".to_owned(), read_only: true }];
        self.assignment("reaching", replica, Desired::Running, container, vec![])
    }

    /// By its name, from above, from inside, through a link, and the socket itself.
    pub(crate) fn ways_to_own_folders(&self) -> Vec<std::path::PathBuf> {
        let at = |name: &str| self.dir.path().join(name);
        std::os::unix::fs::symlink(at("data/images"), at("a-link")).unwrap();
        vec![
            at("data"),
            self.dir.path().to_owned(),
            at("data/logs"),
            at("a-link"),
            at("run/netns"),
            at("server.sock"),
        ]
    }

    pub(crate) fn folder_of_a_user(&self) -> std::path::PathBuf {
        let folder = self.dir.path().join("of-a-user");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn container(&self) -> ContainerSpec {
        ContainerSpec {
            name: name("main"),
            image: ImageRef { reference: IMAGE.into(), digest: Some(self.digest.borrow().clone()) },
            command: None,
            args: None,
            working_dir: None,
            user: None,
            env: [("PATH".to_owned(), "/bin".to_owned())].into(),
            resources: Resources { cpu: None, memory: Bytes(32 << 20), pids: 32 },
            health: Health::default(),
            stop_signal: None,
            mounts: vec![],
            read_only_rootfs: false,
            capabilities: Capabilities::default(),
            init: true,
        }
    }

    fn assignment(
        &self,
        service: &str,
        replica: ReplicaId,
        desired: Desired,
        main: ContainerSpec,
        ports: Vec<Port>,
    ) -> Assignment {
        let backoff = Backoff { base: Millis(200), max: Millis(1_000), reset_after: Millis(60_000) };
        let template = ReplicaTemplate {
            main,
            sidecars: vec![],
            init: vec![],
            ports,
            restart: RestartPolicy { when: RestartWhen::Always, backoff },
            stop_grace: Millis(5_000),
            on_partition: model::OnPartition::Continue,
            restart_nonce: 0,
        };
        Assignment {
            replica,
            service: ServiceKey { namespace: name("shop"), name: name(service) },
            slot: Slot::new(replica.0 as u32).unwrap(),
            revision: RevisionNumber(1),
            desired,
            template: Arc::new(template),
        }
    }

    /// One request after the other, each on a connection of its own.
    pub(crate) fn steady_requests(&self) -> Load {
        let (port, stop, answered) =
            (self.port, Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&answered));
        let thread = std::thread::spawn(move || {
            let mut failed = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                match http_get(port, "/env") {
                    Ok(_) => drop(counted.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => failed.push(error.to_string()),
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            failed
        });
        Load { stop, answered, thread }
    }

    /// What is there of this test's that should not be.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        left.extend(
            self.runtime.list().unwrap().iter().map(|container| format!("container {}", container.id)),
        );
        if Path::new("/sys/class/net").join(format!("{}0", self.network)).exists() {
            left.push("the bridge".to_owned());
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let own = self.dir.path().to_string_lossy().into_owned();
        left.extend(mounts.lines().filter(|line| line.contains(&own)).map(|line| format!("mount {line}")));
        let snapshots = fs::read_dir(self.config(false).images_dir().join("snapshots")).unwrap();
        left.extend(snapshots.map(|entry| format!("snapshot {:?}", entry.unwrap().file_name())));
        let group = format!("wharf-test-{}", std::process::id());
        for controller in ["memory", "pids", "cpu", "unified"] {
            if Path::new("/sys/fs/cgroup").join(controller).join(&group).exists() {
                left.push(format!("cgroup {controller}/{group}"));
            }
        }
        left
    }
}

impl Drop for Stage {
    /// Also after a failure nothing may stay on the host.
    fn drop(&mut self) {
        if let Some(Agent { tokio, .. }) = self.agent.take() {
            tokio.shutdown_timeout(PATIENCE);
        }
        for container in self.runtime.list().unwrap_or_default() {
            drop(self.runtime.kill(&container.id));
            if let Ok(watch) = self.runtime.watch(&container.id) {
                drop(watch.wait(5_000));
            }
            drop(self.runtime.delete(&container.id));
        }
        drop(self.runtime.teardown());
        let config = network::Config::new(&self.network, self.subnet, self.dir.path().join("run/netns"));
        if let Ok(network) = network::Network::open(config) {
            drop(network.teardown());
        }
    }
}

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    thread: JoinHandle<Vec<String>>,
}

impl Load {
    pub(crate) fn answered(&self) -> u32 {
        self.answered.load(Ordering::Relaxed)
    }

    /// However long each takes on a busy machine: that so many more were answered than now.
    pub(crate) fn wait_for_more(&self, count: u32) {
        let (from, until) = (self.answered(), Instant::now() + PATIENCE);
        while self.answered() < from + count {
            assert!(Instant::now() < until, "{} of {count} requests were answered", self.answered() - from);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What failed.
    pub(crate) fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// The runtime's launcher: the one child of this process.
pub(crate) fn launcher() -> rustix::process::Pid {
    let own = std::process::id();
    let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
    let pid = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
    pid.and_then(rustix::process::Pid::from_raw).expect("a launcher")
}

pub(crate) fn running_pid(observed: &Observed) -> u32 {
    match observed.containers[0].state {
        ContainerState::Running { pid, .. } => pid,
        other => panic!("it does not run: {other:?}"),
    }
}

/// The first answer, waited for with a deadline.
pub(crate) fn matches_now<T>(what: &str, mut try_it: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = try_it() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn http_get(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("answered {answer:?}"))),
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}
