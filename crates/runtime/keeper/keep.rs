//! The keeper: parent of the container's first process, reader of its output, writer of its exit record.
//!
//! It needs nothing from the agent, which may die and come back. Its end is the signal that the container has ended and
//! that the record is complete: whoever waits holds a pidfd of this process. The container has a PID namespace of its
//! own, so the end of its first process is the end of all of them; the kernel sees to that.

use crate::deadline::Deadline;
use crate::exit::{Ending, MemoryFiles, Record};
use crate::log::{Log, Stream};
use crate::sys::{self, Args, PollFd};

/// After the end at most this much output is still read from each pipe, should something outside hold it open.
const DRAIN_BYTES: usize = 4 << 20;

/// Arguments, by position; `crates/runtime/src/start/handover.rs` puts them there:
/// 1 container id (for `ps`), 2 first process, 3 its pidfd, 4 stdout, 5 stderr, 6 init's report or `-`, 7 run directory,
/// 8 log directory, 9 log name, 10 log bytes, 11 log files, 12 start in unix ms, 13 memory cgroup or `-`, 14 `v1` or `v2`,
/// 15 deadline file or `-`.
pub fn run(args: &Args) -> ! {
    sys::block_signals(true);
    sys::set_name(b"wharf-keeper\0");
    let pid = args.number(2) as i32;
    let pidfd = args.number(3) as i32;
    let mut streams = Stream::pair(args.number(4) as i32, args.number(5) as i32);
    let report = args.descriptor(6);
    let name = args.get(9).unwrap_or(b"log");
    let mut log = Log::open(args.number(8) as i32, name, args.number(10), args.number(11));

    let mut deadline = Deadline::of(args.descriptor(15));
    copy_until_exit(pid, pidfd, &mut streams, &mut log, &mut deadline);
    let (_, status) = sys::wait(pid, 0);
    for stream in &mut streams {
        drain(stream, &mut log);
    }
    log.tell_dropped();

    let files = if args.get(14) == Some(b"v2") { MemoryFiles::V2 } else { MemoryFiles::V1 };
    let record = Record {
        ending: ending(status, report),
        started_ms: args.number(12),
        dropped: log.dropped_total(),
        memory: args.descriptor(13).map(|dir| (dir, files)),
    };
    record.write(args.number(7) as i32);
    sys::exit(0)
}

/// Copies output to the log until the first process has ended, or is killed for the deadline.
fn copy_until_exit(pid: i32, pidfd: i32, streams: &mut [Stream; 2], log: &mut Log, deadline: &mut Deadline) {
    let mut is_due = true;
    loop {
        // It was not waited for yet, so the number is still its own.
        if is_due && deadline.has_passed() {
            sys::kill(pid, sys::SIGKILL);
        }
        let wait = |fd: i32| PollFd { fd, events: sys::POLLIN, revents: 0 };
        // A negative descriptor is skipped by the kernel, which is what a closed stream has.
        let mut fds = [wait(pidfd), wait(deadline.timer), wait(streams[0].fd), wait(streams[1].fd)];
        sys::poll(&mut fds);
        for (stream, polled) in streams.iter_mut().zip(&fds[2..]) {
            if polled.revents != 0 {
                stream.take(log);
            }
        }
        is_due = fds[1].revents != 0;
        if fds[0].revents != 0 {
            return;
        }
    }
}

fn drain(stream: &mut Stream, log: &mut Log) {
    let mut left = DRAIN_BYTES;
    while stream.fd >= 0 {
        let got = stream.take(log);
        if got == 0 || got > left {
            break;
        }
        left -= got;
    }
    stream.end(log);
}

/// What init said about the application; else what happened to the first process itself.
fn ending(status: i32, report: Option<i32>) -> Ending {
    let mut bytes = [0u8; 8];
    let told = report.is_some_and(|fd| sys::read(fd, &mut bytes) == bytes.len() as isize);
    match Ending::decode(bytes) {
        Some(ending) if told => ending,
        _ => Ending::of_status(status),
    }
}
