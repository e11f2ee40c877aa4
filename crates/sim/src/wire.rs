//! Sessions: messages take their time but keep their order, and a session may be cut at any moment, with everything in
//! it that has not arrived. Either side notices later, or hears of it through a new session.

use std::collections::BTreeMap;

use agent::core::Event as AgentEvent;
use manager::{Event, Hello, Report, SessionId};
use model::{DirectoryNews, Dispatch, Level, Millis, Observed, Phase, Timestamp};

use crate::{
    bug::Bug,
    plan::images,
    world::{AgentSays, Happening, ServerSays, World},
};

/// How long after its opening the deliberate bug drops what is reported.
const OPENING: Millis = Millis(300);

#[derive(Debug, Default)]
pub(crate) struct Wire {
    last: u64,
    links: BTreeMap<SessionId, Link>,
}

#[derive(Debug)]
struct Link {
    node: usize,
    server: usize,
    server_life: u32,
    agent_life: u32,
    is_cut: bool,
    opened_at: Timestamp,
    /// When the last message on its way arrives.
    at_server: Timestamp,
    at_agent: Timestamp,
    /// For a deliberate bug: an increment was lost, and this is what the agent has.
    lost_after: Option<u64>,
}

impl World {
    pub(crate) fn agent_connects(&mut self, node: usize, life: u32) {
        let unreachable = self.nodes[node].unreachable_until > self.cx.now;
        if self.nodes[node].agent_of(life).is_none_or(|agent| agent.session.is_some()) {
            return;
        }
        let Some(server) = self.server_to_dial().filter(|_| !unreachable) else {
            return self.cx.soon(100, 1_000, Happening::AgentConnects { node, life });
        };
        let Some(agent) = self.nodes[node].agent_of(life) else { return };
        let mut observed = agent.core.observed();
        if self.cx.has(Bug::SilentHello) {
            observed.clear();
        }
        self.wire.last += 1;
        let session = SessionId(self.wire.last);
        let now = self.cx.now;
        let link = Link {
            node,
            server,
            server_life: self.servers[server].life,
            agent_life: life,
            is_cut: false,
            opened_at: now,
            at_server: now,
            at_agent: now,
            lost_after: None,
        };
        self.wire.links.insert(session, link);
        self.cx.say(format_args!("node {node}: opens session {} with server {server}", session.0));
        let mut info = self.nodes[node].info.clone();
        if self.cx.has(Bug::Boast) {
            info.memory.0 *= 2;
        }
        let said_at = Some(self.nodes[node].clock.shows(now));
        let hello = Hello { info, said_at, observed, images: images(), level: Level::NEWEST };
        if let Some(agent) = self.nodes[node].agent_of(life) {
            agent.session = Some(session);
        }
        self.send_to_server(session, AgentSays::Hello(hello));
        self.agent_beats(node, life, session);
    }

