//! What users and the leader decide of nodes, and how the cluster is run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{
    Desired, Down, Event, EventKind, Millis, Node, NodeId, ReplicaId, Scheduling, Timestamp, waiting::roughly,
};

use super::{Changes, Outcome, Rejected};
use crate::{NodeChange, State};

impl State {
    pub(super) fn change_node(
        &mut self,
        id: NodeId,
        change: NodeChange,
        at: Timestamp,
    ) -> Result<(Outcome, Changes), Rejected> {
        let node = self.nodes.get(&id).cloned().ok_or(Rejected::NoNode(id))?;
        if let NodeChange::Remove { force } = change {
            return self.remove_node(&node, force, at);
        }
        let mut next = Node::clone(&node);
        let words = decide(&mut next, change, at);
        if next == *node {
            return Ok((Outcome::Done, Changes::default()));
        }
        if let Some(words) = words {
            self.tell_of_node(&node, words, at);
        }
        next.version = self.version;
        self.nodes.insert(id, Arc::new(next));
        Ok((Outcome::Done, self.changes_at(id)))
    }

    /// Everything that runs or should run on the node is looked at again.
    fn changes_at(&self, id: NodeId) -> Changes {
        let services = self.replicas_on(id).map(|replica| replica.service.clone()).collect();
        Changes { services, nodes: BTreeSet::from([id]), ..Changes::default() }
    }

    /// Its replicas are forgotten: nobody is left who could say that they are gone.
    fn remove_node(
        &mut self,
        node: &Node,
        force: bool,
        at: Timestamp,
    ) -> Result<(Outcome, Changes), Rejected> {
        let id = node.info.id;
        let runs = self.replicas_on(id).filter(|replica| replica.desired != Desired::Stopped).count() as u32;
        let is_drained = matches!(node.scheduling, Scheduling::Draining { .. }) && runs == 0;
        if !force && node.down.is_none() && !is_drained {
            let name = node.info.name.clone();
            return Err(Rejected::NodeInUse { node: id, name, replicas: runs });
        }
        let mut changes = self.changes_at(id);
        changes.forgotten = self.replicas_on(id).map(|replica| replica.id).collect::<BTreeSet<ReplicaId>>();
        for replica in &changes.forgotten {
            self.drop_replica(*replica);
        }
        for service in &changes.services {
            self.touch_service(service);
        }
        self.tell_of_node(node, "removed".to_owned(), at);
        self.nodes.remove(&id);
        self.removed_nodes.insert(id, at);
        Ok((Outcome::Done, changes))
    }

    pub(super) fn configure(&mut self, node_lost_after: Millis, at: Timestamp) -> (Outcome, Changes) {
        let before = self.settings.node_lost_after;
        if before != node_lost_after {
            let change = format!("nodes are lost after {node_lost_after} instead of {before}");
            self.record(Event { at, service: None, kind: EventKind::SettingsChanged { change } });
        }
        self.settings.node_lost_after = node_lost_after;
        self.settings.longest_lease = self.settings.longest_lease.max(node_lost_after);
        (Outcome::Done, Changes::default())
    }

    pub(super) fn tell_of_node(&mut self, node: &Node, change: String, at: Timestamp) {
        let kind = EventKind::NodeChanged { node: node.info.id, name: node.info.name.clone(), change };
        self.record(Event { at, service: None, kind });
    }
}

/// Makes the change to the node; returns what is told of it.
fn decide(node: &mut Node, change: NodeChange, at: Timestamp) -> Option<String> {
    let because = |reason: &Option<String>| reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
    match change {
        NodeChange::Down { silent_for } => {
            node.down.get_or_insert(Down { since: at });
            Some(format!("is down: not heard for {}", roughly(silent_for)))
        }
        NodeChange::Up => {
            node.down = None;
            Some("is back".to_owned())
        }
        NodeChange::Cordon { reason } => {
            let words = format!("cordoned{}", because(&reason));
            if let Scheduling::Open = node.scheduling {
                node.scheduling = Scheduling::Cordoned { since: at, reason };
            }
            Some(words)
        }
        NodeChange::Uncordon => {
            node.scheduling = Scheduling::Open;
            Some("uncordoned".to_owned())
        }
        NodeChange::Drain { deadline, reason } => {
            let since = match node.scheduling {
                Scheduling::Draining { since, .. } => since,
                Scheduling::Open | Scheduling::Cordoned { .. } => at,
            };
            let words = format!("is being drained{}", because(&reason));
            node.scheduling = Scheduling::Draining { since, deadline, reason };
            Some(words)
        }
        NodeChange::Label { set, unset } => Some(relabel(node, set, unset)),
        NodeChange::Remove { .. } => unreachable!("a node that goes is not changed"),
    }
}

fn relabel(node: &mut Node, set: BTreeMap<String, String>, unset: BTreeSet<String>) -> String {
    let gone = unset.iter().map(|key| format!("{key}-"));
    let words: Vec<String> = set.iter().map(|(key, value)| format!("{key}={value}")).chain(gone).collect();
    for (key, value) in set {
        node.labels.insert(key, Some(value));
    }
    for key in unset {
        // What the agent says goes on being said: it is covered, not forgotten.
        match node.info.labels.contains_key(&key) {
            true => node.labels.insert(key, None),
            false => node.labels.remove(&key),
        };
    }
    format!("labelled {}", words.join(" "))
}
