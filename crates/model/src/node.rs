//! A node: a host with an agent.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::{Bytes, MilliCpu, Name, NodeId, Timestamp, Version};

/// What an agent says of its host when a session opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    pub id: NodeId,
    /// The host name, made a DNS label.
    pub name: Name,
    pub labels: BTreeMap<String, String>,
    /// What replicas may use: all of the host, less what is kept for the system.
    pub cpu: MilliCpu,
    pub memory: Bytes,
    /// Where published ports are reached.
    pub address: Ipv4Addr,
    /// Of the agent.
    pub agent_version: String,
}

/// A node as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub info: NodeInfo,
    pub registered_at: Timestamp,
    pub version: Version,
}
