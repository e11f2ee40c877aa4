//! What happened, for people: the story that `describe` and `events` tell.

use std::fmt;

use crate::{
    Exit, Name, NodeId, ReplicaId, RevisionNumber, ServiceKey, Slot, Stop, Timestamp, Unplaceable,
    waiting::roughly,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Timestamp,
    pub service: Option<ServiceKey>,
    pub kind: EventKind,
}

impl Event {
    /// From one clock's times to another's.
    pub fn translate(&mut self, to: impl Fn(Timestamp) -> Timestamp) {
        self.at = to(self.at);
        if let EventKind::ContainerExited { exit, .. } = &mut self.kind {
            exit.at = to(exit.at);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A user changed what is desired; in words ("created", "scaled from 2 to 3").
    Applied {
        change: String,
    },
    Deleted,
    RolloutStarted {
        from: Option<RevisionNumber>,
        to: RevisionNumber,
    },
    RolloutCompleted {
        to: RevisionNumber,
    },
    RollbackStarted {
        from: RevisionNumber,
        back_to: RevisionNumber,
        reason: String,
    },
    RollbackCompleted {
        back_to: RevisionNumber,
    },
    RolloutPaused {
        to: RevisionNumber,
        reason: String,
    },
    ReplicaPlaced {
        replica: ReplicaId,
        slot: Slot,
        node: NodeId,
    },
    ReplicaUnplaceable {
        slot: Slot,
        reason: Unplaceable,
    },
    ReplicaStopping {
        replica: ReplicaId,
        slot: Slot,
        reason: String,
    },
    ReplicaFailed {
        replica: ReplicaId,
        slot: Slot,
        reason: String,
    },
    ContainerExited {
        replica: ReplicaId,
        slot: Slot,
        container: Name,
        exit: Exit,
        restarts: u32,
        /// None if it ended by itself.
        stop: Option<Stop>,
    },
    NodeRegistered {
        node: NodeId,
        name: Name,
    },
    /// Something was decided of a node; in words ("down: ...", "cordoned").
    NodeChanged {
        node: NodeId,
        name: Name,
        change: String,
    },
    /// A user changed how the cluster is run; in words.
    SettingsChanged {
        change: String,
    },
}

impl fmt::Display for EventKind {
    /// One sentence for people, without its service and its time.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventKind::Applied { change } => write!(f, "{change}"),
            EventKind::Deleted => f.write_str("deleted"),
            EventKind::RolloutStarted { from: None, to } => write!(f, "rollout to revision {to} started"),
            EventKind::RolloutStarted { from: Some(from), to } => {
                write!(f, "rollout from revision {from} to revision {to} started")
            }
            EventKind::RolloutCompleted { to } => write!(f, "rollout to revision {to} completed"),
            EventKind::RollbackStarted { from, back_to, reason } => {
                write!(f, "revision {from} failed, going back to revision {back_to}: {reason}")
            }
            EventKind::RollbackCompleted { back_to } => write!(f, "gone back to revision {back_to}"),
            EventKind::RolloutPaused { to, reason } => write!(f, "rollout to revision {to} paused: {reason}"),
            EventKind::ReplicaPlaced { replica, slot, node } => {
                write!(f, "slot {slot}: replica {replica} placed on node {node}")
            }
            EventKind::ReplicaUnplaceable { slot, reason } => {
                write!(f, "slot {slot}: no node can take it: {reason}")
            }
            EventKind::ReplicaStopping { replica, slot, reason } => {
                write!(f, "slot {slot}: replica {replica} stops: {reason}")
            }
            EventKind::ReplicaFailed { replica, slot, reason } => {
                write!(f, "slot {slot}: replica {replica} failed: {reason}")
            }
            EventKind::ContainerExited { replica, slot, container, exit, restarts: _, stop: Some(stop) } => {
                let (took, cause) = (roughly(stop.took), &exit.cause);
                write!(f, "slot {slot}: container {container} of replica {replica} ")?;
                match stop.killed {
                    false => write!(f, "stopped within {took}: {cause}"),
                    true => write!(f, "did not stop within its grace period, killed after {took}: {cause}"),
                }
            }
            EventKind::ContainerExited { replica, slot, container, exit, restarts, stop: None } => {
                let ran = roughly(exit.ran_for);
                write!(
                    f,
                    "slot {slot}: container {container} of replica {replica} ended after {ran}: {}",
                    exit.cause
                )?;
                if *restarts > 0 { write!(f, " (restarted {restarts} times before)") } else { Ok(()) }
            }
            EventKind::NodeRegistered { node, name } => write!(f, "node {name} ({node}) registered"),
            EventKind::NodeChanged { node, name, change } => write!(f, "node {name} ({node}) {change}"),
            EventKind::SettingsChanged { change } => write!(f, "cluster: {change}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExitCause, Millis};

    #[test]
    fn an_end_that_was_asked_for_is_told_apart() {
        let told = |cause, restarts, stop| {
            let exit = Exit { cause, at: Timestamp(0), ran_for: Millis(3_000) };
            let (slot, container) = (Slot::new(2).unwrap(), Name::new("main").unwrap());
            EventKind::ContainerExited { replica: ReplicaId(7), slot, container, exit, restarts, stop }
                .to_string()
        };
        let main = "slot 2: container main of replica 0000000000007";
        let (took, signal) = (Millis(10_000), ExitCause::Signal(9));
        for (told, words) in [
            (told(ExitCause::Code(1), 1, None), "ended after 3.0s: exit code 1 (restarted 1 times before)"),
            (
                told(ExitCause::Code(0), 1, Some(Stop { took: Millis(40), killed: false })),
                "stopped within 40ms: exit code 0",
            ),
            (
                told(signal, 0, Some(Stop { took, killed: true })),
                "did not stop within its grace period, killed after 10.0s: killed by SIGKILL",
            ),
        ] {
            assert_eq!(told, format!("{main} {words}"));
        }
    }
}
