//! Streams to agents. An agent is never dialled: the server asks it, in its session, to dial back for one stream.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use model::{Name, NodeId};
use proto::{
    reason::refuse,
    v1::{self, Reason, relay_frame::Frame},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tonic::{Status, Streaming};

use crate::caller::Caller;

/// How long an agent may take to dial back. It is one round trip; more means that the agent is stuck.
const DIAL_BACK: Duration = Duration::from_secs(10);

/// The agents that have a session, and the streams that they were asked for.
#[derive(Clone, Debug, Default)]
pub struct Relays {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    agents: Mutex<BTreeMap<NodeId, AgentSession>>,
    /// The node that each stream was asked of: no other may answer.
    asked: Mutex<HashMap<u64, (NodeId, oneshot::Sender<Dialled>)>>,
    next_stream: AtomicU64,
}

#[derive(Clone, Debug)]
pub struct AgentSession {
    pub number: u64,
    /// Of the node.
    pub name: Name,
    pub to_agent: mpsc::Sender<Result<v1::ServerMessage, Status>>,
    pub life: watch::Receiver<Life>,
}

/// What is known of the agent at the other end of a session. The sender of this is gone once the session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Speaks,
    /// It said nothing for too long: its streams do not end by themselves.
    Hangs,
}

/// Both directions of a stream, as the agent opened it.
#[derive(Debug)]
struct Dialled {
    from_agent: Streaming<v1::RelayFrame>,
    to_agent: mpsc::Sender<Result<v1::RelayFrame, Status>>,
}

/// A stream with an agent: frames both ways. Dropping it ends it on the node.
#[derive(Debug)]
pub struct Relay {
    from_agent: Streaming<v1::RelayFrame>,
    to_agent: mpsc::Sender<Result<v1::RelayFrame, Status>>,
    node: Name,
    life: watch::Receiver<Life>,
}

/// A panic while holding one of these locks leaves a whole map behind: each section is one insertion or removal.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relays {
    pub fn agent_opened(&self, node: NodeId, session: AgentSession) {
        lock(&self.inner.agents).insert(node, session);
    }

    /// Forgets the agent, unless it has opened another session since.
    pub fn agent_closed(&self, node: NodeId, session: u64) {
        let mut agents = lock(&self.inner.agents);
        if agents.get(&node).is_some_and(|agent| agent.number == session) {
            agents.remove(&node);
        }
    }

    /// The number of the session that the agent of a node has; none while it has none.
    pub fn session_of(&self, node: NodeId) -> Option<u64> {
        lock(&self.inner.agents).get(&node).map(|agent| agent.number)
    }

    /// The nodes that can be asked, by name; only the one with this name where one is given.
    pub fn nodes(&self, only: Option<&str>) -> Result<Vec<(NodeId, Name)>, Status> {
        let agents = lock(&self.inner.agents);
        let wanted = agents.iter().filter(|(_, agent)| only.is_none_or(|name| agent.name.as_str() == name));
        let nodes: Vec<_> = wanted.map(|(id, agent)| (*id, agent.name.clone())).collect();
        match (nodes.is_empty(), only) {
            (false, _) => Ok(nodes),
            (true, Some(name)) => {
                let message = format!("no node named {name} has a session; see `wharf get nodes`");
                Err(refuse(Reason::NodeSilent, message))
            }
            (true, None) => Err(refuse(Reason::NodeSilent, "no node has a session; is an agent running?")),
        }
    }

    /// Asks the agent of `node` for a stream and waits until it dials back.
    pub async fn open(&self, node: NodeId, request: v1::open::Request) -> Result<Relay, Status> {
        let agent = lock(&self.inner.agents).get(&node).cloned();
        let Some(AgentSession { name, to_agent, mut life, .. }) = agent else {
            return Err(refuse(Reason::NodeSilent, format!("the agent of node {node} has no session")));
        };
        let stream = self.inner.next_stream.fetch_add(1, Ordering::Relaxed) + 1;
        let (dialled, waiting) = oneshot::channel();
        lock(&self.inner.asked).insert(stream, (node, dialled));
        let _forgets = Asked { relays: self, stream };
        let open = v1::Open { stream, request: Some(request) };
        let message = v1::ServerMessage { message: Some(v1::server_message::Message::Open(open)) };
        let dialled = async {
            to_agent.send(Ok(message)).await.ok()?;
            // The stream of the session must end with it, and not wait for this.
            drop(to_agent);
            waiting.await.ok()
        };
        let answered = tokio::select! {
            answered = timeout(DIAL_BACK, dialled) => answered,
            // Nothing else changes than that it hangs, or that it is gone.
            _ = life.changed() => Ok(None),
        };
        let gone = |what| refuse(Reason::NodeSilent, format!("the agent of node {name} {what}"));
        match answered {
            Ok(Some(Dialled { from_agent, to_agent })) => {
                Ok(Relay { from_agent, to_agent, node: name, life })
            }
            Ok(None) => Err(gone("went away")),
            Err(_) => Err(gone("did not answer in time")),
        }
    }

    /// An agent dialled: hands the stream to who asked for it, if it asked this agent.
    pub fn dialled(
        &self,
        caller: Caller,
        stream: u64,
        from_agent: Streaming<v1::RelayFrame>,
        to_agent: mpsc::Sender<Result<v1::RelayFrame, Status>>,
    ) -> Result<(), Status> {
        let gone = || Status::not_found(format!("nobody waits for stream {stream}"));
        let mut asked = lock(&self.inner.asked);
        let (node, _) = asked.get(&stream).ok_or_else(gone)?;
        caller.is_agent_of(*node)?;
        let (_, waiting) = asked.remove(&stream).ok_or_else(gone)?;
        drop(asked);
        waiting.send(Dialled { from_agent, to_agent }).map_err(|_| gone())
    }
}

