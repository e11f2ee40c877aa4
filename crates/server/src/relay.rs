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
use proto::v1;
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};

/// How long an agent may take to dial back. It is one round trip; more means that the agent is stuck.
const DIAL_BACK: Duration = Duration::from_secs(10);

/// The agents that have a session, and the streams that they were asked for.
#[derive(Clone, Debug, Default)]
pub struct Relays {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    agents: Mutex<BTreeMap<NodeId, Agent>>,
    asked: Mutex<HashMap<u64, oneshot::Sender<Relay>>>,
    next_stream: AtomicU64,
}

#[derive(Clone, Debug)]
struct Agent {
    session: u64,
    name: Name,
    to_agent: mpsc::Sender<Result<v1::ServerMessage, Status>>,
}

/// A stream with an agent: frames both ways.
#[derive(Debug)]
pub struct Relay {
    pub from_agent: Streaming<v1::RelayFrame>,
    pub to_agent: mpsc::Sender<Result<v1::RelayFrame, Status>>,
}

/// A panic while holding one of these locks leaves a whole map behind: each section is one insertion or removal.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relays {
    pub fn agent_opened(
        &self,
        node: NodeId,
        name: Name,
        session: u64,
        to_agent: mpsc::Sender<Result<v1::ServerMessage, Status>>,
    ) {
        lock(&self.inner.agents).insert(node, Agent { session, name, to_agent });
    }

    /// Forgets the agent, unless it has opened another session since.
    pub fn agent_closed(&self, node: NodeId, session: u64) {
        let mut agents = lock(&self.inner.agents);
        if agents.get(&node).is_some_and(|agent| agent.session == session) {
            agents.remove(&node);
        }
    }

    /// The nodes that can be asked, by name; only the one with this name where one is given.
    pub fn nodes(&self, only: Option<&str>) -> Result<Vec<(NodeId, Name)>, Status> {
        let agents = lock(&self.inner.agents);
        let wanted = agents.iter().filter(|(_, agent)| only.is_none_or(|name| agent.name.as_str() == name));
        let nodes: Vec<_> = wanted.map(|(id, agent)| (*id, agent.name.clone())).collect();
        match (nodes.is_empty(), only) {
            (false, _) => Ok(nodes),
            (true, Some(name)) => {
                Err(Status::not_found(format!("no node named {name} has a session; see `wharf get nodes`")))
            }
            (true, None) => Err(Status::unavailable("no node has a session; is an agent running?")),
        }
    }

    /// Asks the agent of `node` for a stream and waits until it dials back.
    pub async fn open(&self, node: NodeId, request: v1::open::Request) -> Result<Relay, Status> {
        let silent = || Status::unavailable(format!("the agent of node {node} has no session"));
        let agent = lock(&self.inner.agents).get(&node).cloned().ok_or_else(silent)?;
        let stream = self.inner.next_stream.fetch_add(1, Ordering::Relaxed) + 1;
        let (dialled, waiting) = oneshot::channel();
        lock(&self.inner.asked).insert(stream, dialled);
        let open = v1::Open { stream, request: Some(request) };
        let message = v1::ServerMessage { message: Some(v1::server_message::Message::Open(open)) };
        let asked = agent.to_agent.send(Ok(message)).await;
        let answer = match asked {
            Ok(()) => tokio::time::timeout(DIAL_BACK, waiting).await.ok().and_then(Result::ok),
            Err(_) => None,
        };
        lock(&self.inner.asked).remove(&stream);
        answer.ok_or_else(|| Status::unavailable(format!("the agent of node {} did not answer", agent.name)))
    }

    /// An agent dialled: hands the stream to who asked for it.
    pub fn dialled(&self, stream: u64, relay: Relay) -> Result<(), Status> {
        let asked = lock(&self.inner.asked).remove(&stream);
        let gone = || Status::not_found(format!("nobody waits for stream {stream}"));
        asked.ok_or_else(gone)?.send(relay).map_err(|_| gone())
    }
}

impl Relay {
    /// The agent's next frame; `None` at its end. What went wrong on the node comes back as an error.
    pub async fn next(&mut self) -> Result<Option<v1::relay_frame::Frame>, Status> {
        loop {
            let Some(frame) = self.from_agent.message().await? else { return Ok(None) };
            match frame.frame {
                Some(v1::relay_frame::Frame::End(_)) => return Ok(None),
                Some(v1::relay_frame::Frame::Error(error)) => {
                    return Err(Status::failed_precondition(error.message));
                }
                Some(frame) => return Ok(Some(frame)),
                // A kind of frame that this version does not know.
                None => {}
            }
        }
    }

    pub async fn send(&self, frame: v1::relay_frame::Frame) -> Result<(), Status> {
        let frame = v1::RelayFrame { frame: Some(frame) };
        self.to_agent.send(Ok(frame)).await.map_err(|_| Status::unavailable("the agent closed the stream"))
    }
}
