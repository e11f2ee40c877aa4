//! All that the core asks the shell to do.
//!
//! The order is part of the meaning. A list returned by [`super::Core::handle`] holds at most one [`Action::Save`],
//! and it comes first: it must be durable before anything after it is executed that [`Action::waits_for_save`], and before
//! any save of a later list. The rest of a list may run in parallel, except that the actions of one replica are executed in the order in which they were returned, over all lists.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use model::{
    Assignment, Directory, Exit, ImageRef, Millis, Name, Observed, Protocol, ReplicaId, ServiceKey, Slot,
    Stop,
};

use super::{ContainerId, ProbeKind, Record};

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write to the ledger, and wait until it is on the disk.
    Save(Vec<Change>),
    /// Remember the directory, connect with its nodes, and replace all published ports by these. Answered by `Balanced` once
    /// it is in force.
    Balance { serial: u64, ports: Vec<Published>, directory: Arc<Directory> },
    /// Check the images, make the sandbox, at the address that it had before if it had one. Idempotent; answered by `Prepared`.
    Prepare { assignment: Assignment, address: Option<Ipv4Addr> },
    /// Answered by `Started`, and later by `Exited` if it was.
    StartContainer { id: ContainerId, assignment: Assignment, address: Ipv4Addr },
    /// Ask the container to end.
    Signal { id: ContainerId, signal: StopSignal },
    /// End it now, with everything inside.
    Kill { id: ContainerId },
    /// Run one probe once. Always answered by `Probed`, at the latest after the timeout.
    Probe { id: ContainerId, kind: ProbeKind, target: ProbeTarget, timeout: Millis },
    /// The container's exit is saved: delete the runtime's record, and what this attempt wrote.
    Discard { id: ContainerId },
    /// Delete containers, snapshots, sandbox and directories of the replica. Answered by `Cleaned`.
    Clean { replica: ReplicaId, service: Option<ServiceKey> },
    /// Tell the control plane: these changed.
    Report(Vec<Observed>),
    /// Tell the control plane, for the story that people read.
    Exits(Vec<ContainerExit>),
    /// Tell the control plane: the directory of this version is in force.
    GoBy { version: u64 },
    /// An increment is missing: open the session again, to be told everything.
    ReopenSession,
}

impl Action {
    /// Whether it must not be done before the save of its list is durable, because doing it cannot be found out afterwards, or
    /// must not be done twice. What an agent that dies in between would just say or order again may go ahead.
    pub fn waits_for_save(&self) -> bool {
        match self {
            Action::Probe { .. } | Action::Report(_) | Action::GoBy { .. } | Action::ReopenSession => false,
            // So that whoever is in the balancer is still there after a restart of the agent.
            Action::Balance { .. }
            | Action::Save(_)
            | Action::Prepare { .. }
            | Action::StartContainer { .. }
            | Action::Signal { .. }
            | Action::Kill { .. }
            | Action::Discard { .. }
            | Action::Clean { .. }
            | Action::Exits(_) => true,
        }
    }
}

/// One change of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Put(Box<Record>),
    Forget(ReplicaId),
}

/// A port of the node, and the ready replicas behind it, here and on other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub port: u16,
    pub protocol: Protocol,
    /// Sorted; empty while none is ready.
    pub backends: Vec<SocketAddrV4>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopSignal {
    Number(u8),
    /// What the image's config says, else SIGTERM.
    OfImage(ImageRef),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeTarget {
    Http { address: SocketAddrV4, path: String },
    Tcp { address: SocketAddrV4 },
    Exec { command: Vec<String> },
}

/// A container ended, by itself or because it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerExit {
    pub replica: ReplicaId,
    pub service: ServiceKey,
    pub slot: Slot,
    pub container: Name,
    pub exit: Exit,
    /// How often it had been started again until then.
    pub restarts: u32,
    /// None if it ended by itself.
    pub stop: Option<Stop>,
}

impl fmt::Display for Action {
    /// One line for logs and tests. Reports are shown by their replica and phase only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Save(changes) => {
                f.write_str("save")?;
                changes.iter().try_for_each(|change| match change {
                    Change::Put(record) => write!(f, " {}", record.id()),
                    Change::Forget(replica) => write!(f, " -{replica}"),
                })
            }
            Action::Balance { serial, ports, directory: _ } => {
                write!(f, "balance #{serial}")?;
                ports.iter().try_for_each(|port| write!(f, " {port}"))
            }
            Action::Prepare { assignment, address } => {
                write!(f, "prepare {}", assignment.replica)?;
                address.map_or(Ok(()), |address| write!(f, " at {address}"))
            }
            Action::StartContainer { id, .. } => write!(f, "start {id}"),
            Action::Signal { id, signal } => write!(f, "signal {id} {signal}"),
            Action::Kill { id } => write!(f, "kill {id}"),
            Action::Probe { id, kind, target, timeout } => {
                write!(f, "probe {id} {} {target} within {timeout}", kind.as_str())
            }
            Action::Discard { id } => write!(f, "discard {id}"),
            Action::Clean { replica, .. } => write!(f, "clean {replica}"),
            Action::Report(all) => {
                f.write_str("report")?;
                all.iter().try_for_each(|one| write!(f, " {} {}", one.replica, one.phase.as_str()))
            }
            Action::Exits(exits) => {
                f.write_str("exits")?;
                exits.iter().try_for_each(|e| {
                    write!(f, " {}.{}: {}", e.replica, e.container, e.exit.cause)?;
                    match e.stop {
                        None => write!(f, " (restarts {})", e.restarts),
                        Some(Stop { took, killed: false }) => write!(f, " (stopped within {took})"),
                        Some(Stop { took, killed: true }) => write!(f, " (killed after {took})"),
                    }
                })
            }
            Action::GoBy { version } => write!(f, "go by directory {version}"),
            Action::ReopenSession => f.write_str("reopen session"),
        }
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}={:?}", self.port, self.protocol.as_str(), self.backends)
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopSignal::Number(number) => write!(f, "{number}"),
            StopSignal::OfImage(_) => f.write_str("of image"),
        }
    }
}

impl fmt::Display for ProbeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeTarget::Http { address, path } => write!(f, "http://{address}{path}"),
            ProbeTarget::Tcp { address } => write!(f, "tcp {address}"),
            ProbeTarget::Exec { command } => write!(f, "exec {command:?}"),
        }
    }
}
