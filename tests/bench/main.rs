//! What wharf takes to run a service, in time and memory, and Docker Swarm on the same host in the same run.
//!
//! ```text
//! cargo build --release --bin wharf && cargo run --release -p tests --bin bench [-- --rounds N]
//! ```
//!
//! Start reading at [`cases`], which measures and knows neither of the two; `wharf.rs` and `swarm.rs` are what it
//! measures. When a process runs is told by the kernel (`execs.rs`), not by whoever started it.
//!
//! As root, on an idle host. What cannot go on panics, and everything that was started is stopped all the same.

mod cases;
mod execs;
mod image;
mod memory;
mod swarm;
mod table;
mod wharf;

use std::{fs, process::ExitCode};

use execs::Execs;
use image::Image;
use swarm::Swarm;
use wharf::Wharf;

const USAGE: &str = "usage: bench [--rounds N]";

fn main() -> ExitCode {
    let rounds = match rounds(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(rounds) => rounds,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    };
    print_host();
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
    ExitCode::SUCCESS
}

/// How often services are brought up and measured; the table has the medians.
fn rounds(args: &[String]) -> Result<usize, String> {
    let needed = [("wharf", tests::cluster::program()), ("busybox-static's busybox", image::BUSYBOX.into())];
    for (what, path) in needed {
        if !path.exists() {
            return Err(format!("{what} is not at {}; build or install it first", path.display()));
        }
    }
    match args {
        [] => Ok(3),
        [flag, number] if flag == "--rounds" => match number.parse() {
            Ok(rounds @ 1..=99) => Ok(rounds),
            Ok(_) | Err(_) => Err(format!("--rounds is a number from 1 to 99\n{USAGE}")),
        },
        _ => Err(USAGE.to_owned()),
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
