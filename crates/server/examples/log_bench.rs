//! How many synced appends a second the log does, with 1 to 64 writers that each wait for their own, plain and encrypted.
//!
//! `cargo run --release -p server --example log_bench [DIR]`; DIR should be on the disk that matters, and is left
//! empty of what this made.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{Sender, channel},
    time::{Duration, Instant},
};

use consensus::{Entry, Payload, Persist, Recovered};
use model::ClusterId;
use server::log::{HostDisk, Log, LogEvent, LogWriter, SegmentSizes, Vault};
use trust::seal::KeyRing;

const VALUE_BYTES: usize = 256;
const TIME: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    println!("{VALUE_BYTES}-byte values in {}, {} s each", base.display(), TIME.as_secs());
    println!("{:>7}  {:>9}  {:>10}  {:>10}  {:>10}", "writers", "", "appends/s", "median us", "p99 us");
    let vault = Vault::new(&KeyRing::make(ClusterId(1))?);
    for (writers, vault) in [1, 8, 64].into_iter().flat_map(|n| [(n, None), (n, Some(vault.clone()))]) {
        let dir = base.join(format!("log_bench-{}-{writers}", std::process::id()));
        let words = if vault.is_some() { "encrypted" } else { "plain" };
        let (rate, mut latencies) = measure(&dir, writers, vault)?;
        std::fs::remove_dir_all(&dir)?;
        latencies.sort_unstable();
        let at = |part: usize| latencies[latencies.len() * part / 100].as_micros();
        println!("{writers:>7}  {words:>9}  {rate:>10.0}  {:>10}  {:>10}", at(50), at(99));
    }
    Ok(())
}

/// The writers are simulated: each has one append under way, and makes the next when that one is durable. So what is
/// measured is the log, not the wakeups of so many threads.
fn measure(
    dir: &Path,
    writers: u64,
    vault: Option<Vault>,
) -> Result<(f64, Vec<Duration>), Box<dyn std::error::Error>> {
    let disk = HostDisk::open(dir)?;
    let opened = Log::open_on(disk, SegmentSizes::default(), vault, || Recovered::bootstrap(1))?;
    let (done, durable) = channel();
    let log = LogWriter::start(opened.log, notify(done))?;
    let begin = Instant::now();
    let mut appended = Vec::new();
    let append = |appended: &mut Vec<Instant>| {
        let number = appended.len() as u64 + 1;
        appended.push(Instant::now());
        log.append(persist(number));
    };
    (0..writers).for_each(|_| append(&mut appended));
    let mut latencies = Vec::new();
    while begin.elapsed() < TIME {
        let number = durable.recv()? as usize;
        while latencies.len() < number {
            latencies.push(appended[latencies.len()].elapsed());
            append(&mut appended);
        }
    }
    Ok((latencies.len() as f64 / begin.elapsed().as_secs_f64(), latencies))
}

fn notify(done: Sender<u64>) -> Box<dyn FnMut(LogEvent) + Send> {
    Box::new(move |event| match event {
        LogEvent::Persisted { number } => {
            // The measurement may be over.
            let _ = done.send(number);
        }
        LogEvent::Full(error) | LogEvent::Failed(error) => eprintln!("the log cannot be written: {error}"),
        LogEvent::Writable => {}
    })
}

/// As a single voter writes it: the entry alone, because a commit index waits for the next write.
fn persist(number: u64) -> Persist {
    let payload = Payload::Command(vec![number as u8; VALUE_BYTES].into());
    Persist {
        number,
        snapshot: None,
        entries: vec![Entry { index: number + 1, term: 1, payload }],
        hard_state: None,
    }
}
