//! Output arrives whole and in order, whatever happens to the log meanwhile.

use std::fs;
use std::process::Command;
use std::time::Instant;

use runtime::logs::{self, From, LogFollower, Stream};
use runtime::{Ending, LogTarget};

use serde_json::json;

use crate::Test;
use crate::fixture::{DEADLINE, Host, await_some, spec};

pub(crate) const TESTS: &[Test] = &[
    ("logs::a_hundred_thousand_lines", a_hundred_thousand_lines),
    ("logs::streams_and_long_lines", streams_and_long_lines),
    ("logs::rotation", rotation),
    ("logs::following_over_rotations", following_over_rotations),
    ("logs::a_full_disk", a_full_disk),
    ("logs::a_full_run_directory", a_full_run_directory),
];

fn a_hundred_thousand_lines(host: &Host) {
    let request = host.request("seq 1 100000");
    host.start(&request);
    let (record, log) = host.finish(&request);
    assert_eq!((record.ending, record.dropped_log_entries, log.len()), (Ending::Code(0), 0, 100_000));
    for (index, line) in log.iter().enumerate() {
        assert_eq!(line, &(index + 1).to_string());
    }
    let tail = logs::read(&request.log.path, Some(3), None).unwrap();
    let texts: Vec<&[u8]> = tail.iter().map(|line| line.text.as_slice()).collect();
    assert_eq!(texts, [&b"99998"[..], b"99999", b"100000"]);
    assert!(logs::read(&request.log.path, None, Some(record.finished_ms.unwrap() + 1)).unwrap().is_empty());
    assert_eq!(logs::read(&request.log.path, None, Some(record.started_ms - 1)).unwrap().len(), 100_000);
}

fn streams_and_long_lines(host: &Host) {
    let script =
        "echo out; echo err >&2; head -c 40000 /dev/zero | tr '\\0' a; echo; echo; printf 'no newline'";
    let mut both = spec(&["/bin/sh"]);
    both["process"]["args"] = json!(["/bin/sh", "-c", script]);
    let request = host.request_for(both);
    host.start(&request);
    host.finish(&request);
    let lines = logs::read(&request.log.path, None, None).unwrap();
    let errors: Vec<_> = lines.iter().filter(|line| line.stream == Stream::Stderr).collect();
    assert_eq!((errors.len(), errors[0].text.as_slice()), (1, &b"err"[..]));
    let out: Vec<_> = lines.iter().filter(|line| line.stream == Stream::Stdout).collect();
    let shape: Vec<(usize, bool)> = out.iter().map(|line| (line.text.len(), line.complete)).collect();
    assert_eq!(shape, [(3, true), (16384, false), (16384, false), (7232, true), (0, true), (10, true)]);
    assert!(lines.iter().all(|line| line.unix_ns / 1_000_000_000 > 1_700_000_000));
}

fn rotation(host: &Host) {
    let mut request = host.request("seq 1 20000");
    request.log = LogTarget { max_bytes: 64 * 1024, max_files: 4, ..request.log };
    host.start(&request);
    assert_eq!(host.wait(&request.id).dropped_log_entries, 0);
    let size = |suffix: &str| {
        let path = format!("{}{suffix}", request.log.path.display());
        fs::metadata(path).map(|metadata| metadata.len()).ok()
    };
    for suffix in ["", ".1", ".2", ".3"] {
        assert!(size(suffix).is_some_and(|size| size <= 64 * 1024), "{suffix:?} has {:?}", size(suffix));
    }
    assert_eq!(size(".4"), None);
    let lines = logs::read(&request.log.path, None, None).unwrap();
    let numbers: Vec<u32> =
        lines.iter().map(|line| String::from_utf8_lossy(&line.text).parse().unwrap()).collect();
    assert!(numbers.len() > 3000 && *numbers.last().unwrap() == 20_000);
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "lines are missing between files");

    let mut request = host.request("seq 1 5000");
    request.log = LogTarget { max_bytes: 64 * 1024, max_files: 1, ..request.log };
    host.start(&request);
    host.wait(&request.id);
    assert!(!request.log.path.with_extension("1").exists());
    assert_eq!(logs::read(&request.log.path, Some(1), None).unwrap()[0].text, b"5000");
}

