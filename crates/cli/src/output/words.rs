//! The words that tables, JSON and descriptions share: states in one word each, ports, sizes.

use model::{
    ContainerObserved, ContainerState, Desired, Observed, Phase, Replica, RevisionStatus, Scheduling,
    Service, ServiceSpec, Timestamp, waiting::roughly,
};

use crate::answer::NodeView;

pub const NOTHING: &str = "-";

pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}

pub fn rollout(service: &Service) -> &'static str {
    if service.deleting_since.is_some() { "deleting" } else { service.rollout.phase.as_str() }
}

/// `8080->80`, `53->53/udp`, or a dash.
pub fn published(spec: &ServiceSpec) -> String {
    let shown = spec.template.ports.iter().filter_map(|port| {
        let publish = port.publish?;
        Some(match port.protocol {
            model::Protocol::Tcp => format!("{publish}->{}", port.port),
            model::Protocol::Udp => format!("{publish}->{}/udp", port.port),
        })
    });
    let shown: Vec<String> = shown.collect();
    if shown.is_empty() { NOTHING.to_owned() } else { shown.join(",") }
}

/// How a replica stands, in one word.
pub fn state(replica: &Replica, observed: Option<&Observed>) -> &'static str {
    let desired = replica.desired;
    let Some(observed) = observed else {
        return match (desired, replica.node) {
            (Desired::Stopped, _) => "stopping",
            (Desired::Prepared | Desired::Running, None) => "pending",
            (Desired::Prepared | Desired::Running, Some(_)) => "unknown",
        };
    };
    let is_backing_off = |c: &ContainerObserved| matches!(c.state, ContainerState::BackingOff { .. });
    match observed.phase {
        Phase::Running if desired == Desired::Stopped => "stopping",
        Phase::Running if observed.containers.iter().any(is_backing_off) => "backing-off",
        Phase::Assigned
        | Phase::Preparing
        | Phase::Prepared
        | Phase::Running
        | Phase::Stopping
        | Phase::Completed
        | Phase::Failed
        | Phase::Removed => observed.phase.as_str(),
    }
}

/// How a container stands, in one word.
pub fn container_state(state: &ContainerState) -> &'static str {
    match state {
        ContainerState::Waiting => "waiting",
        ContainerState::Running { .. } => "running",
        ContainerState::BackingOff { .. } => "backing-off",
        ContainerState::Ended => "ended",
    }
}

/// How a node stands, and whether replicas may come: `ready`, `down,drained`.
pub fn node_state(found: &NodeView) -> String {
    let scheduling = match &found.node.scheduling {
        Scheduling::Open => return found.reach.as_str().to_owned(),
        Scheduling::Cordoned { .. } => "cordoned",
        Scheduling::Draining { .. } if found.replicas == 0 => "drained",
        Scheduling::Draining { .. } => "draining",
    };
    format!("{},{scheduling}", found.reach.as_str())
}

/// A revision's fate, and why.
pub fn fate(status: &RevisionStatus) -> (&'static str, &str) {
    match status {
        RevisionStatus::Untried => ("untried", ""),
        RevisionStatus::Stable => ("stable", ""),
        RevisionStatus::Failed { reason } => ("failed", reason),
    }
}

pub fn restarts(seen: &Observed) -> u32 {
    seen.containers.iter().map(|container| container.restarts).sum()
}

/// The container that the replica is there for: always the last.
pub fn main_container(seen: &Observed) -> Option<&ContainerObserved> {
    seen.containers.last()
}

pub fn pid(container: &ContainerObserved) -> Option<u32> {
    match container.state {
        ContainerState::Running { pid, .. } => Some(pid),
        ContainerState::Waiting | ContainerState::BackingOff { .. } | ContainerState::Ended => None,
    }
}

/// `web.3`, with its namespace where that is not `default`.
pub fn slot_name(replica: &Replica) -> String {
    format!("{}.{}", replica.service, replica.slot)
}

/// How long it took from one moment to another; none while one of the two has not come yet.
pub fn took(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<String> {
    Some(roughly(to?.since(from?)))
}

pub fn mebibytes(bytes: u64) -> String {
    format!("{}Mi", bytes >> 20)
}

/// What is stored, roughly: `812Ki`, `109.6Mi`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0 => NOTHING.to_owned(),
        bytes if bytes < 1 << 20 => format!("{}Ki", bytes.div_ceil(1 << 10)),
        bytes if bytes < 1 << 30 => format!("{:.1}Mi", bytes as f64 / f64::from(1 << 20)),
        bytes => format!("{:.1}Gi", bytes as f64 / f64::from(1 << 30)),
    }
}