    /// Any server that is up: most often the one that another says is the leader.
    fn server_to_dial(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..self.servers.len()).filter(|&at| self.servers[at].is_up()).collect();
        if up.is_empty() {
            return None;
        }
        let first = self.cx.random.pick(&up);
        let leader = self.servers[first].published.as_ref().and_then(|view| view.leader);
        let leader = leader.and_then(|id| up.iter().copied().find(|&at| self.servers[at].member == id));
        Some(leader.filter(|_| !self.cx.random.one_in(4)).unwrap_or(first))
    }

    pub(crate) fn report(&mut self, node: usize, mut report: Report) {
        if self.cx.has(Bug::ClaimReady) {
            for seen in report.observed.iter_mut().filter(|seen| seen.phase == Phase::Running) {
                seen.ready_since.get_or_insert(self.nodes[node].clock.shows(self.cx.now));
            }
        }
        report.said_at = Some(self.nodes[node].clock.shows(self.cx.now));
        let Some(session) = self.nodes[node].agent.as_ref().and_then(|agent| agent.session) else { return };
        let opened_at = self.wire.links.get(&session).map(|link| link.opened_at).unwrap_or_default();
        if self.cx.has(Bug::DropReports) && self.cx.now < opened_at + OPENING {
            return;
        }
        self.send_to_server(session, AgentSays::Report(report));
    }

    pub(crate) fn send_to_server(&mut self, session: SessionId, says: AgentSays) {
        let delay = self.cx.random.millis(0, 40);
        let Some(link) = self.wire.links.get_mut(&session).filter(|link| !link.is_cut) else { return };
        link.at_server = link.at_server.max(self.cx.now + delay);
        self.cx.at(link.at_server, Happening::ToServer { session, says: Box::new(says) });
    }

    pub(crate) fn send_to_agent(&mut self, session: SessionId, says: ServerSays) {
        let delay = self.cx.random.millis(0, 40);
        let Some(link) = self.wire.links.get_mut(&session).filter(|link| !link.is_cut) else { return };
        link.at_agent = link.at_agent.max(self.cx.now + delay);
        self.cx.at(link.at_agent, Happening::ToAgent { session, says: Box::new(says) });
    }

    pub(crate) fn arrive_at_server(&mut self, session: SessionId, says: AgentSays) {
        let Some(link) = self.wire.links.get(&session).filter(|link| !link.is_cut) else { return };
        let server = link.server;
        if self.servers[server].life != link.server_life {
            return;
        }
        let node = self.nodes[link.node].info.id;
        self.servers[server].note_word(node, self.cx.now);
        let event = match says {
            AgentSays::Hello(hello) => {
                self.servers[server].note_heard(&hello.observed);
                Event::SessionOpened { session, hello }
            }
            AgentSays::Report(report) => {
                self.servers[server].note_heard(&report.observed);
                Event::SessionReport { session, report }
            }
            AgentSays::InForce { version } => Event::SessionInForce { session, version },
            AgentSays::Heartbeat { number } => Event::SessionHeartbeat { session, number, usage: None },
        };
        self.server_hears(server, event);
    }

    pub(crate) fn arrive_at_agent(&mut self, session: SessionId, says: ServerSays) {
        let Some(link) = self.wire.links.get(&session).filter(|link| !link.is_cut) else { return };
        let (node, life) = (link.node, link.agent_life);
        if self.nodes[node].agent_of(life).is_none_or(|agent| agent.session != Some(session)) {
            return;
        }
        match says {
            ServerSays::Dispatch(dispatch) => self.assign(node, life, session, dispatch),
            ServerSays::Directory(news) => self.list(node, life, session, &news),
            ServerSays::Heard(heard) => self.agent_is_heard(node, life, heard),
        }
    }

    fn list(&mut self, node: usize, life: u32, session: SessionId, news: &DirectoryNews) {
        let mut news = news.clone();
        news.without(self.nodes[node].info.id);
        if let DirectoryNews::Change { version, .. } = news
            && self.cx.has(Bug::IgnoreDirectory)
        {
            return self.send_to_server(session, AgentSays::InForce { version });
        }
        self.agent_hears(node, life, AgentEvent::Listed(news));
    }

    /// The node's agent goes by this version of the directory.
    pub(crate) fn goes_by(&mut self, node: usize, version: u64) {
        if let Some(session) = self.nodes[node].agent.as_ref().and_then(|agent| agent.session) {
            self.send_to_server(session, AgentSays::InForce { version });
        }
    }

    /// With which start of which server a node has had a session for so long without a cut, whatever else is cut.
    pub(crate) fn hears(&self, node: usize, span: Millis) -> Option<(usize, u32)> {
        let session = self.nodes[node].agent.as_ref().and_then(|agent| agent.session)?;
        let link = self.wire.links.get(&session).filter(|link| !link.is_cut)?;
        (link.opened_at + span <= self.cx.now).then_some((link.server, link.server_life))
    }

    fn assign(&mut self, node: usize, life: u32, session: SessionId, dispatch: Dispatch) {
        let loses = self.cx.has(Bug::LoseIncrement) && self.cx.random.one_in(5);
        let Some(link) = self.wire.links.get_mut(&session) else { return };
        let dispatch = match dispatch {
            Dispatch::Increment { follows, .. } if loses => {
                link.lost_after.get_or_insert(follows);
                return;
            }
            Dispatch::Increment { follows, sequence, changed, removed } => {
                let follows = link.lost_after.take().unwrap_or(follows);
                Dispatch::Increment { follows, sequence, changed, removed }
            }
            full @ Dispatch::Full { .. } => full,
        };
        self.agent_hears(node, life, AgentEvent::Assigned(dispatch));
    }

    /// The network's doing.
    pub(crate) fn cut_session(&mut self, node: usize) {
        if let Some(session) = self.nodes[node].agent.as_ref().and_then(|agent| agent.session) {
            self.cut(session);
        }
    }

    pub(crate) fn cut(&mut self, session: SessionId) {
        let Some(link) = self.wire.links.get_mut(&session).filter(|link| !link.is_cut) else { return };
        link.is_cut = true;
        self.cx.say(format_args!("session {} is cut", session.0));
        self.cx.soon(0, 3_000, Happening::ServerNotices { session });
        self.cx.soon(0, 3_000, Happening::AgentNotices { session });
    }

    pub(crate) fn cut_all(&mut self, server: usize) {
        let links = self.wire.links.iter().filter(|(_, link)| link.server == server);
        let open: Vec<SessionId> = links.map(|(session, _)| *session).collect();
        open.into_iter().for_each(|session| self.cut(session));
    }

    /// The agent's own decision: it opens another at once.
    pub(crate) fn reopen(&mut self, node: usize) {
        let Some(agent) = self.nodes[node].agent.as_mut() else { return };
        let Some(session) = agent.session.take() else { return };
        let life = self.nodes[node].life;
        self.cut(session);
        self.cx.soon(0, 100, Happening::AgentConnects { node, life });
    }

    pub(crate) fn server_notices(&mut self, session: SessionId) {
        let Some(&Link { server, server_life, .. }) = self.wire.links.get(&session) else { return };
        if self.servers[server].life == server_life {
            if self.cx.has(Bug::ForgetNode) {
                self.take_for_gone(server, session);
            }
            self.server_hears(server, Event::SessionClosed { session });
        }
    }

    /// For a deliberate bug: the node's last word is that it has nothing any more.
    fn take_for_gone(&mut self, server: usize, session: SessionId) {
        let Some(node) = self.wire.links.get(&session).map(|link| link.node) else { return };
        let id = self.nodes[node].info.id;
        let Some(view) = self.servers[server].published.as_ref() else { return };
        let gone = view.state.replicas_on(id).filter_map(|replica| view.observed.replica(replica.id));
        let observed = gone
            .map(|seen| Observed { phase: Phase::Failed, ready_since: None, ..Observed::clone(seen) })
            .collect();
        let report = Report { observed, ..Report::default() };
        self.server_hears(server, Event::SessionReport { session, report });
    }

    pub(crate) fn agent_notices(&mut self, session: SessionId) {
        let Some(link) = self.wire.links.get(&session) else { return };
        let (node, life) = (link.node, link.agent_life);
        let Some(agent) = self.nodes[node].agent_of(life).filter(|agent| agent.session == Some(session))
        else {
            return;
        };
        agent.session = None;
        self.cx.soon(20, 1_000, Happening::AgentConnects { node, life });
    }
}
