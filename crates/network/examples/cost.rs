//! What the network's operations cost here, as medians: `cargo run --release -p network --example cost`.
//!
//! Runs in network and mount namespaces of its own; the host stays as it is.

use std::{
    error::Error,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use network::{Addresses, Config, Network, Protocol, Published, doctor};

const ROUNDS: usize = 200;
const WARM: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    // SAFETY: there is one thread, and no descriptor changes hands.
    unsafe {
        rustix::thread::unshare_unsafe(
            rustix::thread::UnshareFlags::NEWNET | rustix::thread::UnshareFlags::NEWNS,
        )?;
    }
    let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)?;
    let state = tempfile::tempdir()?;
    let mut config = Config::new("cost", "10.99.0.0/16".parse()?, state.path().join("netns"));
    sandboxes(&config, "cold")?;
    config.warm = WARM;
    sandboxes(&config, "warm")?;
    config.warm = 0;
    publishing(&config)?;
    let mut checked = repeat(5, |_| {
        doctor();
        Ok(())
    })?;
    report("doctor", &mut checked);
    Ok(())
}

fn sandboxes(config: &Config, label: &str) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let network = Network::open(config.clone())?;
    report(&format!("open ({label})"), &mut [started.elapsed()]);
    let mut addresses = Addresses::new(config.subnet);
    let mut create = Vec::new();
    for round in 0..ROUNDS {
        // Wait for the level, so that only entering is measured.
        while network.warm() < config.warm {
            std::thread::yield_now();
        }
        let id = format!("s{round}");
        let address = addresses.allocate(&id)?;
        let started = Instant::now();
        network.create_sandbox(&id, address)?;
        create.push(started.elapsed());
    }
    report(&format!("create_sandbox ({label})"), &mut create);
    let mut remove = repeat(ROUNDS, |round| Ok(network.remove_sandbox(&format!("s{round}"))?))?;
    report(&format!("remove_sandbox ({label})"), &mut remove);
    let started = Instant::now();
    network.teardown()?;
    report(&format!("teardown ({label})"), &mut [started.elapsed()]);
    Ok(())
}

fn publishing(config: &Config) -> Result<(), Box<dyn Error>> {
    let network = Network::open(config.clone())?;
    for services in [1u16, 10, 100, 1000] {
        let set = |backends: u8| -> Vec<Published> {
            let published = |port| Published {
                port,
                protocol: Protocol::Tcp,
                backends: (2..2 + if port == 1 { backends } else { 3 })
                    .map(|last| (Ipv4Addr::new(10, 99, 0, last), 80))
                    .collect(),
            };
            (1..=services).map(published).collect()
        };
        let started = Instant::now();
        network.publish(&set(3))?;
        report(&format!("publish, first of {services} services"), &mut [started.elapsed()]);
        let (three, four) = (set(3), set(4));
        let mut change =
            repeat(ROUNDS, |round| Ok(network.publish(if round % 2 == 0 { &four } else { &three })?))?;
        report(&format!("publish, one of {services} changes"), &mut change);
        let mut same = repeat(ROUNDS, |_| Ok(network.publish(&three)?))?;
        report(&format!("publish, none of {services} changes"), &mut same);
    }
    Ok(network.teardown()?)
}

fn repeat(
    rounds: usize,
    mut work: impl FnMut(usize) -> Result<(), Box<dyn Error>>,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    (0..rounds)
        .map(|round| {
            let started = Instant::now();
            work(round)?;
            Ok(started.elapsed())
        })
        .collect()
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let micros = |time: Duration| time.as_micros();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what:<40} median {:>8} us   worst {:>8} us", micros(median), micros(worst));
}
