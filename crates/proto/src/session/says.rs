//! What agents say. These types exist only between the shells and here: the cores know what is in them.

use model::{
    Belief, Bytes, Digest, Event, EventKind, Exit, Level, MilliCpu, Name, NodeId, NodeInfo, Observed,
    ReplicaId, ServiceKey, Slot, Stop, Timestamp, Usage,
};

use crate::{
    error::{DecodeError, Within},
    field, trust,
    v1::{self, agent_message::Message},
};

/// One message of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentSays {
    /// The first of a session, and only the first.
    Hello(Hello),
    Report(Report),
    /// All images on the node: reference and manifest digest.
    Images(Vec<(String, Digest)>),
    /// The number grows with each of a session.
    Heartbeat {
        number: u64,
        usage: Option<Usage>,
    },
    /// The agent holds all assignments up to this sequence number durably.
    Acknowledged {
        sequence: u64,
    },
    /// Whom the host believes, and by whom its certificate is.
    Believes(NodeId, Belief),
    /// Instead of a hello, by an agent that has no subnet yet: see [`crate::PROTOCOL_VERSION`].
    Introduction {
        protocol_version: u64,
        node: NodeInfo,
    },
    /// The directory of this version is in force here.
    InForce {
        version: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// See [`crate::PROTOCOL_VERSION`].
    pub protocol_version: u64,
    pub node: NodeInfo,
    /// All replicas that the node knows of: one that is not here is not there.
    pub observed: Vec<Observed>,
    pub images: Vec<(String, Digest)>,
    /// What the agent knows.
    pub level: Level,
    /// What the agent's clock shows, which all times in this are by. None of an agent of a version that does not say.
    pub said_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The replicas that changed.
    pub observed: Vec<Observed>,
    pub exits: Vec<ContainerExit>,
    /// As in [`Hello`].
    pub said_at: Option<Timestamp>,
}

/// A container ended: what a later report would not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerExit {
    pub replica: ReplicaId,
    pub slot: Slot,
    pub service: ServiceKey,
    pub container: Name,
    pub exit: Exit,
    /// How often the container was started again before this exit.
    pub restarts: u32,
    /// None if it ended by itself.
    pub stop: Option<Stop>,
}

/// For the log: an exit is an event at its own time.
impl From<ContainerExit> for Event {
    fn from(exited: ContainerExit) -> Event {
        let ContainerExit { replica, slot, service, container, exit, restarts, stop } = exited;
        let at = exit.at;
        let kind = EventKind::ContainerExited { replica, slot, container, exit, restarts, stop };
        Event { at, service: Some(service), kind }
    }
}

/// The same from the wire, where a server has no other use for an exit.
impl TryFrom<v1::ContainerExit> for Event {
    type Error = DecodeError;
    fn try_from(wire: v1::ContainerExit) -> Result<Self, DecodeError> {
        ContainerExit::try_from(wire).map(Event::from)
    }
}

impl From<&AgentSays> for v1::AgentMessage {
    fn from(says: &AgentSays) -> Self {
        let images = |images: &[(String, Digest)]| images.iter().map(Into::into).collect();
        let message = match says {
            AgentSays::Hello(hello) => Message::Hello(v1::Hello {
                protocol_version: hello.protocol_version,
                node: Some((&hello.node).into()),
                observed: hello.observed.iter().map(Into::into).collect(),
                images: images(&hello.images),
                level: hello.level.0,
                said_at_unix_ms: hello.said_at.map(|at| at.0),
            }),
            AgentSays::Report(report) => Message::Report(v1::Report {
                observed: report.observed.iter().map(Into::into).collect(),
                exits: report.exits.iter().map(Into::into).collect(),
                said_at_unix_ms: report.said_at.map(|at| at.0),
            }),
            AgentSays::Images(all) => Message::Images(v1::Images { images: images(all) }),
            AgentSays::Heartbeat { number, usage } => {
                Message::Heartbeat(v1::Heartbeat { number: *number, usage: usage.map(Into::into) })
            }
            AgentSays::Acknowledged { sequence } => {
                Message::Acknowledged(v1::Acknowledged { sequence: *sequence })
            }
            AgentSays::Believes(host, belief) => Message::Believes(trust::belief_of(*host, *belief)),
            AgentSays::Introduction { protocol_version, node } => Message::Introduction(v1::Introduction {
                protocol_version: *protocol_version,
                node: Some(node.into()),
            }),
            AgentSays::InForce { version } => Message::InForce(v1::InForce { version: *version }),
        };
        v1::AgentMessage { message: Some(message) }
    }
}