/// Who asks may go away at any moment: then nobody waits for the stream any more.
struct Asked<'a> {
    relays: &'a Relays,
    stream: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        lock(&self.relays.inner.asked).remove(&self.stream);
    }
}

/// An agent that closes its session and opens another goes on with its streams.
async fn until_it_hangs(life: &mut watch::Receiver<Life>) {
    if life.wait_for(|life| *life == Life::Hangs).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Relay {
    /// The agent's next frame; `None` after its last. What went wrong on the node comes back as an error.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Frame>, Status> {
        loop {
            let message = tokio::select! {
                message = self.from_agent.message() => message,
                () = until_it_hangs(&mut self.life) => Ok(None),
            };
            // An agent that lives says where its stream ends.
            let Ok(Some(frame)) = message else { return Err(self.gone()) };
            match frame.frame {
                Some(Frame::End(_)) => return Ok(None),
                Some(Frame::Error(error)) => return Err(Status::failed_precondition(error.message)),
                Some(frame) => return Ok(Some(frame)),
                // A kind of frame that this version does not know.
                None => {}
            }
        }
    }

    pub async fn send(&self, frame: Frame) -> Result<(), Status> {
        self.sender().send(frame).await.map_err(|_| self.gone())
    }

    /// To speak while another task listens.
    pub fn sender(&self) -> RelaySender {
        RelaySender(self.to_agent.clone())
    }

    fn gone(&self) -> Status {
        refuse(Reason::NodeSilent, format!("the agent of node {} went away", self.node))
    }
}

#[derive(Clone, Debug)]
pub struct RelaySender(mpsc::Sender<Result<v1::RelayFrame, Status>>);

/// The agent has closed the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl RelaySender {
    pub async fn send(&self, frame: Frame) -> Result<(), Closed> {
        self.0.send(Ok(v1::RelayFrame { frame: Some(frame) })).await.map_err(|_| Closed)
    }
}
