//! What an agent saw. Only the agent writes these; the control plane keeps them as soft state and is told
//! everything again when a session opens.

use std::{fmt, net::Ipv4Addr};

use crate::{Bytes, Millis, Name, ReplicaId, Timestamp};

/// One replica as its node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub replica: ReplicaId,
    pub phase: Phase,
    /// Since when every container that should run does and every readiness probe succeeds; none while not ready.
    pub ready_since: Option<Timestamp>,
    pub timeline: Timeline,
    /// Inside the cluster's network; none before the sandbox exists.
    pub address: Option<Ipv4Addr>,
    /// In the order of [`crate::ReplicaTemplate::containers`].
    pub containers: Vec<ContainerObserved>,
    /// In words, what it waits for or what went wrong last; for people.
    pub message: Option<String>,
}

impl Observed {
    /// From one clock's times to another's.
    pub fn translate(&mut self, to: impl Fn(Timestamp) -> Timestamp) {
        let Timeline { received, image_ready, started, ready } = &mut self.timeline;
        for at in [received, image_ready, started, ready, &mut self.ready_since].into_iter().flatten() {
            *at = to(*at);
        }
        for container in &mut self.containers {
            match &mut container.state {
                ContainerState::Running { since: at, .. } | ContainerState::BackingOff { until: at } => {
                    *at = to(*at);
                }
                ContainerState::Waiting | ContainerState::Ended => {}
            }
            if let Some(exit) = &mut container.last_exit {
                exit.at = to(exit.at);
            }
        }
    }

    /// Whether none of its processes is left, nor will another be started. One that has failed or completed goes on for as
    /// long as a container beside the one that ended is being stopped.
    pub fn has_ended(&self) -> bool {
        let ended = |container: &ContainerObserved| container.state == ContainerState::Ended;
        match self.phase {
            Phase::Assigned | Phase::Preparing | Phase::Prepared | Phase::Running | Phase::Stopping => false,
            Phase::Completed | Phase::Failed => self.containers.iter().all(ended),
            Phase::Removed => true,
        }
    }
}

/// How far a replica is on its node. It only moves down this list, except that `Failed` can follow any before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Known to the node, nothing done yet.
    Assigned,
    /// Images are being unpacked, the sandbox made.
    Preparing,
    /// All is ready to start.
    Prepared,
    /// Containers have been started, whether or not one is just waiting to be started again.
    Running,
    /// Out of the balancer, its processes ending.
    Stopping,
    /// It ended by itself, successfully, and is not to be started again (`restart: never | on-failure`).
    Completed,
    /// It ended, and will not be tried again on this node.
    Failed,
    /// Nothing of it is left on the node; it can be forgotten.
    Removed,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Assigned => "assigned",
            Phase::Preparing => "preparing",
            Phase::Prepared => "prepared",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
            Phase::Completed => "completed",
            Phase::Failed => "failed",
            Phase::Removed => "removed",
        }
    }
}

/// When a replica reached each step for the first time: by its node's clock there, by the cluster's time on a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    pub received: Option<Timestamp>,
    pub image_ready: Option<Timestamp>,
    pub started: Option<Timestamp>,
    pub ready: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerObserved {
    pub name: Name,
    pub state: ContainerState,
    /// How often it was started again, ever.
    pub restarts: u32,
    /// How it last ended.
    pub last_exit: Option<Exit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Not started yet.
    Waiting,
    Running {
        /// On the host.
        pid: u32,
        since: Timestamp,
        ready: bool,
    },
    /// Will be started again at this time.
    BackingOff { until: Timestamp },
    /// Will not be started again.
    Ended,
}

/// How a container's first process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub cause: ExitCause,
    pub at: Timestamp,
    /// How long it had run.
    pub ran_for: Millis,
}

/// How a container ended that had been asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Since the first container of its replica was asked.
    pub took: Millis,
    /// It had not ended when the grace period was over.
    pub killed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitCause {
    Code(u8),
    Signal(u8),
    /// The kernel killed it for want of memory.
    OutOfMemory {
        limit: Bytes,
        peak: Bytes,
    },
    /// wharf killed it after its liveness or startup probe failed; the last failure in words.
    ProbeFailed {
        probe: String,
        detail: String,
    },
    /// It could not be started at all; in words.
    NotStarted {
        reason: String,
    },
    /// How it ended is not known: the host or its keeper died with it.
    Unknown,
}

impl ExitCause {
    pub fn is_success(&self) -> bool {
        matches!(self, ExitCause::Code(0))
    }
}

impl fmt::Display for ExitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitCause::Code(code) => write!(f, "exit code {code}"),
            ExitCause::Signal(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "killed by {name}"),
                None => write!(f, "killed by signal {signal}"),
            },
            ExitCause::OutOfMemory { limit, peak } => write!(f, "OOM killed (limit {limit}, peak {peak})"),
            ExitCause::ProbeFailed { probe, detail } => write!(f, "{probe} probe failed: {detail}"),
            ExitCause::NotStarted { reason } => write!(f, "could not be started: {reason}"),
            ExitCause::Unknown => f.write_str("ended for an unknown reason"),
        }
    }
}

/// Signal numbers of x86-64 and arm64 Linux. Source: signal(7).
const SIGNALS: [(u8, &str); 29] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (10, "SIGUSR1"),
    (11, "SIGSEGV"),
    (12, "SIGUSR2"),
    (13, "SIGPIPE"),
    (14, "SIGALRM"),
    (15, "SIGTERM"),
    (17, "SIGCHLD"),
    (18, "SIGCONT"),
    (19, "SIGSTOP"),
    (20, "SIGTSTP"),
    (21, "SIGTTIN"),
    (22, "SIGTTOU"),
    (23, "SIGURG"),
    (24, "SIGXCPU"),
    (25, "SIGXFSZ"),
    (26, "SIGVTALRM"),
    (27, "SIGPROF"),
    (28, "SIGWINCH"),
    (30, "SIGPWR"),
    (31, "SIGSYS"),
];

pub fn signal_name(number: u8) -> Option<&'static str> {
    SIGNALS.iter().find(|(n, _)| *n == number).map(|(_, name)| *name)
}

/// The real-time signals that programs may use: the C libraries keep those below for themselves. Source: signal(7).
const REAL_TIME: std::ops::RangeInclusive<u8> = 34..=64;

/// From `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` or `SIGRTMAX-1`.
pub fn signal_number(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(above) = bare.strip_prefix("RTMIN") {
        let above = if above.is_empty() { 0 } else { above.strip_prefix('+')?.parse().ok()? };
        return REAL_TIME.start().checked_add(above).filter(|number| REAL_TIME.contains(number));
    }
    if let Some(below) = bare.strip_prefix("RTMAX") {
        let below = if below.is_empty() { 0 } else { below.strip_prefix('-')?.parse().ok()? };
        return REAL_TIME.end().checked_sub(below).filter(|number| REAL_TIME.contains(number));
    }
    SIGNALS.iter().find(|(_, name)| &name[3..] == bare).map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_their_names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("15", Some(15)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGRTMIN+30", Some(64)),
            ("SIGRTMIN+31", None),
            ("SIGRTMAX-31", None),
            ("SIGRTMIN-1", None),
            ("SIGRTMIN+255", None),
            ("SIGBOGUS", None),
            ("0", None),
            ("65", None),
        ] {
            assert_eq!(signal_number(text), number, "{text}");
        }
    }
}
