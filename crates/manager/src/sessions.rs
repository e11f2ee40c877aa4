//! Agents: who has a session, and what they say. What they are told is in `dispatch`.
//!
//! A node has one session, the last that it opened.

mod dispatch;
mod heartbeats;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{
    Desired, Event, EventKind, Millis, Name, Node, NodeId, NodeInfo, Observed, Phase, Replica, ReplicaId,
    ServiceKey, Silence, Timestamp,
};
use store::{Command, NodeStatus};

use crate::{
    Codec, Effect, Hello, Manager, Report, RequestError, SessionId, clock::Ago, images::named,
    proposals::Origin,
};

const REMOVED: &str = "this node was removed from the cluster, and nothing of it runs any more; to let it join again as a \
                       new node, stop the agent, remove the file `identity` from its data folder and start it";
pub(crate) const NOT_LEADER: &str = "this server does not lead the cluster";

/// A server that does not lead has none.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: BTreeMap<SessionId, Session>,
    by_node: BTreeMap<NodeId, SessionId>,
    /// Nodes whose assignments may differ from what they were told.
    dirty: BTreeSet<NodeId>,
    /// Heartbeats that are to be answered, by their numbers, once their nodes were told what they shall run.
    confirmed: Vec<(SessionId, u64)>,
}

#[derive(Debug)]
struct Session {
    node: NodeId,
    /// When it last said anything.
    heard_at: Timestamp,
    sequence: u64,
    /// This server was known to lead after the session was opened.
    is_confirmed: bool,
    /// What the agent was told, to tell it only what changed; none before the full set was sent.
    told: Option<BTreeMap<ReplicaId, Desired>>,
    /// The version of the directory that the agent was told last.
    told_directory: Option<u64>,
    /// The version that it goes by; none of an agent that knows no directory.
    in_force: Option<u64>,
    /// Of a node that was removed: what it still has. It is told to have nothing, and then the session ends.
    farewell: Option<BTreeSet<ReplicaId>>,
}

impl<C: Codec> Manager<C> {
    pub(crate) fn open_session(&mut self, now: Timestamp, session: SessionId, hello: Hello) {
        let node = hello.info.id;
        if !self.leader.leads() {
            return self.turn_away(session, NOT_LEADER.to_owned());
        }
        // An agent of a version without a directory never learned that it has a subnet.
        let balances = hello.info.subnet.is_some();
        let removed = self.ahead().node_removed_at(node).is_some();
        if removed {
            tracing::warn!(%node, name = %hello.info.name, "a node that was removed has come back; it is told to stop");
        } else if let Err(error) = self.register(now, hello.info) {
            return self.turn_away(session, error.to_string());
        }
        if let Some(old) = self.sessions.by_node.insert(node, session) {
            self.sessions.open.remove(&old);
            self.turn_away(old, "the node opened another session".to_owned());
        }
        let ago = Ago::new(hello.said_at, now);
        let left = hello.observed.iter().filter(|one| one.phase != Phase::Removed).map(|one| one.replica);
        let farewell = removed.then(|| left.collect());
        let opened = Session {
            node,
            heard_at: now,
            sequence: 0,
            is_confirmed: false,
            told: None,
            told_directory: None,
            in_force: balances.then_some(0),
            farewell,
        };
        self.sessions.open.insert(session, opened);
        self.confirm_for_session(session, self.stops_up_to(node));
        if removed {
            return self.end_farewell(session);
        }
        self.observed.set_node(node, NodeStatus::Ready, now);
        self.observed.set_images(node, named(hello.images));
        self.observed.set_level(node, hello.level);
        self.forget_unsaid(node, &hello.observed);
        self.observe(node, hello.observed, ago);
        self.node_is_heard(now, node);
        self.look_at_node(node);
    }

    /// An agent that has no subnet yet: it registers, and waits until it has one.
    pub(crate) fn introduce_node(&mut self, now: Timestamp, session: SessionId, info: NodeInfo) {
        let node = info.id;
        if !self.leader.leads() {
            return self.turn_away(session, NOT_LEADER.to_owned());
        }
        if self.ahead().node_removed_at(node).is_some() {
            return self.turn_away(session, REMOVED.to_owned());
        }
        match self.register(now, info) {
            Ok(()) => self.introduce(session, node),
            Err(error) => self.turn_away(session, error.to_string()),
        }
    }

