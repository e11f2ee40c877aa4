//! Virtual machines: a whole host for a test, with its own kernel, that can lose its power.
//!
//! A [`Machine`] is QEMU without hardware support, so it runs anywhere and everything in it takes about ten times as
//! long: give deadlines accordingly. It boots a cloud kernel of Debian's with cgroup v2 alone, as today's distributions do,
//! from a file system in memory with busybox, the program under test and what the test adds; `/var` is a disk that
//! survives [`Machine::kill`] and [`Machine::boot`]. A [`Network`] joins machines, and its cables can be pulled; a [`Fleet`] is
//! machines that are one cluster.
//!
//! Start reading at [`Builder`]. When a machine is dropped, or the test dies, it is gone.

mod base64;
mod channel;
mod cpio;
mod fleet;
mod kernel;
mod network;
mod qemu;

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tempfile::TempDir;

pub use channel::Ran;
pub use fleet::{Fleet, address};
pub use kernel::Debian;
pub use network::{Cable, Network};

use self::{
    channel::Channel,
    cpio::Initramfs,
    kernel::Kernel,
    qemu::{Forward, Hardware},
};
use crate::cluster::program;

/// Booting takes about three seconds on an idle machine.
const BOOT: Duration = Duration::from_secs(60);
/// What a script may take unless the test says otherwise.
const SCRIPT: Duration = Duration::from_secs(60);

/// What a machine is to be.
#[derive(Debug)]
pub struct Builder {
    name: String,
    kernel: Debian,
    memory_mib: u32,
    cpus: u32,
    disk_mib: Option<u32>,
    files: Initramfs,
    arguments: Vec<String>,
    cable: Option<(Cable, String)>,
    forward: Option<Forward>,
}

/// A machine that runs, or has lost its power.
#[derive(Debug)]
pub struct Machine {
    name: String,
    hardware: Hardware,
    /// None after it was killed. A test may use a machine from several threads; scripts take turns.
    running: Mutex<Option<Running>>,
    cable: Option<Cable>,
    _folder: TempDir,
}

#[derive(Debug)]
struct Running {
    channel: Channel,
    /// Held so that it is killed with this.
    _process: qemu::Process,
}

impl Builder {
    /// Debian 13's unless said otherwise.
    pub fn kernel(mut self, kernel: Debian) -> Builder {
        self.kernel = kernel;
        self
    }

    pub fn memory_mib(mut self, memory: u32) -> Builder {
        self.memory_mib = memory;
        self
    }

    pub fn cpus(mut self, cpus: u32) -> Builder {
        self.cpus = cpus;
        self
    }

    /// How large `/var` is. Without one it is in memory.
    pub fn disk_mib(mut self, size: u32) -> Builder {
        self.disk_mib = Some(size);
        self
    }

    pub fn file(mut self, path: &str, contents: impl Into<Vec<u8>>) -> Builder {
        self.files.file(path, 0o755, contents);
        self
    }

    /// A program of this host, by its path, with the libraries it is linked with; it comes to `/usr/bin`.
    pub fn program(mut self, from: &Path) -> Builder {
        let name = from.file_name().expect("a program has a name").to_string_lossy().into_owned();
        self.files.program(&format!("/usr/bin/{name}"), from);
        self
    }

