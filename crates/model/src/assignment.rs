//! A node's share of the desired state, and how it travels.

use std::sync::Arc;

use crate::{Desired, Name, ReplicaId, ReplicaTemplate, RevisionNumber, ServiceKey, Slot};

/// All that a node needs to know of one replica to run it without asking again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub replica: ReplicaId,
    pub service: ServiceKey,
    pub slot: Slot,
    pub revision: RevisionNumber,
    pub desired: Desired,
    pub template: Arc<ReplicaTemplate>,
}

impl Assignment {
    /// The host name inside the replica: `web-3`.
    pub fn hostname(&self) -> String {
        host_name(&self.service.name, self.slot)
    }
}

/// A long service name is cut, so that the whole is a DNS label; Linux allows one character more.
fn host_name(service: &Name, slot: Slot) -> String {
    let slot = slot.to_string();
    let room = Name::MAX_LEN - slot.len() - 1;
    // Names are ASCII: every length is between two characters.
    let name = service.as_str().get(..room).unwrap_or(service.as_str());
    format!("{name}-{slot}")
}

/// One message of a session from the control plane to a node.
///
/// The first of a session is `Full`. Each `Increment` names the sequence number that it follows; an agent that
/// has another closes the session and gets a `Full` again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dispatch {
    Full { sequence: u64, assignments: Vec<Assignment> },
    Increment { follows: u64, sequence: u64, changed: Vec<Assignment>, removed: Vec<ReplicaId> },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_a_dns_label() {
        let hostname = |name: &str, slot| host_name(&Name::new(name).unwrap(), Slot::new(slot).unwrap());
        assert_eq!(hostname("web", 3), "web-3");
        let longest = "n".repeat(Name::MAX_LEN);
        assert_eq!(hostname(&longest, 7), format!("{}-7", "n".repeat(61)));
        assert_eq!(hostname(&longest, 1_000).len(), Name::MAX_LEN);
    }
}