    /// Where an agent says something new of its host, or the node has no subnet: there may be one now.
    fn register(&mut self, now: Timestamp, info: NodeInfo) -> Result<(), RequestError> {
        let is_known = |known: &Arc<Node>| known.info == info && known.subnet.is_some();
        if self.ahead().node(info.id).is_some_and(is_known) {
            return Ok(());
        }
        self.try_and_propose(Command::Register { info, at: now }, Origin::Nobody)
    }

    /// What this server has applied is what the cluster has decided, as of some moment after the session was opened.
    pub(crate) fn session_is_confirmed(&mut self, session: SessionId) {
        if let Some(open) = self.sessions.open.get_mut(&session) {
            open.is_confirmed = true;
            self.sessions.dirty.insert(open.node);
            self.directory.has_reader();
        }
    }

    /// Once a node that was removed has nothing left, it is told why nothing more comes.
    fn end_farewell(&mut self, session: SessionId) {
        let Some(open) = self.sessions.open.get(&session) else { return };
        if !open.farewell.as_ref().is_some_and(BTreeSet::is_empty) {
            return;
        }
        let node = open.node;
        self.sessions.open.remove(&session);
        self.sessions.by_node.remove(&node);
        self.turn_away(session, REMOVED.to_owned());
    }

    /// The agent goes by the directory of this version.
    pub(crate) fn goes_by(&mut self, now: Timestamp, session: SessionId, version: u64) {
        let Some(open) = self.sessions.open.get_mut(&session) else { return };
        open.heard_at = now;
        if let Some(in_force) = &mut open.in_force {
            *in_force = version.max(*in_force);
        }
    }

    /// Nobody could be heard for so long, whoever spoke.
    pub(crate) fn excuse_sessions(&mut self, pause: Millis) {
        self.sessions.open.values_mut().for_each(|open| open.heard_at = open.heard_at + pause);
    }

    pub(crate) fn report(&mut self, now: Timestamp, session: SessionId, report: Report) {
        let Some(open) = self.sessions.open.get_mut(&session) else { return };
        open.heard_at = now;
        let node = open.node;
        if let Some(left) = &mut open.farewell {
            for one in report.observed.iter().filter(|one| one.phase == Phase::Removed) {
                left.remove(&one.replica);
            }
            return self.end_farewell(session);
        }
        if let Some(images) = report.images {
            self.observed.set_images(node, named(images));
        }
        let ago = Ago::new(report.said_at, now);
        self.observe(node, report.observed, ago);
        self.record_exits(node, report.exits, ago);
        self.view_changed = true;
    }

    pub(crate) fn close_session(&mut self, now: Timestamp, session: SessionId) {
        if self.forget_introduction(session) {
            return;
        }
        // One that was replaced is not there any more: its node has another.
        let Some(Session { node, heard_at, .. }) = self.sessions.open.remove(&session) else { return };
        self.sessions.by_node.remove(&node);
        let said_nothing = now.since(heard_at) >= self.state.settings().silence();
        let silence = if said_nothing { Silence::SaidNothing } else { Silence::SessionEnded };
        self.miss_node(node, heard_at, silence);
    }

    /// A user removed the node while it had a session.
    pub(crate) fn bid_farewell(&mut self, node: NodeId) {
        let Some(id) = self.sessions.by_node.get(&node).copied() else { return };
        if let Some(open) = self.sessions.open.get_mut(&id) {
            open.farewell = Some(open.told.iter().flat_map(BTreeMap::keys).copied().collect());
        }
        self.sessions.dirty.insert(node);
        self.end_farewell(id);
    }

    pub(crate) fn close_all_sessions(&mut self, reason: &str) {
        for session in std::mem::take(&mut self.sessions).open.into_keys() {
            self.turn_away(session, reason.to_owned());
        }
        self.close_directory(reason);
    }

    pub(crate) fn turn_away(&mut self, session: SessionId, reason: String) {
        self.effects.push(Effect::CloseSession { session, reason });
    }

