//! Sessions: messages take their time but keep their order, and a session may be cut at any moment, with everything in
//! it that has not arrived. Either side notices later, or hears of it through a new session.

use std::collections::BTreeMap;

use agent::core::Event as AgentEvent;
use manager::{Event, Hello, Report, SessionId};
use model::{Dispatch, Millis, Phase, Timestamp};

use crate::{
    bug::Bug,
    plan::images,
    world::{AgentSays, Happening, World},
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
        let Some(agent) = self.nodes[node].agent_of(life).filter(|agent| agent.session.is_none()) else {
            return;
        };
        if unreachable || !self.server.is_up() {
            return self.cx.soon(100, 1_000, Happening::AgentConnects { node, life });
        }
        let mut observed = agent.core.observed();
        if self.cx.has(Bug::SilentHello) {
            observed.clear();
        }
        self.wire.last += 1;
        let session = SessionId(self.wire.last);
        let now = self.cx.now;
        let link = Link {
            node,
            server_life: self.server.life,
            agent_life: life,
            is_cut: false,
            opened_at: now,
            at_server: now,
            at_agent: now,
            lost_after: None,
        };
        self.wire.links.insert(session, link);
        self.cx.say(format_args!("node {node}: opens session {}", session.0));
        let mut info = self.nodes[node].info.clone();
        if self.cx.has(Bug::Boast) {
            info.memory.0 *= 2;
        }
        let hello = Hello { info, observed, images: images() };
        if let Some(agent) = self.nodes[node].agent_of(life) {
            agent.session = Some(session);
        }
        self.send_to_server(session, AgentSays::Hello(hello));
    }

    pub(crate) fn report(&mut self, node: usize, mut report: Report) {
        if self.cx.has(Bug::ClaimReady) {
            for seen in report.observed.iter_mut().filter(|seen| seen.phase == Phase::Running) {
                seen.ready_since.get_or_insert(self.cx.now);
            }
        }
        let Some(session) = self.nodes[node].agent.as_ref().and_then(|agent| agent.session) else { return };
        let opened_at = self.wire.links.get(&session).map(|link| link.opened_at).unwrap_or_default();
        if self.cx.has(Bug::DropReports) && self.cx.now < opened_at + OPENING {
            return;
        }
        self.send_to_server(session, AgentSays::Report(report));
    }

    fn send_to_server(&mut self, session: SessionId, says: AgentSays) {
        let delay = self.cx.random.millis(0, 40);
        let Some(link) = self.wire.links.get_mut(&session).filter(|link| !link.is_cut) else { return };
        link.at_server = link.at_server.max(self.cx.now + delay);
        self.cx.at(link.at_server, Happening::ToServer { session, says: Box::new(says) });
    }

    pub(crate) fn send_to_agent(&mut self, session: SessionId, dispatch: Dispatch) {
        let delay = self.cx.random.millis(0, 40);
        let Some(link) = self.wire.links.get_mut(&session).filter(|link| !link.is_cut) else { return };
        link.at_agent = link.at_agent.max(self.cx.now + delay);
        self.cx.at(link.at_agent, Happening::ToAgent { session, dispatch });
    }

    pub(crate) fn arrive_at_server(&mut self, session: SessionId, says: AgentSays) {
        let life = self.server.life;
        if !self.wire.links.get(&session).is_some_and(|link| !link.is_cut && link.server_life == life) {
            return;
        }
        let event = match says {
            AgentSays::Hello(hello) => {
                self.server.note_heard(&hello.observed);
                Event::SessionOpened { session, hello }
            }
            AgentSays::Report(report) => {
                self.server.note_heard(&report.observed);
                Event::SessionReport { session, report }
            }
        };
        self.server_hears(event);
    }

    pub(crate) fn arrive_at_agent(&mut self, session: SessionId, dispatch: Dispatch) {
        let loses = self.cx.has(Bug::LoseIncrement) && self.cx.random.one_in(5);
        let Some(link) = self.wire.links.get_mut(&session).filter(|link| !link.is_cut) else { return };
        let (node, life) = (link.node, link.agent_life);
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
        let is_its = self.nodes[node].agent_of(life).is_some_and(|agent| agent.session == Some(session));
        if is_its {
            self.agent_hears(node, life, AgentEvent::Assigned(dispatch));
        }
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

    pub(crate) fn cut_all(&mut self) {
        let open: Vec<SessionId> = self.wire.links.keys().copied().collect();
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
        let life = self.server.life;
        if self.wire.links.get(&session).is_some_and(|link| link.server_life == life) {
            self.server_hears(Event::SessionClosed { session });
        }
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
