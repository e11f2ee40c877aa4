//! When the service's processes were executed, as the kernel's process events connector tells it: to the microsecond, and
//! without anybody having to look for them meanwhile.
//!
//! Source of the layouts: `linux/netlink.h`, `linux/connector.h`, `linux/cn_proc.h`.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketType, bind,
        netlink::{self, SocketAddrNetlink},
        recv, send, socket, sockopt,
    },
    time::{ClockId, clock_gettime},
};

/// `CN_IDX_PROC` and `CN_VAL_PROC`, which is also the multicast group.
const PROC: u32 = 1;
const PROC_CN_MCAST_LISTEN: u32 = 1;
const PROC_EVENT_EXEC: u32 = 2;
const NETLINK_HEADER: usize = 16;
const CONNECTOR_HEADER: usize = 20;
const NLMSG_DONE: u16 = 3;

/// Of the monotonic clock, which the kernel stamps its events with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Duration);

impl Moment {
    pub(crate) fn now() -> Moment {
        let now = clock_gettime(ClockId::Monotonic);
        Moment(Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
    }

    pub(crate) fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A process of the service began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exec {
    pub(crate) pid: i32,
    pub(crate) at: Moment,
    sleep: u32,
}

/// Hears of every exec on this host, and keeps those of `/bin/sleep NUMBER`.
#[derive(Debug)]
pub(crate) struct Execs {
    heard: Arc<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    execs: Mutex<Vec<Exec>>,
    more: Condvar,
}

impl Execs {
    pub(crate) fn listen() -> Execs {
        let socket =
            subscribe().expect("a kernel with CONFIG_PROC_EVENTS, and root in the host's namespaces");
        let heard = Arc::new(Heard::default());
        let told = Arc::clone(&heard);
        // Until the program ends.
        std::thread::spawn(move || hear(&socket, &told));
        Execs { heard }
    }

    /// The first `count` processes that were executed after `since` to sleep so long.
    pub(crate) fn wait(&self, sleep: u32, since: Moment, count: usize, deadline: Duration) -> Vec<Exec> {
        let until = Instant::now() + deadline;
        let mut execs = self.heard.execs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let wanted = |exec: &&Exec| exec.sleep == sleep && exec.at >= since;
            let mut found: Vec<Exec> = execs.iter().filter(wanted).copied().collect();
            if found.len() >= count {
                found.sort_by_key(|exec| exec.at);
                found.truncate(count);
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count} processes in {deadline:?}", found.len());
            execs = self.heard.more.wait_timeout(execs, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn subscribe() -> rustix::io::Result<OwnedFd> {
    let socket = socket(AddressFamily::NETLINK, SocketType::DGRAM, Some(netlink::CONNECTOR))?;
    // Starting fifty containers is some thousand events.
    sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20)?;
    bind(&socket, &SocketAddrNetlink::new(0, PROC))?;
    let length = NETLINK_HEADER + CONNECTOR_HEADER + 4;
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    message.extend(NLMSG_DONE.to_ne_bytes());
    // Flags, sequence number and sender: none.
    message.extend([0; 2 + 4 + 4]);
    for word in [PROC, PROC, 0, 0] {
        message.extend(word.to_ne_bytes());
    }
    message.extend(4u16.to_ne_bytes());
    message.extend(0u16.to_ne_bytes());
    message.extend(PROC_CN_MCAST_LISTEN.to_ne_bytes());
    send(&socket, &message, SendFlags::empty())?;
    Ok(socket)
}

fn hear(socket: &OwnedFd, heard: &Heard) {
    let mut buffer = [0; 1024];
    loop {
        let length = match recv(socket, &mut buffer, RecvFlags::empty()) {
            Ok((length, _)) => length,
            Err(Errno::INTR) => continue,
            // What was missed shows as processes that never come.
            Err(error) => {
                eprintln!("process events were lost: {error}");
                continue;
            }
        };
        if let Some(exec) = read_event(&buffer[..length]) {
            heard.execs.lock().unwrap_or_else(PoisonError::into_inner).push(exec);
            heard.more.notify_all();
        }
    }
}

/// An exec of a `sleep`; everything else is nothing.
fn read_event(message: &[u8]) -> Option<Exec> {
    let event = message.get(NETLINK_HEADER + CONNECTOR_HEADER..)?;
    let word = |at: usize| Some(u32::from_ne_bytes(event.get(at..at + 4)?.try_into().ok()?));
    if word(0)? != PROC_EVENT_EXEC {
        return None;
    }
    let at = u64::from_ne_bytes(event.get(8..16)?.try_into().ok()?);
    let pid = word(20)? as i32;
    Some(Exec { pid, at: Moment(Duration::from_nanos(at)), sleep: sleeping(pid)? })
}

/// How long a process was told to sleep, if it is one of a service.
fn sleeping(pid: i32) -> Option<u32> {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let seconds = command.strip_prefix(b"/bin/sleep\0")?.strip_suffix(b"\0")?;
    std::str::from_utf8(seconds).ok()?.parse().ok()
}

pub(crate) fn is_running(exec: &Exec, sleep: u32) -> bool {
    sleeping(exec.pid) == Some(sleep)
}
