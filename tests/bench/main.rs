//! What wharf takes, and what others take on the same host in the same run.
//!
//! ```text
//! cargo build --release --bin wharf && cargo run --release -p tests --bin bench [-- MODE] [--rounds N]
//! ```
//!
//! | mode | |
//! |---|---|
//! | `services`, or none | to run a service, in time and memory; Docker Swarm beside it |
//! | `writes` | to make a write durable, by one and by three servers; etcd beside it |
//! | `agents` | to have a thousand agents at one server (`--agents N`) |
//!
//! Start reading at [`cases`], which measures services and knows neither of the two; `wharf.rs` and `swarm.rs` are what it
//! measures. When a process runs is told by the kernel (`execs.rs`), not by whoever started it. Writes are in [`writes`].
//!
//! Docker Swarm is measured where `docker.io` is installed; `writes` needs `etcd-server` (apt-get install).
//!
//! As root, on an idle host. What cannot go on panics, and everything that was started is stopped all the same.

mod agent;
mod cases;
mod declared;
mod execs;
mod fleet;
mod image;
mod memory;
mod swarm;
mod table;
mod wharf;
mod writes;

use std::{fs, path::Path, process::ExitCode};

use execs::Execs;
use image::Image;
use swarm::Swarm;
use wharf::Wharf;

const USAGE: &str = "usage: bench [services|writes|agents] [--rounds N]; writes: [--members N] [--clients N]; agents: [--agents N]";

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Services,
    Writes,
    Agents,
}

struct Args {
    mode: Mode,
    /// How often: the tables have medians.
    rounds: Option<usize>,
    writes: writes::Cells,
    agents: usize,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let measured = read(&args).and_then(|Args { mode, rounds, writes, agents }| {
        needs("wharf", &tests::cluster::program())?;
        print_host();
        match mode {
            Mode::Services => services(rounds.unwrap_or(3)),
            Mode::Writes => writes::run(rounds.unwrap_or(5), &writes),
            Mode::Agents => fleet::run(agents),
        }
    });
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn services(rounds: usize) -> Result<(), String> {
    needs("busybox-static's busybox", image::BUSYBOX.as_ref())?;
    let image = Image::make();
    let execs = Execs::listen();
    // One after the other: each is stopped before the next is started.
    let mut columns = vec![cases::measure(&mut Wharf::start(&image), &execs, rounds)];
    if swarm::is_installed() {
        columns.push(cases::measure(&mut Swarm::start(&image), &execs, rounds));
    }
    println!("\n{}", table::render(&columns));
    if columns.len() == 1 {
        println!("to see Docker Swarm beside it: apt-get install docker.io (it need not be running)");
    }
    Ok(())
}

fn read(args: &[String]) -> Result<Args, String> {
    let (mode, mut rest) = match args.split_first() {
        Some((mode, rest)) if mode == "services" => (Mode::Services, rest),
        Some((mode, rest)) if mode == "writes" => (Mode::Writes, rest),
        Some((mode, rest)) if mode == "agents" => (Mode::Agents, rest),
        _ => (Mode::Services, args),
    };
    let mut args = Args { mode, rounds: None, writes: writes::Cells::default(), agents: 1_000 };
    while let [flag, number, others @ ..] = rest {
        let number = number.parse().ok().filter(|number| (1..=9_999).contains(number));
        let number = number.ok_or_else(|| format!("{flag} is a number from 1 to 9999\n{USAGE}"))?;
        match flag.as_str() {
            "--rounds" => args.rounds = Some(number),
            "--members" if mode == Mode::Writes => args.writes.members = vec![number],
            "--clients" if mode == Mode::Writes => args.writes.clients = vec![number],
            "--agents" if mode == Mode::Agents => args.agents = number,
            _ => return Err(USAGE.to_owned()),
        }
        rest = others;
    }
    if rest.is_empty() { Ok(args) } else { Err(USAGE.to_owned()) }
}

fn needs(what: &str, path: &Path) -> Result<(), String> {
    match path.exists() {
        true => Ok(()),
        false => Err(format!("{what} is not at {}; build or install it first", path.display())),
    }
}

/// The same program on another machine, or beside other work, gives other numbers.
fn print_host() {
    let first_line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    println!("kernel {}, {cores} cores", first_line("/proc/sys/kernel/osrelease"));
    let load = first_line("/proc/loadavg");
    let last_minute: f64 = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default();
    let busy = if last_minute > 0.5 { " (something else is running: expect worse numbers)" } else { "" };
    println!("load before {load}{busy}");
}
