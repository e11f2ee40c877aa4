//! All that can happen to the core.

use std::{collections::BTreeSet, net::Ipv4Addr};

use model::{Directory, DirectoryNews, Dispatch, Exit, ReplicaId, Timestamp};

use super::{ContainerId, Record};

#[derive(Clone, Debug)]
pub enum Event {
    /// What the ledger holds, at start. Comes first, once.
    Restored(Vec<Record>),
    /// What is really there, at start. Comes second, once; nothing is touched before it.
    Adopted(Found),
    /// The control plane says what it wants.
    Assigned(Dispatch),
    /// What is known of the other nodes, at start. Nothing of it is needed to go on with what runs here.
    Remembered(Directory),
    /// The control plane says what is true of the other nodes.
    Listed(DirectoryNews),
    /// A leader has heard this node: until then it may run what has to stop without one.
    Leased { until: Timestamp },
    /// A `Prepare` ended.
    Prepared { replica: ReplicaId, result: Result<Ipv4Addr, Setback> },
    /// A `StartContainer` ended: the process' id on the host, or why there is none.
    Started { id: ContainerId, result: Result<u32, Setback> },
    /// A container's first process ended, and with it everything inside.
    Exited { id: ContainerId, exit: Exit },
    /// A `Probe` ended: how it failed, or why it could not be asked.
    Probed { id: ContainerId, kind: ProbeKind, result: Result<(), Setback> },
    /// The `Balance` of this serial number is in force.
    Balanced { serial: u64 },
    /// A `Clean` ended; why something is left in words.
    Cleaned { replica: ReplicaId, result: Result<(), String> },
    /// The time that [`super::Core::next_wake`] named has come.
    Wake,
    /// Stop every container and leave nothing behind, but remember what is desired: the next start begins anew.
    Shutdown,
}

impl Event {
    /// For logs, which must not hold what is in an assignment: environments have secrets.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Restored(_) => "restored",
            Event::Adopted(_) => "adopted",
            Event::Assigned(_) => "assigned",
            Event::Remembered(_) => "remembered",
            Event::Listed(_) => "listed",
            Event::Leased { .. } => "leased",
            Event::Prepared { .. } => "prepared",
            Event::Started { .. } => "started",
            Event::Exited { .. } => "exited",
            Event::Probed { .. } => "probed",
            Event::Balanced { .. } => "balanced",
            Event::Cleaned { .. } => "cleaned",
            Event::Wake => "wake",
            Event::Shutdown => "shutdown",
        }
    }
}

/// Why something that was ordered did not come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Setback {
    /// In words.
    pub reason: String,
    pub fault: Fault,
}

/// Whose trouble a setback is. It decides whether it is held against the replica, which can roll a service back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The node's, such as a full disk or no descriptors left: it is tried again after a pause.
    Node,
    /// Of what was asked for, such as an image that is not here, a program that it does not have, a probe that is refused.
    Replica,
}

impl Setback {
    pub fn of_node(reason: impl Into<String>) -> Setback {
        Setback { reason: reason.into(), fault: Fault::Node }
    }

    pub fn of_replica(reason: impl Into<String>) -> Setback {
        Setback { reason: reason.into(), fault: Fault::Replica }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl ProbeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ProbeKind::Startup => "startup",
            ProbeKind::Readiness => "readiness",
            ProbeKind::Liveness => "liveness",
        }
    }
}

/// What an earlier agent left on this host.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub containers: Vec<(ContainerId, FoundState)>,
    /// Replicas that have a network namespace, or anything else beside containers.
    pub sandboxes: BTreeSet<ReplicaId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundState {
    Running { pid: u32, since: Timestamp },
    Exited(Exit),
}