    /// A word of the kernel's command line.
    pub fn kernel_argument(mut self, argument: &str) -> Builder {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Connects `eth0`; the address is written with its prefix: `10.77.0.1/24`.
    pub fn connect(mut self, network: &Network, address: &str) -> Builder {
        self.cable = Some((network.cable(), address.to_owned()));
        self
    }

    /// Lets this host reach a TCP port of the machine's, whatever happens to its network: see [`Machine::forwarded`].
    pub fn forward(mut self, there: u16) -> Builder {
        // Free when it was asked for, and others that ask are given other ones for a long while.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        self.forward = Some(Forward { here: free.expect("a port"), there });
        self
    }

    /// Boots it, and waits until it can be used.
    pub fn start(mut self) -> Machine {
        let kernel = Kernel::find(self.kernel);
        kernel.add_modules(&mut self.files);
        let folder =
            tempfile::Builder::new().prefix("wharf-vm-").tempdir().expect("a folder of the machine's");
        let initramfs = folder.path().join("initramfs");
        self.files.write(&initramfs).expect("the file system of the machine is written");
        let disk = self.disk_mib.map(|size| qemu::make_disk(&folder.path().join("disk"), size));
        self.arguments.push(format!("vm.name={}", self.name));
        let cable = self.cable.map(|(cable, address)| {
            self.arguments.push(format!("vm.address={address}"));
            cable
        });
        let hardware = Hardware {
            name: self.name.clone(),
            memory_mib: self.memory_mib,
            cpus: self.cpus,
            kernel: kernel.image(),
            initramfs,
            arguments: self.arguments,
            disk,
            cable: cable.clone(),
            forward: self.forward,
            channel: folder.path().join("channel"),
            console: folder.path().join("console"),
        };
        let machine =
            Machine { name: self.name, hardware, running: Mutex::new(None), cable, _folder: folder };
        machine.boot();
        machine
    }
}

impl Machine {
    /// A machine with the program under test, as `wharf`, and `nft`.
    pub fn builder(name: &str) -> Builder {
        let mut files = Initramfs::default();
        files.file("/init", 0o755, include_str!("vm/init.sh"));
        files.copy("/bin/busybox", &find_program("busybox"));
        files.link("/bin/sh", "busybox");
        for folder in ["proc", "sys", "dev", "run", "tmp", "mnt", "root", "var", "etc", "sbin", "usr/sbin"] {
            files.folder(folder);
        }
        // The kernel opens it for /init before there is anything else in /dev.
        files.character_device("/dev/console", 5, 1);
        files.file("/etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n");
        files.file("/etc/group", 0o644, "root:x:0:\n");
        files.link("/sbin/modprobe", "/bin/busybox");
        files.program("/usr/bin/wharf", &program());
        files.program("/usr/sbin/nft", &find_program("nft"));
        Builder {
            name: name.to_owned(),
            kernel: Debian::default(),
            memory_mib: 768,
            cpus: 2,
            disk_mib: None,
            files,
            arguments: Vec::new(),
            cable: None,
            forward: None,
        }
    }

    /// Switches it on, also again after [`Machine::kill`].
    pub fn boot(&self) {
        let mut running = self.running();
        assert!(running.is_none(), "{} runs already", self.name);
        let until = Instant::now() + BOOT;
        let listener = channel::listen(&self.hardware.channel).expect("a socket for the machine");
        let mut process = self.hardware.switch_on();
        let channel = Channel::accept(&listener, until, || process.ended());
        let ready = channel.and_then(|mut channel| channel.wait_ready(until).map(|()| channel));
        // One machine, one connection: the next boot makes a new socket.
        std::fs::remove_file(&self.hardware.channel).expect("the socket's name is removed");
        let channel = ready.unwrap_or_else(|why| self.fail("it does not boot", &why));
        *running = Some(Running { channel, _process: process });
    }

    /// Runs a script of busybox's shell to its end, whatever that is. What it leaves running must not keep its output
    /// to itself: redirect it.
    pub fn run(&self, script: &str) -> Ran {
        self.run_within(SCRIPT, script)
    }

    pub fn run_within(&self, limit: Duration, script: &str) -> Ran {
        let mut running = self.running();
        let Some(running) = running.as_mut() else { panic!("{} is switched off", self.name) };
        let ran = running.channel.run(script, Instant::now() + limit);
        ran.unwrap_or_else(|why| self.fail(script, &why))
    }

    /// The same, for what must succeed.
    pub fn ok(&self, script: &str) -> String {
        let ran = self.run(script);
        assert_eq!(ran.code, 0, "{}: {script}\n{}", self.name, ran.output);
        ran.output
    }

    /// Takes its power away: nothing is written, nothing is said.
    pub fn kill(&self) {
        // Dropping it kills it.
        let killed = self.running().take();
        assert!(killed.is_some(), "{} was switched off already", self.name);
    }

    /// Its place in the network.
    pub fn cable(&self) -> &Cable {
        self.cable.as_ref().expect("the machine is in a network")
    }

    /// Where this host reaches the port that was to be reached.
    pub fn forwarded(&self) -> SocketAddr {
        self.hardware.forward.expect("a port of the machine is forwarded").here
    }

    /// What the kernel and the init have said.
    pub fn console(&self) -> String {
        let bytes = std::fs::read(&self.hardware.console).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Of a machine that does not answer nothing more can be asked: the console is what is left.
    fn fail(&self, what: &str, why: &str) -> ! {
        panic!("virtual machine {}: {what}: {why}\nconsole:\n{}", self.name, self.console())
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path of a program of this host.
pub fn find_program(name: &str) -> PathBuf {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(|folder| Path::new(folder).join(name));
    let found = folders.into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed: tests/run installs what tests need"))
}
