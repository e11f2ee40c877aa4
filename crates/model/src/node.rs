//! A node: a host with an agent.
//!
//! What its agent says ([`NodeInfo`]) and what was decided of it (labels, [`Scheduling`], [`Down`]) are kept in the log.
//! Whether it can be heard now is not: that is learned again by every leader.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use crate::{Bytes, MilliCpu, Name, NodeId, Subnet, Timestamp, Version};

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
    /// Where published ports are reached, and other nodes send to.
    pub address: Ipv4Addr,
    /// Of its replicas, as the agent was told or is in the middle of using; none until it has one.
    pub subnet: Option<Subnet>,
    /// Of the agent.
    pub agent_version: String,
}

/// What is in use of a host, by everything on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub cpu: MilliCpu,
    pub memory: Bytes,
}

/// A node as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub info: NodeInfo,
    /// Of its replicas: what its agent uses, or what the cluster gave it. None where the cluster has no more to give.
    pub subnet: Option<Subnet>,
    /// What users said over what the agent says: another value, or none.
    pub labels: BTreeMap<String, Option<String>>,
    pub scheduling: Scheduling,
    /// Decided by a leader that had not heard it for too long; taken back when it is heard.
    pub down: Option<Down>,
    pub registered_at: Timestamp,
    pub version: Version,
}

/// Whether new replicas may come to a node, and whether those it has may stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scheduling {
    #[default]
    Open,
    /// Nothing new comes; what is there stays.
    Cordoned { since: Timestamp, reason: Option<String> },
    /// Nothing new comes, and what is there is replaced elsewhere. It stays so once nothing is left.
    Draining {
        since: Timestamp,
        /// From then on replicas stop whether or not they could be replaced.
        deadline: Option<Timestamp>,
        reason: Option<String>,
    },
}

/// The node was not heard for so long that what it ran is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Down {
    pub since: Timestamp,
}

impl Node {
    /// Every node has this label with its name as the value, so that a service can be bound to one.
    pub const NAME_LABEL: &'static str = "wharf/name";

    pub fn new(info: NodeInfo, registered_at: Timestamp, version: Version) -> Node {
        let (labels, scheduling, down) = (BTreeMap::new(), Scheduling::Open, None);
        Node { subnet: info.subnet, info, labels, scheduling, down, registered_at, version }
    }

    /// What placement goes by: what the agent says, what users say over it, and the node's name.
    pub fn effective_labels(&self) -> BTreeMap<String, String> {
        let mut all = self.info.labels.clone();
        for (key, value) in &self.labels {
            match value {
                Some(value) => all.insert(key.clone(), value.clone()),
                None => all.remove(key),
            };
        }
        all.insert(Node::NAME_LABEL.to_owned(), self.info.name.to_string());
        all
    }
}

impl Scheduling {
    pub fn is_open(&self) -> bool {
        match self {
            Scheduling::Open => true,
            Scheduling::Cordoned { .. } | Scheduling::Draining { .. } => false,
        }
    }
}

/// Why a label of a node cannot be that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    #[error(
        "{0:?} is not a label's name: it has at most 253 letters, digits, `.`, `_`, `-` and `/`, with a letter or digit \
         at both ends"
    )]
    Name(String),
    #[error("the label {0} is the system's own; names that begin with `wharf/` cannot be set")]
    Reserved(String),
    #[error("{0:?} is not a label's value: it is one line of at most 253 characters")]
    Value(String),
}

/// Whether a label of a service or node can have this name.
pub fn is_label_name(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    let allowed = |c: char| edge(c) || matches!(c, '_' | '.' | '-' | '/');
    name.len() <= 253 && name.starts_with(edge) && name.ends_with(edge) && name.chars().all(allowed)
}

/// Whether users may set a label of a node that has this name.
pub fn check_label_name(name: &str) -> Result<(), LabelError> {
    if !is_label_name(name) {
        return Err(LabelError::Name(beginning(name)));
    }
    if name.starts_with("wharf/") { Err(LabelError::Reserved(name.to_owned())) } else { Ok(()) }
}

/// Whether a label of a node can have this value.
pub fn check_label_value(value: &str) -> Result<(), LabelError> {
    let fits = value.chars().count() <= 253 && !value.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(LabelError::Value(beginning(value))) }
}

/// Of what may be of any length, for a message.
fn beginning(text: &str) -> String {
    const SHOWN: usize = 64;
    let more = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
    text.chars().take(SHOWN).chain(more.chars()).collect()
}

/// A word on a node that people read in tables: `ready`, `down,draining`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A session is open.
    Ready,
    /// It is not heard, and that is all that is known. Its replicas go on running.
    Unknown,
    /// It was not heard for so long that its replicas are replaced.
    Down,
}

impl Reach {
    pub fn as_str(self) -> &'static str {
        match self {
            Reach::Ready => "ready",
            Reach::Unknown => "unknown",
            Reach::Down => "down",
        }
    }
}

/// Why a node is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// This leader is new, and the node has not come to it yet.
    NotHeardYet,
    /// Its session ended and no other was opened.
    SessionEnded,
    /// Its session stood, but nothing came.
    SaidNothing,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Silence::NotHeardYet => "its agent has not opened a session with the present leader yet",
            Silence::SessionEnded => "the session of its agent ended, and no other was opened",
            Silence::SaidNothing => "its agent's session stood open, but nothing came",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(labels: &[(&str, &str)]) -> Node {
        let info = NodeInfo {
            id: NodeId(1),
            name: Name::new("host-1").unwrap(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            cpu: MilliCpu(1_000),
            memory: Bytes(1 << 30),
            address: Ipv4Addr::LOCALHOST,
            subnet: None,
            agent_version: "0.1.0".to_owned(),
        };
        Node::new(info, Timestamp(0), Version(1))
    }

    #[test]
    fn users_have_the_last_word_on_labels() {
        let mut node = node(&[("zone", "a"), ("disk", "hdd")]);
        node.labels.insert("disk".to_owned(), Some("ssd".to_owned()));
        node.labels.insert("zone".to_owned(), None);
        let shown: Vec<String> = node.effective_labels().iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(shown, ["disk=ssd", "wharf/name=host-1"]);
    }

    #[test]
    fn the_names_of_labels_are_checked() {
        for good in ["disk", "a", "example.org/zone_1"] {
            assert_eq!(check_label_name(good), Ok(()), "{good}");
        }
        for wrong in ["", "-a", "a b", "wharf/name", &"x".repeat(254)] {
            assert!(check_label_name(wrong).is_err(), "{wrong}");
        }
    }
}
