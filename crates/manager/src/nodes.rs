//! Nodes: which are heard, which are lost, and what users decide of them.
//!
//! A node is *ready* while it has a session, *unknown* from when that ended, and *down* once it was not heard for as long
//! as the cluster's settings say. The first two are this leader's own knowledge; a new leader begins with every node
//! unknown and gives each the full time. Down is decided once, in the log: what follows from it, replicas that are
//! replaced elsewhere, is in the log too.
//!
//! A server that did not run could hear nobody. So time in which it did not take a step counts for no node.

use model::{Millis, NodeId, Silence, Timestamp};
use store::{Command, NodeChange};

use crate::{
    Codec, Manager, NodeRequest, Reply, RequestError, RequestId, alarms::Alarms, leader::TRY_AGAIN,
    proposals::Origin,
};

/// A shell takes a step many times a second. A longer pause than this means that it was stopped, or starved.
const PAUSE: Millis = Millis(2_000);

/// What a leader remembers of nodes beyond what it observed.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    /// When nodes that are not heard count as down, or when what could not be written of one is tried again.
    lost_at: Alarms<NodeId>,
    /// When this leader last took a step; none before its first.
    last_step: Option<Timestamp>,
}

impl Nodes {
    /// The same, by another reckoning of the time.
    pub(crate) fn translate(&mut self, to: impl Fn(Timestamp) -> Timestamp) {
        self.lost_at.translate(&to);
        self.last_step = self.last_step.map(to);
    }

    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        self.lost_at.next()
    }
}

impl<C: Codec> Manager<C> {
    /// Declares lost whom nobody heard for long enough; says whether there was any.
    pub(crate) fn watch_nodes(&mut self, now: Timestamp) -> bool {
        match self.leader.nodes.last_step.replace(now) {
            None => self.expect_all_nodes(now),
            Some(last) if now.since(last) > PAUSE => self.give_more_time(now.since(last)),
            Some(_) => {}
        }
        let due = self.leader.nodes.lost_at.due(now);
        for node in &due {
            self.decide_what_is_due(now, *node);
        }
        !due.is_empty()
    }

    /// A new leader has heard nobody yet.
    fn expect_all_nodes(&mut self, now: Timestamp) {
        let nodes: Vec<NodeId> = self.state.nodes().map(|node| node.info.id).collect();
        for node in nodes {
            self.miss_node(node, now, Silence::NotHeardYet);
        }
    }

    fn give_more_time(&mut self, pause: Millis) {
        let silent: Vec<(NodeId, Timestamp, Silence)> = self
            .observed
            .nodes()
            .filter_map(|(node, report)| Some((*node, report.since, report.silence?)))
            .collect();
        self.excuse_sessions(pause);
        tracing::warn!(
            pause_ms = pause.0,
            "this server did not run for a while; nodes are not blamed for it"
        );
        for (node, since, silence) in silent {
            self.miss_node(node, since + pause, silence);
        }
    }

    /// The node is not heard since then.
    pub(crate) fn miss_node(&mut self, node: NodeId, since: Timestamp, silence: Silence) {
        // With what is on its way into the log: a node may go in the moment in which it is written that it came.
        let Some(is_down) = self.ahead().node(node).map(|known| known.down.is_some()) else { return };
        let lost_after = self.state.settings().node_lost_after;
        let lost_at = (!is_down).then_some(since + lost_after);
        self.observed.set_silent(node, since, silence);
        self.leader.nodes.lost_at.set(&node, lost_at);
        self.look_at_node(node);
    }

    /// The node has opened a session.
    pub(crate) fn node_is_heard(&mut self, now: Timestamp, node: NodeId) {
        self.leader.nodes.lost_at.set(&node, None);
        if self.ahead().node(node).is_some_and(|node| node.down.is_some()) {
            self.decide_of_node(now, node, NodeChange::Up);
        }
    }

    pub(crate) fn node_is_gone(&mut self, node: NodeId) {
        self.leader.nodes.lost_at.set(&node, None);
        self.observed.forget_node(node);
        self.bid_farewell(node);
    }

    fn decide_what_is_due(&mut self, now: Timestamp, node: NodeId) {
        match self.observed.silent_since(node) {
            Some(since) => {
                self.decide_of_node(now, node, NodeChange::Down { silent_for: now.since(since) });
            }
            // It is back, and the log did not take that.
            None if self.observed.is_ready(node) => self.node_is_heard(now, node),
            None => {}
        }
    }

    fn decide_of_node(&mut self, now: Timestamp, node: NodeId, change: NodeChange) {
        if let Err(error) = self.try_and_propose(Command::Node { node, change, at: now }, Origin::Nobody) {
            tracing::warn!(%error, %node, "what was decided of a node could not be proposed");
            // A node that is back and still counts as down gets no replicas, and no connections from other nodes.
            self.leader.nodes.lost_at.set(&node, Some(now + TRY_AGAIN));
        }
    }

    /// What a user asks of a node.
    pub(crate) fn node_request(
        &mut self,
        now: Timestamp,
        id: RequestId,
        node: NodeId,
        asked: NodeRequest,
    ) -> Result<(), RequestError> {
        let change = match asked {
            NodeRequest::Cordon { reason } => NodeChange::Cordon { reason },
            NodeRequest::Uncordon => NodeChange::Uncordon,
            NodeRequest::Drain { within, reason } => {
                NodeChange::Drain { deadline: within.map(|within| now + within), reason }
            }
            NodeRequest::Label { set, unset } => NodeChange::Label { set, unset },
            NodeRequest::Remove { force } => NodeChange::Remove { force },
        };
        self.propose_for(id, Command::Node { node, change, at: now })
    }

    pub(crate) fn propose_for(&mut self, id: RequestId, command: Command) -> Result<(), RequestError> {
        self.try_and_propose(command, Origin::User { id, reply: Reply { applied: Vec::new() } })
    }
}
