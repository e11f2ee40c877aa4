//! Nodes, what is decided of them, and how the cluster is run.

use std::net::Ipv4Addr;

use model::{
    Bytes, Down, MilliCpu, Millis, Node, NodeId, NodeInfo, Reach, ReplicaRange, Scheduling, Settings,
    Timestamp, Version,
};
use store::NodeChange;

use crate::{error::DecodeError, field, v1};

impl From<&NodeInfo> for v1::NodeInfo {
    fn from(info: &NodeInfo) -> Self {
        v1::NodeInfo {
            id: info.id.0,
            name: info.name.to_string(),
            labels: info.labels.clone(),
            cpu_millicores: info.cpu.0,
            memory_bytes: info.memory.0,
            address_ipv4: info.address.into(),
            agent_version: info.agent_version.clone(),
            subnet: info.subnet.map(Into::into),
        }
    }
}

impl TryFrom<v1::NodeInfo> for NodeInfo {
    type Error = DecodeError;
    fn try_from(wire: v1::NodeInfo) -> Result<Self, DecodeError> {
        Ok(NodeInfo {
            id: NodeId(wire.id),
            name: field::parsed(&wire.name, "name")?,
            labels: wire.labels,
            cpu: MilliCpu(wire.cpu_millicores),
            memory: Bytes(wire.memory_bytes),
            address: Ipv4Addr::from(wire.address_ipv4),
            agent_version: wire.agent_version,
            subnet: field::optional(wire.subnet, "subnet")?,
        })
    }
}

impl From<&Node> for v1::Node {
    fn from(node: &Node) -> Self {
        let set = |(key, value): (&String, &Option<String>)| Some((key.clone(), value.clone()?));
        let hidden = node.labels.iter().filter(|(_, value)| value.is_none());
        v1::Node {
            info: Some((&node.info).into()),
            registered_at_unix_ms: node.registered_at.0,
            version: node.version.0,
            labels: node.labels.iter().filter_map(set).collect(),
            hidden_labels: hidden.map(|(key, _)| key.clone()).collect(),
            scheduling: scheduling(&node.scheduling),
            down_since_unix_ms: node.down.map(|down| down.since.0),
            subnet: node.subnet.map(Into::into),
        }
    }
}

impl TryFrom<v1::Node> for Node {
    type Error = DecodeError;
    fn try_from(wire: v1::Node) -> Result<Self, DecodeError> {
        let set = wire.labels.into_iter().map(|(key, value)| (key, Some(value)));
        let hidden = wire.hidden_labels.into_iter().map(|key| (key, None));
        Ok(Node {
            info: field::required(wire.info, "info")?,
            labels: set.chain(hidden).collect(),
            scheduling: read_scheduling(wire.scheduling),
            down: wire.down_since_unix_ms.map(|since| Down { since: Timestamp(since) }),
            registered_at: Timestamp(wire.registered_at_unix_ms),
            version: Version(wire.version),
            subnet: field::optional(wire.subnet, "subnet")?,
        })
    }
}

fn scheduling(scheduling: &Scheduling) -> Option<v1::node::Scheduling> {
    use v1::node::{Cordoned, Draining, Scheduling as Wire};
    match scheduling {
        Scheduling::Open => None,
        Scheduling::Cordoned { since, reason } => {
            Some(Wire::Cordoned(Cordoned { since_unix_ms: since.0, reason: reason.clone() }))
        }
        Scheduling::Draining { since, deadline, reason } => Some(Wire::Draining(Draining {
            since_unix_ms: since.0,
            deadline_unix_ms: deadline.map(|at| at.0),
            reason: reason.clone(),
        })),
    }
}

