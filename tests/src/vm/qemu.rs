//! The hardware of a machine, as QEMU is told to emulate it.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError, mpsc},
};

use super::{find_program, network::Cable};

#[derive(Clone, Debug)]
pub struct Hardware {
    pub name: String,
    pub memory_mib: u32,
    pub cpus: u32,
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    /// Words of the kernel's command line.
    pub arguments: Vec<String>,
    pub disk: Option<PathBuf>,
    pub cable: Option<Cable>,
    /// A way from this host to it.
    pub forward: Option<Forward>,
    /// A socket on which somebody listens.
    pub channel: PathBuf,
    /// Where the serial console is written to.
    pub console: PathBuf,
}

/// A TCP port of this host's loopback that is one of the machine's, at `eth1`. The machine reaches nobody by it.
#[derive(Clone, Copy, Debug)]
pub struct Forward {
    pub here: SocketAddr,
    pub there: u16,
}

/// QEMU while it runs; dropping it is pulling the plug.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

/// `panic=-1` with QEMU's `-no-reboot` ends a machine whose kernel gave up, which its test then sees at once.
/// So does one whose kernel only stumbled: nothing that it does later can be believed.
const ARGUMENTS: &str = "console=ttyS0 quiet loglevel=5 oops=panic panic=-1 mitigations=off nowatchdog";

/// Without cmpxchg16b: QEMU 7.2 leaves wrong flags behind it now and then, and the guest's kernel crashes.
const PROCESSOR: &str = "Nehalem,+rdrand,-cx16";

/// One thread that gives its processors turns: with a thread for each, a processor can go on in a translation of code
/// that another has patched since, meets the breakpoint that Linux puts there meanwhile, and the kernel gives up
/// (`Oops: int3`).
const EMULATION: &str = "tcg,thread=single,tb-size=256";

impl Hardware {
    pub fn switch_on(&self) -> Process {
        let log = self.console.with_extension("qemu");
        let output = File::create(&log).expect("a log of QEMU");
        // Should the test be killed, its machines die with it.
        let mut command = Command::new(find_program("setpriv"));
        command.args(["--pdeathsig", "KILL"]).arg(find_program("qemu-system-x86_64"));
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        command.args(["-machine", "q35,usb=off,smbus=off,sata=off", "-cpu", PROCESSOR]);
        command.args(["-accel", EMULATION]);
        command.args([
            "-name",
            &self.name,
            "-m",
            &self.memory_mib.to_string(),
            "-smp",
            &self.cpus.to_string(),
        ]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initramfs);
        command.arg("-append").arg(format!("{ARGUMENTS} {}", self.arguments.join(" ")));
        command.arg("-serial").arg(format!("file:{}", self.console.display()));
        command.arg("-chardev").arg(format!("socket,id=tests,path={}", self.channel.display()));
        command.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=tests,name=tests"]);
        if let Some(disk) = &self.disk {
            // What the machine flushes stays in this host's memory: killing QEMU is the power cut, not killing the host.
            command.arg("-drive").arg(format!("if=virtio,format=raw,cache=unsafe,file={}", disk.display()));
        }
        if let Some(cable) = &self.cable {
            let (socket, hub) = (cable.socket(), cable.hub());
            command.arg("-netdev").arg(format!(
                "dgram,id=net,local.type=unix,local.path={},remote.type=unix,remote.path={}",
                socket.display(),
                hub.display()
            ));
            let address = cable.ethernet_address();
            command.arg("-device").arg(format!("virtio-net-pci,netdev=net,romfile=,mac={address}"));
        }
        if let Some(Forward { here, there }) = self.forward {
            // A machine has the address that init.sh gives it.
            command.arg("-netdev");
            command.arg(format!("user,id=host,restrict=on,ipv6=off,hostfwd=tcp:{here}-:{there}"));
            command.args(["-device", "virtio-net-pci,netdev=host,romfile=,mac=52:54:00:78:00:01"]);
        }
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a second handle")).stderr(output);
        Process { child: spawn(command), log }
    }
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a program from a thread that lives as long as the tests: the death signal of prctl(2) comes when the thread
/// that started the program ends, and machines outlive the threads that boot several of them at once.
fn spawn(command: Command) -> Child {
    static STARTER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
        let (orders, received) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in received {
                // Who asked may have panicked meanwhile; its machine then dies with the tests.
                let _unheard = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, answered) = mpsc::channel();
    let orders = STARTER.lock().unwrap_or_else(PoisonError::into_inner).clone();
    orders.send((command, answer)).expect("the starting thread lives");
    answered.recv().expect("the starting thread answers").expect("QEMU can be started")
}

impl Process {
    /// Why it does not run any more, if it does not.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().expect("QEMU can be waited for")?;
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        Some(format!("QEMU ended with {status}: {log}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Harmless where it has ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// An empty ext4 file system; only what is written to it takes space.
pub fn make_disk(path: &Path, size_mib: u32) -> PathBuf {
    let file = File::create(path).expect("a disk of the machine's");
    file.set_len(u64::from(size_mib) << 20).expect("a disk of that size");
    let made = Command::new(find_program("mkfs.ext4")).arg("-q").arg(path).status();
    assert!(made.expect("mkfs.ext4 can be run").success(), "no file system was made on {}", path.display());
    path.to_owned()
}
