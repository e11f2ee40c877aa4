//! "Not yet", as values with their reasons. The CLI prints these word for word.

use std::fmt;

use crate::{Bytes, MilliCpu, Millis, NodeId, RevisionNumber, Slot, Timestamp};

/// What a service waits for before it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitingOn {
    /// No node can take the replica.
    Placement { slot: Slot, reason: Unplaceable },
    /// The node is still making images and sandbox ready.
    Preparation { slot: Slot, node: NodeId, message: Option<String> },
    /// The replica has started and is not ready yet.
    Readiness { slot: Slot, since: Timestamp, deadline: Timestamp, message: Option<String> },
    /// Ready, but not for `min_ready` yet.
    MinReady { slot: Slot, until: Timestamp },
    /// An old replica has not ended yet.
    Stop { slot: Slot, revision: RevisionNumber },
    /// One more may not be unavailable now.
    Availability { ready: u32, must_be: u32 },
    /// The node's agent does not say anything.
    Node { slot: Slot, node: NodeId },
    /// A person.
    Decision { reason: String },
}

impl fmt::Display for WaitingOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = |m: &Option<String>| m.as_ref().map(|m| format!(": {m}")).unwrap_or_default();
        match self {
            WaitingOn::Placement { slot, reason } => write!(f, "slot {slot}: no node can take it: {reason}"),
            WaitingOn::Preparation { slot, node, message: m } => {
                write!(f, "slot {slot}: being prepared on node {node}{}", message(m))
            }
            WaitingOn::Readiness { slot, since, deadline, message: m } => {
                write!(
                    f,
                    "slot {slot}: started, not ready (deadline {} after start){}",
                    deadline.since(*since),
                    message(m)
                )
            }
            WaitingOn::MinReady { slot, .. } => write!(f, "slot {slot}: ready, waiting for minReady"),
            WaitingOn::Stop { slot, revision } => {
                write!(f, "slot {slot}: replica of revision {revision} is stopping")
            }
            WaitingOn::Availability { ready, must_be } => {
                write!(f, "{ready} ready, {must_be} must stay ready before another may stop")
            }
            WaitingOn::Node { slot, node } => write!(f, "slot {slot}: node {node} is silent"),
            WaitingOn::Decision { reason } => {
                write!(f, "paused: {reason}; `wharf rollout undo` or another apply goes on")
            }
        }
    }
}

/// Why no node can take a replica: how many nodes there are, and how many each reason ruled out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unplaceable {
    pub nodes: u32,
    pub not_ready: u32,
    pub too_little_cpu: u32,
    pub too_little_memory: u32,
    pub wants_cpu: MilliCpu,
    pub wants_memory: Bytes,
    /// Of the nodes that were ready.
    pub most_free_cpu: MilliCpu,
    pub most_free_memory: Bytes,
}

impl fmt::Display for Unplaceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("the cluster has no nodes");
        }
        let mut reasons = Vec::new();
        if self.not_ready > 0 {
            reasons.push(format!("{} not ready", self.not_ready));
        }
        if self.too_little_cpu > 0 {
            let (wants, free) = (self.wants_cpu, self.most_free_cpu);
            reasons
                .push(format!("{} too little cpu (wants {wants}, most free is {free})", self.too_little_cpu));
        }
        if self.too_little_memory > 0 {
            let (wants, free) = (self.wants_memory, self.most_free_memory);
            reasons.push(format!(
                "{} too little memory (wants {wants}, most free is {free})",
                self.too_little_memory
            ));
        }
        write!(f, "of {} node(s), {}", self.nodes, reasons.join(", "))
    }
}

/// Shown where a span is worth telling only roughly.
pub fn roughly(span: Millis) -> String {
    match span.0 {
        ms if ms < 1_000 => format!("{ms}ms"),
        ms if ms < 60_000 => format!("{:.1}s", ms as f64 / 1_000.0),
        ms if ms < 3_600_000 => format!("{}m{}s", ms / 60_000, ms / 1_000 % 60),
        ms if ms < 86_400_000 => format!("{}h{}m", ms / 3_600_000, ms / 60_000 % 60),
        ms => format!("{}d{}h", ms / 86_400_000, ms / 3_600_000 % 24),
    }
}