    /// A node came or went: what it has, and what has no place, is looked at again.
    pub(crate) fn look_at_node(&mut self, node: NodeId) {
        let services: Vec<ServiceKey> =
            self.state.replicas_on(node).map(|replica| replica.service.clone()).collect();
        self.mark_dirty(services);
        self.place_again();
        self.directory.touch([node]);
        self.view_changed = true;
    }

    /// A hello says everything that the node knows. What it does not mention is not as it was last seen.
    fn forget_unsaid(&mut self, node: NodeId, said: &[Observed]) {
        let said: BTreeSet<ReplicaId> = said.iter().map(|one| one.replica).collect();
        for replica in self.state.replicas_on(node).filter(|replica| !said.contains(&replica.id)) {
            self.observed.forget(replica.id);
        }
    }

    fn observe(&mut self, node: NodeId, observed: Vec<Observed>, ago: Ago) {
        self.directory.touch([node]);
        for mut one in observed {
            one.translate(|at| ago.time(at));
            // An agent may still speak of what the state has forgotten: it will be told to drop it.
            let Some(replica) = self.state.replica(one.replica).filter(|r| r.node == Some(node)) else {
                continue;
            };
            let service = replica.service.clone();
            self.leave_out_strangers(replica, &mut one);
            let seen = self.observed.replica(one.replica);
            let (is_first, had_ended) = (seen.is_none(), seen.is_some_and(|seen| seen.has_ended()));
            if is_first || (one.has_ended() && !had_ended) {
                // Its room is free, or known to be there for the one after it: another may fit now.
                self.place_again();
            }
            self.observed.observe(one);
            self.mark_dirty([service]);
        }
    }

    /// A replica has the containers that its template names, each once. An agent that says more of them is not given the room for
    /// that in the memory of every leader, and in every answer.
    fn leave_out_strangers(&self, replica: &Replica, observed: &mut Observed) {
        let revision = self.state.revision(&replica.service, replica.revision);
        let containers = revision.iter().flat_map(|revision| revision.template.containers());
        let mut names: BTreeSet<&Name> = containers.map(|container| &container.name).collect();
        observed.containers.retain(|container| names.remove(&container.name));
        observed.containers.shrink_to_fit();
    }

    /// For the story that `describe` tells. Should the log not take them, the story has a gap; what an agent observes
    /// says how each container last ended all the same.
    fn record_exits(&mut self, node: NodeId, exits: Vec<Event>, ago: Ago) {
        let is_known = |event: &Event| match &event.kind {
            EventKind::ContainerExited { replica, .. } => {
                self.state.replica(*replica).is_some_and(|replica| {
                    replica.node == Some(node) && event.service.as_ref() == Some(&replica.service)
                })
            }
            _ => false,
        };
        let mut events: Vec<Event> = exits.into_iter().filter(is_known).collect();
        events.iter_mut().for_each(|event| event.translate(|at| ago.time(at)));
        if events.is_empty() {
            return;
        }
        if let Err(error) = self.try_and_propose(Command::Record { events }, Origin::Nobody) {
            tracing::warn!(%error, "exits of containers could not be recorded");
        }
    }
}

impl Sessions {
    /// The same, by another reckoning of the time.
    pub(crate) fn translate(&mut self, to: impl Fn(Timestamp) -> Timestamp) {
        self.open.values_mut().for_each(|open| open.heard_at = to(open.heard_at));
    }

    /// The node may have to be told something.
    pub(crate) fn touch(&mut self, node: NodeId) {
        self.dirty.insert(node);
    }

    /// Whether every node that is heard, but this one, goes by a directory of at least this version.
    pub(crate) fn all_go_by(&self, version: u64, but: NodeId) -> bool {
        let others = self.open.values().filter(|open| open.node != but && open.farewell.is_none());
        others.filter_map(|open| open.in_force).all(|in_force| in_force >= version)
    }

    /// Those that were not told the directory's newest version, each with what it was told last. They count as told.
    pub(crate) fn behind(&mut self, version: u64) -> Vec<(SessionId, Option<u64>)> {
        // A node that was removed has no part in it.
        let listens = |open: &Session| open.is_confirmed && open.farewell.is_none();
        let behind =
            self.open.iter_mut().filter(|(_, open)| listens(open) && open.told_directory != Some(version));
        behind.map(|(id, open)| (*id, open.told_directory.replace(version))).collect()
    }
}
