//! A steady load of requests, each on a connection of its own, and what became of every one.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::http;

#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Tally>>,
    started: Instant,
}

/// How the requests ended.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub answered: usize,
    /// The answers by the version that they name.
    pub versions: BTreeMap<String, usize>,
    pub failed: Vec<String>,
    pub lasted: Duration,
}

const WORKERS: u32 = 4;

impl Load {
    /// About `per_second` requests to the port, until [`Load::stop`].
    pub fn start(port: u16, per_second: u32) -> Load {
        Load::start_at(Ipv4Addr::LOCALHOST.into(), port, per_second)
    }

    /// The same at another host.
    pub fn start_at(host: IpAddr, port: u16, per_second: u32) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let pause = Duration::from_secs(1) * WORKERS / per_second;
        let worker = |_| {
            let stop = stop.clone();
            std::thread::spawn(move || run(host, port, pause, &stop))
        };
        Load { workers: (0..WORKERS).map(worker).collect(), stop, started: Instant::now() }
    }

    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally { lasted: self.started.elapsed(), ..Tally::default() };
        for worker in self.workers {
            let tally = worker.join().expect("a worker of the load");
            all.answered += tally.answered;
            all.failed.extend(tally.failed);
            for (version, count) in tally.versions {
                *all.versions.entry(version).or_default() += count;
            }
        }
        all
    }
}

/// As in the logs of the daemons, so that a failure can be held against what they did then.
fn clock() -> String {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, micros) = (since_epoch.as_secs() % 86_400, since_epoch.subsec_micros());
    format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

fn run(host: IpAddr, port: u16, pause: Duration, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        match http::get_at(host, port, "/") {
            Ok(body) => {
                tally.answered += 1;
                let version = body.split("version ").nth(1).and_then(|rest| rest.split(',').next());
                *tally.versions.entry(version.unwrap_or("none").to_owned()).or_default() += 1;
            }
            Err(error) => tally.failed.push(format!("{}: {error}", clock())),
        }
        next += pause;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    tally
}
