//! The network between virtual machines: one Ethernet segment, whose cables can be pulled.
//!
//! Every machine sends its frames to one Unix datagram socket, and gets those of the others at one of its own: QEMU's
//! `dgram` back end. Nothing of it can be seen on the host, and it needs no rights. A frame for a machine that does not
//! keep up is dropped, as a switch does.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tempfile::TempDir;

/// Clones are the same network.
#[derive(Clone, Debug)]
pub struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: TempDir,
    ports: Arc<Mutex<Vec<Port>>>,
    ended: Arc<AtomicBool>,
    hub: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Port {
    socket: PathBuf,
    connected: bool,
}

/// What every Ethernet address here begins with; the number of the cable, from 1, follows. Locally administered.
const ETHERNET: [u8; 5] = [0x52, 0x54, 0x00, 0x77, 0x00];

/// One machine's place in a network.
#[derive(Clone, Debug)]
pub struct Cable {
    network: Network,
    number: usize,
}

/// How long the hub waits for a machine that does not take its frames.
const PATIENCE: Duration = Duration::from_millis(20);

impl Network {
    pub fn new() -> io::Result<Network> {
        let folder = tempfile::Builder::new().prefix("wharf-net-").tempdir()?;
        let socket = UnixDatagram::bind(folder.path().join("hub"))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let ports = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let (hub_ports, hub_ended) = (ports.clone(), ended.clone());
        let hub = std::thread::spawn(move || {
            while !hub_ended.load(Ordering::Relaxed) {
                pass_on(&socket, &hub_ports);
            }
        });
        Ok(Network { inner: Arc::new(Inner { folder, ports, ended, hub: Some(hub) }) })
    }

    /// A cable for one more machine.
    pub fn cable(&self) -> Cable {
        let mut ports = lock(&self.inner.ports);
        let number = ports.len();
        ports.push(Port { socket: self.inner.folder.path().join(number.to_string()), connected: true });
        Cable { network: self.clone(), number }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(hub) = self.hub.take() {
            // It panics nowhere; and if it did, its test has failed already.
            let _ended = hub.join();
        }
    }
}

impl Cable {
    /// Neither sends nor receives from now on, as a partition or a broken switch has it.
    pub fn pull(&self) {
        self.set(false);
    }

    pub fn plug_in(&self) {
        self.set(true);
    }

    fn set(&self, connected: bool) {
        lock(&self.network.inner.ports)[self.number].connected = connected;
    }

    /// Where the machine's frames arrive.
    pub fn socket(&self) -> PathBuf {
        lock(&self.network.inner.ports)[self.number].socket.clone()
    }

    /// Where the machine sends its frames.
    pub fn hub(&self) -> PathBuf {
        self.network.inner.folder.path().join("hub")
    }

    /// A different one for every cable.
    pub fn ethernet_address(&self) -> String {
        let bytes = ETHERNET.iter().copied().chain([self.number as u8 + 1]);
        bytes.map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
    }
}

fn lock(ports: &Mutex<Vec<Port>>) -> MutexGuard<'_, Vec<Port>> {
    ports.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Receives one frame, and gives it to whom it is for.
fn pass_on(socket: &UnixDatagram, ports: &Mutex<Vec<Port>>) {
    let mut frame = [0; 70_000];
    let Ok((size, from)) = socket.recv_from(&mut frame) else { return };
    let receivers: Vec<PathBuf> = receivers(&lock(ports), from.as_pathname(), &frame[..size]);
    for path in receivers {
        // A machine that is off or too slow misses it.
        let _missed = socket.send_to(&frame[..size], path);
    }
}

/// One machine, or all others: what is for one must not wait for another that boots, and takes no frames yet.
fn receivers(ports: &[Port], from: Option<&Path>, frame: &[u8]) -> Vec<PathBuf> {
    let sends = ports.iter().any(|port| port.connected && Some(port.socket.as_path()) == from);
    let addressed =
        frame.strip_prefix(&ETHERNET).and_then(|rest| rest.first()).map(|number| usize::from(*number));
    let is_for = |number: usize| addressed.is_none_or(|addressed| addressed == number + 1);
    let others = ports.iter().enumerate().filter(|(number, port)| {
        sends && port.connected && is_for(*number) && Some(port.socket.as_path()) != from
    });
    others.map(|(_, port)| port.socket.clone()).collect()
}
