//! `wharf agent`: the agent of this host, until it is told to stop.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::Path,
    process::ExitCode,
};

use agent::{Config, ServerAddress};
use model::{Bytes, MilliCpu, Name};

use super::server::{end_with_parent, stop_signal};
use crate::{
    args, demo_image,
    exit::{Code, Failure},
    lock::Lock,
    memory,
};

/// What is left to the system and to wharf itself.
const RESERVED_CPU: MilliCpu = MilliCpu(100);
const RESERVED_MEMORY: Bytes = Bytes(256 << 20);
/// Network namespaces made ahead: as many as start at once in a small deploy.
const WARM_SANDBOXES: usize = 8;

pub fn run(args: args::Agent) -> Result<ExitCode, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new("containers, networks and mounts need root").help("use sudo"));
    }
    if args.supervised {
        end_with_parent()?;
    }
    // First of all, because it forks: afterwards this process gets threads.
    let containers =
        runtime::Config { state_dir: args.run.join("containers"), cgroup_parent: args.prefix.clone() };
    let runtime = runtime::Runtime::fork(containers);
    let runtime = runtime.map_err(|error| Failure::new("the launcher cannot be started").caused_by(error))?;
    crate::output::logging::start();
    memory::take_small_pages();
    // After the launcher was forked, which lives on for a moment when this process is killed.
    let _lock = take_lock(&args.prefix)?;
    import_demo_images(&args)?;
    let stop_now = args.stop_now;
    let config = config(args)?;
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let tokio = tokio.map_err(|error| Failure::new("the agent cannot start").caused_by(error))?;
    let stop = async move {
        if !stop_now {
            stop_signal().await;
        }
    };
    tokio.spawn(memory::forget_start());
    let result = tokio.block_on(async { agent::run(config, runtime, stop).await });
    tokio.shutdown_background();
    result.map_err(|error| Failure::new("the agent ended").caused_by(error))?;
    Ok(Code::Done.into())
}

/// Two agents of one prefix would take each other's bridge and firewall table for their own.
fn take_lock(prefix: &str) -> Result<Lock, Failure> {
    let taken = Lock::take(&Lock::agent(prefix));
    let taken = taken.map_err(|error| Failure::new("the agent's lock cannot be taken").caused_by(error))?;
    taken.ok_or_else(|| {
        let failure =
            Failure::new(format!("an agent with the prefix {prefix:?} runs on this machine already"));
        failure.help("stop that one, or give this one another --prefix and --subnet")
    })
}

/// Before the agent opens the store: then the images are in the first list that it sends.
fn import_demo_images(args: &args::Agent) -> Result<(), Failure> {
    let failed = |error: demo_image::Error| Failure::new("the demo image cannot be made").caused_by(error);
    let store = image::Store::open(&args.data.join("images")).map_err(|error| failed(error.into()))?;
    demo_image::import(&store, &args.data.join("demo-image")).map_err(failed)
}

fn config(args: args::Agent) -> Result<Config, Failure> {
    let name = args.name.unwrap_or_else(host_name);
    let bad_name = |error| Failure::new(format!("--name {name:?} cannot be a node's name")).caused_by(error);
    Ok(Config {
        name: Name::new(&name).map_err(bad_name)?,
        labels: Default::default(),
        server: match Config::trust_dir(&args.data).exists() {
            true => ServerAddress::Joined,
            false => ServerAddress::Unix(args.server),
        },
        network: args.prefix,
        subnet: args.subnet,
        user_namespaces: args.user_namespaces.then_some(Config::FIRST_HOST_ID),
        warm_sandboxes: WARM_SANDBOXES,
        address: args.address.unwrap_or_else(|| address_towards_servers(&args.data)),
        reserved_cpu: RESERVED_CPU,
        reserved_memory: RESERVED_MEMORY,
        stop_on_exit: args.stop_on_exit,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        data_dir: args.data,
        run_dir: args.run,
    })
}

/// The host's name up to its first dot, with what a DNS label cannot hold left out.
pub(super) fn host_name() -> String {
    let full = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let label = full.split('.').next().unwrap_or_default();
    let kept: String =
        label.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(Name::MAX_LEN).collect();
    let kept = kept.trim_matches('-');
    if kept.is_empty() { "node".to_owned() } else { kept.to_owned() }
}

/// The address from which this host reaches a server, so that what reaches one reaches the other. One that only this host
/// has, because the server is here too, says nothing.
fn address_towards_servers(data: &Path) -> Ipv4Addr {
    let servers = std::fs::read_to_string(Config::servers_path(data)).unwrap_or_default();
    let mut towards = servers.lines().filter_map(|server| address_towards(server.trim()));
    towards.find(|address| !address.is_loopback()).unwrap_or_else(host_address)
}

fn address_towards(destination: &str) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(destination).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// The address from which this host would talk to others. Nothing is sent: connecting a UDP socket only looks up the
/// route. The destination is of a range that is never in use (RFC 5737).
pub(super) fn host_address() -> Ipv4Addr {
    address_towards("192.0.2.1:9").unwrap_or(Ipv4Addr::LOCALHOST)
}