impl TryFrom<v1::AgentMessage> for AgentSays {
    type Error = DecodeError;
    fn try_from(wire: v1::AgentMessage) -> Result<Self, DecodeError> {
        Ok(match field::kind(wire.message, "message")? {
            Message::Hello(hello) => AgentSays::Hello(hello.try_into().within("hello")?),
            Message::Report(report) => AgentSays::Report(Report {
                observed: field::list(report.observed, "report.observed")?,
                exits: field::list(report.exits, "report.exits")?,
                said_at: report.said_at_unix_ms.map(Timestamp),
            }),
            Message::Images(all) => AgentSays::Images(field::list(all.images, "images.images")?),
            Message::Heartbeat(heartbeat) => {
                let usage = heartbeat.usage.map(Into::into);
                AgentSays::Heartbeat { number: heartbeat.number, usage }
            }
            Message::Acknowledged(acknowledged) => {
                AgentSays::Acknowledged { sequence: acknowledged.sequence }
            }
            Message::Believes(belief) => {
                let (host, belief) = trust::read_belief(belief).within("believes")?;
                AgentSays::Believes(host, belief)
            }
            Message::Introduction(introduction) => AgentSays::Introduction {
                protocol_version: introduction.protocol_version,
                node: field::required(introduction.node, "introduction.node")?,
            },
            Message::InForce(in_force) => AgentSays::InForce { version: in_force.version },
        })
    }
}

impl From<Usage> for v1::Usage {
    fn from(usage: Usage) -> Self {
        v1::Usage { cpu_millicores: usage.cpu.0, memory_bytes: usage.memory.0 }
    }
}

impl From<v1::Usage> for Usage {
    fn from(wire: v1::Usage) -> Usage {
        Usage { cpu: MilliCpu(wire.cpu_millicores), memory: Bytes(wire.memory_bytes) }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = DecodeError;
    fn try_from(wire: v1::Hello) -> Result<Self, DecodeError> {
        Ok(Hello {
            protocol_version: wire.protocol_version,
            node: field::required(wire.node, "node")?,
            observed: field::list(wire.observed, "observed")?,
            images: field::list(wire.images, "images")?,
            level: Level::said(wire.level),
            said_at: wire.said_at_unix_ms.map(Timestamp),
        })
    }
}

impl From<&ContainerExit> for v1::ContainerExit {
    fn from(exited: &ContainerExit) -> Self {
        v1::ContainerExit {
            replica: exited.replica.0,
            slot: exited.slot.get(),
            service: Some((&exited.service).into()),
            container: exited.container.to_string(),
            exit: Some((&exited.exit).into()),
            restarts: exited.restarts,
            stop: exited.stop.map(Into::into),
        }
    }
}

impl TryFrom<v1::ContainerExit> for ContainerExit {
    type Error = DecodeError;
    fn try_from(wire: v1::ContainerExit) -> Result<Self, DecodeError> {
        Ok(ContainerExit {
            replica: ReplicaId(wire.replica),
            slot: field::slot(wire.slot)?,
            service: field::required(wire.service, "service")?,
            container: field::parsed(&wire.container, "container")?,
            exit: field::required(wire.exit, "exit")?,
            restarts: wire.restarts,
            stop: wire.stop.map(Into::into),
        })
    }
}
