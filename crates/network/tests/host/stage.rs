//! A host to play on, a neighbour outside it, and programs in sandboxes that say who they are.
//!
//! ```text
//!   outside 192.0.2.9 ───────── 192.0.2.1 host 10.77.0.1 ───────── sandboxes 10.77.0.0/16
//! ```

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use network::{Config, Network, Protocol, Published, Sandbox};
use rustix::{
    mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Where programs in sandboxes listen.
pub(crate) const INNER: u16 = 8080;
/// Where they are published.
pub(crate) const OUTER: u16 = 80;
/// Long enough that only a hang takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The host of one test.
pub(crate) struct Stage {
    pub(crate) config: Config,
    pub(crate) outside: Outside,
    _files: tempfile::TempDir,
}

/// Runs a test as if it were alone on a host.
pub(crate) fn on_stage<T: Send>(play: impl FnOnce(&Stage) -> T + Send) -> T {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    thread::scope(|scope| {
        let host = scope.spawn(|| {
            leave_for(UnshareFlags::NEWNET | UnshareFlags::NEWNS);
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            let files = tempfile::tempdir().unwrap();
            let subnet = "10.77.0.0/16".parse().unwrap();
            let config = Config::new(format!("t{number}"), subnet, files.path().join("netns"));
            ip("link set lo up");
            let outside = Outside::new();
            play(&Stage { config, outside, _files: files })
        });
        host.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Drop for Stage {
    /// A directory with mounts in it could not be removed.
    fn drop(&mut self) {
        for point in mounts(&self.config.state_dir) {
            let _ = unmount(&point, UnmountFlags::DETACH);
        }
    }
}

impl Stage {
    pub(crate) fn open(&self) -> Network {
        Network::open(self.config.clone()).unwrap()
    }

    /// Sandboxes `a`, `b`, ... each with a program that answers with that name.
    pub(crate) fn troupe(&self, network: &Network, count: u8) -> Vec<Sandbox> {
        (0..count)
            .map(|index| {
                let name = char::from(b'a' + index).to_string();
                let sandbox = network.create_sandbox(&name, Ipv4Addr::new(10, 77, 0, 10 + index)).unwrap();
                enter(&sandbox.netns, || serve(&name));
                sandbox
            })
            .collect()
    }
}

/// `OUTER/tcp` or `OUTER/udp`, led to these.
pub(crate) fn published(protocol: Protocol, sandboxes: &[Sandbox]) -> Published {
    let backends = sandboxes.iter().map(|sandbox| (sandbox.address, INNER)).collect();
    Published { port: OUTER, protocol, backends }
}

/// The neighbour: a thread that lives in a network namespace of its own and does what it is asked.
pub(crate) struct Outside {
    tasks: mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

impl Outside {
    fn new() -> Outside {
        let (tasks, inbox) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (told, thread_id) = mpsc::channel();
        thread::spawn(move || {
            leave_for(UnshareFlags::NEWNET);
            told.send(rustix::thread::gettid()).unwrap();
            for task in inbox {
                task();
            }
        });
        let thread_id = thread_id.recv().unwrap();
        ip(&format!("link add out0 type veth peer name eth0 netns {}", thread_id.as_raw_nonzero()));
        ip(&format!("address add {HOST}/24 dev out0"));
        ip("link set out0 up");
        let outside = Outside { tasks };
        outside.run(|| {
            ip("link set lo up");
            ip(&format!("address add {OUTSIDE}/24 dev eth0"));
            ip("link set eth0 up");
            // The kernel drops first packets until it has noticed the carrier; a look makes it notice.
            ip("link show eth0");
        });
        ip("link show out0");
        outside
    }

    /// Does something out there and waits for it.
    pub(crate) fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let task = move || drop(done.send(task()));
        self.tasks.send(Box::new(task)).unwrap();
        result.recv().expect("the neighbour panicked")
    }
}

fn leave_for(what: UnshareFlags) {
    // SAFETY: only namespaces of this one thread change; descriptors stay shared.
    unsafe { unshare_unsafe(what) }.expect("these tests need root");
}

/// Does something inside a sandbox and waits for it.
pub(crate) fn enter<T: Send>(netns: &Path, task: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let namespace = File::open(netns).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            task()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `ip` in the calling thread's network namespace.
pub(crate) fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a program in a sandbox, or outside, said: its name, and whom it saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) name: String,
    pub(crate) seen: IpAddr,
}

impl Answer {
    fn parse(line: &str) -> Answer {
        let (name, seen) = line.trim().split_once(' ').unwrap_or_else(|| panic!("strange answer {line:?}"));
        Answer { name: name.to_string(), seen: seen.parse().unwrap() }
    }
}

/// Listens on TCP and UDP in this namespace: tells its name and the client's address, then echoes lines.
pub(crate) fn serve(name: &str) {
    serve_on(name, INNER);
}

pub(crate) fn serve_on(name: &str, port: u16) {
    let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
    let me = name.to_string();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let me = me.clone();
            thread::Builder::new().stack_size(64 << 10).spawn(move || converse(connection, &me)).unwrap();
        }
    });
    let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap();
    let me = name.to_string();
    thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{me} {}", client.ip()).as_bytes(), client);
        }
    });
}