fn read_scheduling(wire: Option<v1::node::Scheduling>) -> Scheduling {
    use v1::node::Scheduling as Wire;
    match wire {
        None => Scheduling::Open,
        Some(Wire::Cordoned(cordoned)) => {
            Scheduling::Cordoned { since: Timestamp(cordoned.since_unix_ms), reason: cordoned.reason }
        }
        Some(Wire::Draining(draining)) => Scheduling::Draining {
            since: Timestamp(draining.since_unix_ms),
            deadline: draining.deadline_unix_ms.map(Timestamp),
            reason: draining.reason,
        },
    }
}

impl From<&NodeChange> for v1::NodeChange {
    fn from(change: &NodeChange) -> Self {
        use v1::node_change::{Cordon, Down, Drain, Kind, Label, Remove, Uncordon, Up};
        let kind = match change {
            NodeChange::Down { silent_for } => Kind::Down(Down { silent_for_ms: silent_for.0 }),
            NodeChange::Up => Kind::Up(Up {}),
            NodeChange::Cordon { reason } => Kind::Cordon(Cordon { reason: reason.clone() }),
            NodeChange::Uncordon => Kind::Uncordon(Uncordon {}),
            NodeChange::Drain { deadline, reason } => {
                Kind::Drain(Drain { deadline_unix_ms: deadline.map(|at| at.0), reason: reason.clone() })
            }
            NodeChange::Label { set, unset } => {
                Kind::Label(Label { set: set.clone(), unset: unset.iter().cloned().collect() })
            }
            NodeChange::Remove { force } => Kind::Remove(Remove { force: *force }),
        };
        v1::NodeChange { kind: Some(kind) }
    }
}

impl TryFrom<v1::NodeChange> for NodeChange {
    type Error = DecodeError;
    fn try_from(wire: v1::NodeChange) -> Result<Self, DecodeError> {
        use v1::node_change::Kind;
        Ok(match field::kind(wire.kind, "kind")? {
            Kind::Down(down) => NodeChange::Down { silent_for: Millis(down.silent_for_ms) },
            Kind::Up(_) => NodeChange::Up,
            Kind::Cordon(cordon) => NodeChange::Cordon { reason: cordon.reason },
            Kind::Uncordon(_) => NodeChange::Uncordon,
            Kind::Drain(drain) => {
                NodeChange::Drain { deadline: drain.deadline_unix_ms.map(Timestamp), reason: drain.reason }
            }
            Kind::Label(label) => {
                NodeChange::Label { set: label.set, unset: label.unset.into_iter().collect() }
            }
            Kind::Remove(remove) => NodeChange::Remove { force: remove.force },
        })
    }
}

impl From<&Settings> for v1::Settings {
    fn from(settings: &Settings) -> Self {
        let range = Some(settings.replica_range).filter(|range| *range != ReplicaRange::default());
        v1::Settings {
            node_lost_after_ms: settings.node_lost_after.0,
            longest_lease_ms: settings.longest_lease.0,
            replica_range: range.map(Into::into),
        }
    }
}

impl TryFrom<v1::Settings> for Settings {
    type Error = DecodeError;
    fn try_from(wire: v1::Settings) -> Result<Settings, DecodeError> {
        Ok(Settings {
            node_lost_after: Millis(wire.node_lost_after_ms),
            longest_lease: Millis(wire.longest_lease_ms),
            replica_range: field::optional(wire.replica_range, "replica_range")?.unwrap_or_default(),
        })
    }
}

impl From<Reach> for v1::node_status::Readiness {
    fn from(reach: Reach) -> Self {
        match reach {
            Reach::Ready => Self::Ready,
            Reach::Unknown => Self::Unknown,
            Reach::Down => Self::Down,
        }
    }
}

impl From<v1::node_status::Readiness> for Reach {
    /// What a newer server knows and this program does not is unknown to it.
    fn from(wire: v1::node_status::Readiness) -> Self {
        use v1::node_status::Readiness;
        match wire {
            Readiness::Ready => Reach::Ready,
            Readiness::Down => Reach::Down,
            Readiness::Unknown | Readiness::Unspecified => Reach::Unknown,
        }
    }
}
