//! What the agent remembers of a replica over its own death: the ledger's entries.
//!
//! The record is the state that the core works on; what is beside it ([`super::replica`]) can be learned again.

use std::net::Ipv4Addr;

use model::{Assignment, Desired, Exit, Phase, ReplicaId, Timeline, Timestamp};

/// One replica, as it is durably known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub assignment: Assignment,
    pub phase: Phase,
    /// Of its sandbox, once it was made.
    pub address: Option<Ipv4Addr>,
    pub timeline: Timeline,
    pub ready_since: Option<Timestamp>,
    /// When the first stop signal was due; SIGKILL follows a grace period later, whatever happens to the agent.
    pub ending_since: Option<Timestamp>,
    /// The control plane does not know it any more: to be forgotten once it is removed.
    pub dropped: bool,
    /// Why it failed.
    pub failure: Option<String>,
    /// In the order of [`model::ReplicaTemplate::containers`].
    pub containers: Vec<ContainerRecord>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerRecord {
    /// The last attempt that was begun; 0 before the first.
    pub attempt: u32,
    pub restarts: u32,
    /// Restarts since it last ran healthy for long enough.
    pub streak: u32,
    pub last_exit: Option<Exit>,
    pub stage: Stage,
}

/// How far a container is. `attempt` is the one that is starting or running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Not started since the replica began.
    #[default]
    Waiting,
    /// Saved before the start is ordered: after a crash it either runs, or ran, or never was.
    Starting,
    Running {
        pid: u32,
        since: Timestamp,
        /// Its startup probe succeeded, or it has none.
        warm: bool,
        ready: bool,
    },
    BackingOff {
        until: Timestamp,
    },
    /// Not to be started again.
    Ended,
}

impl Record {
    pub fn new(assignment: Assignment, now: Timestamp) -> Record {
        let containers = assignment.template.containers().map(|_| ContainerRecord::default()).collect();
        Record {
            assignment,
            phase: Phase::Assigned,
            address: None,
            timeline: Timeline { received: Some(now), ..Timeline::default() },
            ready_since: None,
            ending_since: None,
            dropped: false,
            failure: None,
            containers,
        }
    }

    pub fn id(&self) -> ReplicaId {
        self.assignment.replica
    }

    /// The latest that anything in it happened: a clock that shows less now was set back while the agent was away.
    pub fn latest(&self) -> Timestamp {
        let Timeline { received, image_ready, started, ready } = self.timeline;
        let of_replica = [received, image_ready, started, ready, self.ready_since, self.ending_since];
        let of_containers = self.containers.iter().flat_map(|container| {
            let since = match container.stage {
                Stage::Running { since, .. } => Some(since),
                Stage::Waiting | Stage::Starting | Stage::BackingOff { .. } | Stage::Ended => None,
            };
            [since, container.last_exit.as_ref().map(|exit| exit.at)]
        });
        of_replica.into_iter().chain(of_containers).flatten().max().unwrap_or_default()
    }

    /// As if it had just been assigned, but with its history: nothing of it is on the host any more.
    pub(super) fn begin_anew(&mut self) {
        self.phase = Phase::Assigned;
        self.address = None;
        self.ready_since = None;
        self.ending_since = None;
        for container in &mut self.containers {
            container.stage = Stage::Waiting;
            container.streak = 0;
        }
    }

    /// The control plane's last word. It only moves forward; anything else is an old message.
    pub(super) fn desire(&mut self, desired: Desired) {
        if self.assignment.desired.may_become(desired) {
            self.assignment.desired = desired;
        }
    }
}