fn following_over_rotations(host: &Host) {
    let mut request =
        host.request("for i in $(seq 1 200); do seq $((i * 100)) $((i * 100 + 99)); sleep 0.005; done");
    request.log = LogTarget { max_bytes: 64 * 1024, max_files: 20, ..request.log };
    let mut follower = LogFollower::open(&request.log.path, From::Beginning).unwrap();
    host.start(&request);
    let mut next = 100;
    let begun = Instant::now();
    while next < 20_100 {
        assert!(begun.elapsed() < DEADLINE, "only up to {next}");
        use rustix::event::{PollFd, PollFlags, Timespec};
        let timeout = Timespec { tv_sec: 5, tv_nsec: 0 };
        let woken =
            rustix::event::poll(&mut [PollFd::new(&follower, PollFlags::IN)], Some(&timeout)).unwrap();
        assert_eq!(woken, 1, "nothing woke the reader after {next}");
        for line in follower.poll_lines().unwrap() {
            assert_eq!(String::from_utf8(line.text).unwrap(), next.to_string());
            next += 1;
        }
    }
    assert!(request.log.path.with_extension("1").exists(), "it was rotated meanwhile");
}

/// A small disk, unmounted again whatever happens.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn new(path: std::path::PathBuf) -> SmallDisk {
        fs::create_dir(&path).unwrap();
        SmallDisk::over(path)
    }

    /// Over what is in a directory.
    fn over(path: std::path::PathBuf) -> SmallDisk {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(status.success());
        SmallDisk(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _status = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Nothing is started there, and how a container ends that was started before is known all the same.
fn a_full_run_directory(host: &Host) {
    let disk = SmallDisk::over(host.config.state_dir.clone());
    let running = host.request("trap 'exit 5' USR1; echo ready; while :; do sleep 0.01; done");
    host.start(&running);
    await_some("ready", || fs::read(&running.log.path).ok().filter(|log| !log.is_empty()));
    let ballast = fs::write(disk.0.join("Ballast"), vec![0; 1 << 20]).unwrap_err();
    assert_eq!(ballast.kind(), std::io::ErrorKind::StorageFull);
    let refused = host.request("true");
    let error = host.runtime.start(&refused).unwrap_err().to_string();
    assert!(error.starts_with("run directory ") && error.ends_with("No space left on device"), "{error}");
    assert!(host.runtime.find(&refused.id).unwrap().is_none(), "nothing is left of it");
    host.runtime.signal(&running.id, 10).unwrap();
    assert_eq!(host.finish(&running).0.ending, Ending::Code(5));
}

fn a_full_disk(host: &Host) {
    let disk = SmallDisk::new(host.dir.path().join("disk"));
    let script = "trap 'echo after; echo last; exit 0' USR1; seq 1 20000; echo > /tmp/full; while :; do sleep 0.01; done";
    let mut request = host.request(script);
    request.log = LogTarget { path: disk.0.join("log"), max_bytes: 1 << 20, max_files: 2 };
    host.start(&request);
    let upper = host.dir.path().join("scratch").join(request.id.as_str()).join("upper");
    // The application is not held up by the disk.
    await_some("all lines to be written", || upper.join("tmp/full").exists().then_some(()));
    let ballast = fs::metadata(&request.log.path).unwrap().len();
    assert!(ballast > 100_000, "the disk held {ballast}");
    let status = Command::new("mount").args(["-o", "remount,size=1m"]).arg(&disk.0).status().unwrap();
    assert!(status.success());
    host.runtime.signal(&request.id, 10).unwrap();
    let (record, log) = host.finish(&request);
    assert_eq!(record.ending, Ending::Code(0));
    assert!(record.dropped_log_entries > 1000, "{record:?}");
    assert_eq!(&log[log.len() - 2..], ["after", "last"]);
    let (notices, lines): (Vec<_>, Vec<_>) =
        log[..log.len() - 2].iter().partition(|line| line.starts_with("wharf: "));
    let told = |line: &&String| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
    assert_eq!(notices.iter().map(told).sum::<u64>(), record.dropped_log_entries);
    assert_eq!(lines.len() as u64 + record.dropped_log_entries, 20_000, "every line is there or counted");
    assert!(lines.iter().all(|line| line.parse::<u32>().is_ok()), "only whole entries are there");
}