/// A client that is gone ends the conversation; only clients decide whether that was wrong.
fn converse(mut connection: TcpStream, me: &str) -> Option<()> {
    let client = connection.peer_addr().ok()?;
    writeln!(connection, "{me} {}", client.ip()).ok()?;
    let reader = BufReader::new(connection.try_clone().ok()?);
    for line in reader.lines() {
        writeln!(connection, "{}", line.ok()?).ok()?;
    }
    Some(())
}

/// A new TCP connection, and who answered it.
pub(crate) fn connect(to: (Ipv4Addr, u16)) -> std::io::Result<(TcpStream, Answer)> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(to), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let line = read_line(&mut stream)?;
    Ok((stream, Answer::parse(&line)))
}

pub(crate) fn ask(to: (Ipv4Addr, u16)) -> std::io::Result<Answer> {
    connect(to).map(|(_, answer)| answer)
}

pub(crate) fn read_line(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut line = String::new();
    let mut byte = [0];
    while !line.ends_with('\n') {
        stream.read_exact(&mut byte)?;
        line.push(char::from(byte[0]));
    }
    Ok(line)
}

/// A UDP client that keeps its port.
pub(crate) struct UdpClient(UdpSocket);

impl UdpClient {
    pub(crate) fn to(server: (Ipv4Addr, u16)) -> UdpClient {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        UdpClient(socket)
    }

    /// Gives up after this time.
    pub(crate) fn ask_within(&self, time: Duration) -> std::io::Result<Answer> {
        self.0.set_read_timeout(Some(time))?;
        self.ask()
    }

    pub(crate) fn ask(&self) -> std::io::Result<Answer> {
        self.0.send(b"who?")?;
        let mut buffer = [0; 100];
        let length = self.0.recv(&mut buffer)?;
        Ok(Answer::parse(&String::from_utf8_lossy(&buffer[..length])))
    }
}

/// Waits until something is so; tells what was seen last if it never is.
pub(crate) fn until<T: std::fmt::Debug>(what: &str, look: impl Fn() -> T, is: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if is(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "{what} never came; last seen: {seen:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The names of all links of this namespace but `lo` and the cable to the outside.
pub(crate) fn links() -> Vec<String> {
    let listing = ip("-brief link");
    let names = listing.lines().filter_map(|line| line.split_whitespace().next());
    let names = names.map(|name| name.split('@').next().unwrap_or(name).to_string());
    names.filter(|name| name != "lo" && name != "out0").collect()
}

/// What is mounted under a directory.
pub(crate) fn mounts(under: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(under)).collect()
}
