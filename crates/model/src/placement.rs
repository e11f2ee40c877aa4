//! Where the replicas of a service may be, and what becomes of them when their node is lost.

use std::collections::BTreeMap;

use crate::Millis;

/// Which nodes a service's replicas go to.
///
/// It belongs to the service and not to the replica template: where a replica runs does not change what it is. So a
/// change of it is no new revision; replicas that are where they may be stay, and only the others are moved. A rollback
/// goes back to what ran, not to where it ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacementRules {
    /// The labels that a node must have, each with this value.
    pub nodes: BTreeMap<String, String>,
    /// The label over whose values the replicas are spread as evenly as there is room. Nodes without it count as one
    /// more value.
    pub spread: Option<String>,
}

impl PlacementRules {
    /// Whether any node will do, and any spread.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.spread.is_none()
    }

    /// The first required label that a node with these labels lacks.
    pub fn lacking<'a>(&'a self, labels: &BTreeMap<String, String>) -> Option<(&'a str, &'a str)> {
        let lacks = |(key, value): &(&String, &String)| labels.get(*key) != Some(*value);
        self.nodes.iter().find(lacks).map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// When the replicas of a lost node are replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeLoss {
    /// From when the node counts as down to when its replicas are replaced; it may return until then.
    pub replace_after: Millis,
}

/// What becomes of a replica whose node has lost the control plane.
///
/// It is part of the replica template, so that it holds for all the life of a replica: the node and the control plane
/// can never disagree about it, however long they do not hear each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPartition {
    /// It goes on running; if its node counts as down it is replaced, and there may be two for a while.
    #[default]
    Continue,
    /// Its node stops it when its lease ends, and it is replaced only after that: there is never more than one.
    Stop,
}
