//! "Not yet", as values with their reasons. The CLI prints these word for word.

use std::{collections::BTreeMap, fmt};

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
    /// The node is down, and the service gives it some time to return.
    NodeReturn { slot: Slot, node: NodeId, until: Timestamp },
    /// The node is down, and only once the lease of its replica is over is that known to have ended.
    Lease { slot: Slot, node: NodeId, until: Timestamp },
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
            WaitingOn::NodeReturn { slot, node, .. } => {
                write!(f, "slot {slot}: node {node} is down; replaced unless it returns in time")
            }
            WaitingOn::Lease { slot, node, .. } => {
                write!(f, "slot {slot}: node {node} is down; waiting until its replica's lease is over")
            }
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
    /// Cordoned or being drained.
    pub cordoned: u32,
    /// By the label that they lack: `disk=ssd`.
    pub lacking: BTreeMap<String, u32>,
    /// Their agents are of an older build than the replica needs.
    pub too_old: u32,
    pub too_little_cpu: u32,
    pub too_little_memory: u32,
    pub wants_cpu: MilliCpu,
    pub wants_memory: Bytes,
    /// Of the nodes that were looked at for their room.
    pub most_free_cpu: MilliCpu,
    pub most_free_memory: Bytes,
}

impl fmt::Display for Unplaceable {
    /// `2 of 3 nodes lack label disk=ssd, 1 has too little memory (wants 512Mi, most free is 23.0Gi)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("the cluster has no nodes");
        }
        let mut first = true;
        for (count, one, many) in self.reasons() {
            let says = if count == 1 { one } else { many };
            match (std::mem::take(&mut first), self.nodes) {
                (true, 1) => write!(f, "the only node {says}")?,
                (true, nodes) => write!(f, "{count} of {nodes} nodes {says}")?,
                (false, 1) => write!(f, " and {says}")?,
                (false, _) => write!(f, ", {count} {says}")?,
            }
        }
        Ok(())
    }
}

impl Unplaceable {
    /// How many nodes, and what is said of one or of several.
    fn reasons(&self) -> Vec<(u32, String, String)> {
        let free = |wants: String, free: String| format!("(wants {wants}, most free is {free})");
        let cpu = free(self.wants_cpu.to_string(), self.most_free_cpu.to_string());
        let memory = free(self.wants_memory.roughly(), self.most_free_memory.roughly());
        let lacking = self.lacking.iter();
        let mut reasons: Vec<(u32, String, String)> = lacking
            .map(|(label, count)| (*count, format!("lacks label {label}"), format!("lack label {label}")))
            .collect();
        let mut add = |count, one: String, many: String| reasons.push((count, one, many));
        add(self.cordoned, "is cordoned".to_owned(), "are cordoned".to_owned());
        add(self.not_ready, "is not ready".to_owned(), "are not ready".to_owned());
        add(
            self.too_old,
            "has an agent older than what the service asks for".to_owned(),
            "have agents older than what the service asks for".to_owned(),
        );
        add(self.too_little_cpu, format!("has too little cpu {cpu}"), format!("have too little cpu {cpu}"));
        add(
            self.too_little_memory,
            format!("has too little memory {memory}"),
            format!("have too little memory {memory}"),
        );
        reasons.retain(|(count, ..)| *count > 0);
        reasons
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
