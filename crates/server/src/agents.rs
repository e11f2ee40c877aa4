//! The gRPC service that agents dial: one session each, and one relay per stream that they were asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use manager::{Hello, Report, SessionId};
use model::{ClusterId, MemberId, NodeId};
use proto::{
    CLUSTER_HEADER, PROTOCOL_VERSION,
    session::AgentSays,
    v1::{self, agent_message, server_message},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    brain::{Brain, First, Place, Servers, Stopped, ToAgent},
    caller::Caller,
    control::refuse::stopped,
    forward::check_leads,
    limits,
    relay::{AgentSession, Life, Relays},
    rotation,
    shares::Shares,
};

/// How many messages may wait for a slow agent before the server waits for it.
const SESSION_QUEUE: usize = 256;
const RELAY_QUEUE: usize = 64;
/// How many sessions are opened at once, the others wait: as many as the brain takes in one step. When thousands of agents
/// come together, each hello is a large message to be read and a full set of assignments to be written.
const OPENING: usize = 1_024;
/// How many of them one node's agent opens. It needs one; the last may be on its way still when it tries again.
const OF_ONE: usize = 2;
/// How many messages of one agent the brain may not have taken yet: an agent that says more than that is read more slowly.
const UNTAKEN: usize = 16;
/// How long an agent may take to say hello once it is its turn.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Agents {
    brain: Brain,
    relays: Relays,
    cluster: ClusterId,
    /// This server, where it is one of several.
    own: Option<MemberId>,
    next_session: AtomicU64,
    /// A permit is held from before a hello is read until the first answer to it is there.
    opening: Arc<Semaphore>,
    shares: Shares<NodeId>,
}

impl Agents {
    pub fn new(brain: Brain, relays: Relays, cluster: ClusterId, own: Option<MemberId>) -> Agents {
        let opening = Arc::new(Semaphore::new(OPENING));
        Agents {
            brain,
            relays,
            cluster,
            own,
            next_session: AtomicU64::new(1),
            opening,
            shares: Shares::new(OF_ONE),
        }
    }

    /// A place among those who open sessions. Whoever opens many waits for its own, and keeps out nobody.
    async fn may_open(&self, caller: Caller) -> Result<Opening, Status> {
        let closed = |_| stopped(Stopped);
        let of_node = match caller {
            Caller::Node(identity) => {
                Some(self.shares.of(identity.node).acquire_owned().await.map_err(closed)?)
            }
            Caller::Host | Caller::Stranger => None,
        };
        let of_all = Arc::clone(&self.opening).acquire_owned().await.map_err(closed)?;
        Ok(Opening { _of_all: of_all, _of_node: of_node })
    }
}

/// Given back once the first answer is on its way.
struct Opening {
    _of_all: OwnedSemaphorePermit,
    _of_node: Option<OwnedSemaphorePermit>,
}

type Outbound<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl v1::agents_server::Agents for Agents {
    type SessionStream = Outbound<v1::ServerMessage>;
    type RelayStream = Outbound<v1::RelayFrame>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = Caller::of(request.extensions());
        caller.is_agent()?;
        check_leads(&self.brain, self.own)?;
        let mut inbound = request.into_inner();
        let opening = self.may_open(caller).await?;
        let first = timeout(HELLO_PATIENCE, inbound.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("the agent said no hello"))?;
        let first = read_first(first?)?;
        caller.is_agent_of(first.node().id)?;
        let (node, name) = (first.node().id, first.node().name.clone());
        let number = self.next_session.fetch_add(1, Ordering::Relaxed);
        let session = SessionId(number);
        let (to_agent, outbound) = mpsc::channel(SESSION_QUEUE);
        let (lives, life) = watch::channel(Life::Speaks);
        if let First::Hello(_) = first {
            // Before the brain publishes that the node is ready: then it can be asked.
            self.relays.agent_opened(node, AgentSession { number, name, to_agent: to_agent.clone(), life });
        }
        let ends =
            SessionEnd { brain: self.brain.clone(), relays: self.relays.clone(), session, node, lives };
        let mut from_brain = self.brain.open_session(session, first).map_err(stopped)?;
        let servers = self.brain.servers();
        tokio::spawn(async move {
            let reason = tokio::select! {
                reason = answer(&mut from_brain, &to_agent, opening) => reason,
                reason = tell_servers(servers, &to_agent) => reason,
                reason = listen(&mut inbound, &ends) => reason,
            };
            if let Some(status) = reason {
                tracing::info!(%node, reason = status.message(), "the session of an agent ended");
                // An agent that does not take what it is told does not take this either.
                let _ = to_agent.try_send(Err(status));
            }
        });
        let mut answer = Response::new(ReceiverStream::new(outbound));
        let cluster = self.cluster.to_string().parse();
        let cluster = cluster.map_err(|_| Status::internal("the cluster's id does not fit into a header"))?;
        answer.metadata_mut().insert(CLUSTER_HEADER, cluster);
        Ok(answer)
    }

    async fn relay(
        &self,
        request: Request<Streaming<v1::RelayFrame>>,
    ) -> Result<Response<Self::RelayStream>, Status> {
        let caller = Caller::of(request.extensions());
        caller.is_agent()?;
        let mut from_agent = request.into_inner();
        let first = from_agent.message().await?.and_then(|frame| frame.frame);
        let Some(v1::relay_frame::Frame::Open(open)) = first else {
            return Err(Status::invalid_argument("a relay begins with open"));
        };
        let (to_agent, outbound) = mpsc::channel(RELAY_QUEUE);
        self.relays.dialled(caller, open.stream, from_agent, to_agent)?;
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

/// The version comes first: what an agent of another one says may not be understood.
fn read_first(first: Option<v1::AgentMessage>) -> Result<First, Status> {
    use agent_message::Message;
    let (theirs, first) = match first.and_then(|first| first.message) {
        Some(Message::Hello(hello)) => (hello.protocol_version, Message::Hello(hello)),
        Some(Message::Introduction(node)) => (node.protocol_version, Message::Introduction(node)),
        _ => return Err(Status::invalid_argument("a session begins with hello")),
    };
    if theirs != PROTOCOL_VERSION {
        return Err(Status::failed_precondition(format!(
            "the agent speaks protocol {theirs}, this server {PROTOCOL_VERSION}; run the same version of wharf"
        )));
    }
    match AgentSays::try_from(v1::AgentMessage { message: Some(first) })? {
        AgentSays::Hello(hello) => {
            let proto::session::Hello { node: mut info, mut observed, images, level, said_at, .. } = hello;
            limits::bound_node(&mut info)?;
            limits::bound_observed(&mut observed);
            let hello = Hello { info, said_at, observed, images, level };
            Ok(First::Hello(Box::new(hello)))
        }
        AgentSays::Introduction { mut node, .. } => {
            limits::bound_node(&mut node)?;
            Ok(First::Introduction(node))
        }
        _ => Err(Status::invalid_argument("a session begins with hello")),
    }
}

/// Says that a session is over, whatever ended it.
struct SessionEnd {
    brain: Brain,
    relays: Relays,
    session: SessionId,
    node: NodeId,
    lives: watch::Sender<Life>,
}

impl Drop for SessionEnd {
    fn drop(&mut self) {
        self.relays.agent_closed(self.node, self.session.0);
        // Fails only when the server is shutting down.
        let _ = self.brain.close_session(self.session);
    }
}

/// Returns why the session is over, if the agent is there to hear it. Once the first word is said, another may be opened.
async fn answer(
    from_brain: &mut mpsc::UnboundedReceiver<ToAgent>,
    to_agent: &mpsc::Sender<Result<v1::ServerMessage, Status>>,
    opening: Opening,
) -> Option<Status> {
    let mut opening = Some(opening);
    while let Some(message) = from_brain.recv().await {
        let message = match message {
            ToAgent::Dispatch(dispatch) => server_message::Message::Dispatch((&dispatch).into()),
            ToAgent::Directory(news) => server_message::Message::Directory((&*news).into()),
            ToAgent::Heard(answer) => match answer.take() {
                Some(heard) => server_message::Message::Heard(heard.into()),
                None => continue,
            },
            ToAgent::Close(reason) => return Some(Status::unavailable(reason)),
        };
        to_agent.send(Ok(v1::ServerMessage { message: Some(message) })).await.ok()?;
        drop(opening.take());
    }
    Some(stopped(Stopped))
}

/// The same. A cluster of this host alone has no addresses to tell.
async fn tell_servers(
    mut servers: watch::Receiver<Servers>,
    to_agent: &mpsc::Sender<Result<v1::ServerMessage, Status>>,
) -> Option<Status> {
    loop {
        let Servers { addresses, trust } = servers.borrow_and_update().clone();
        if !addresses.is_empty() {
            let message = server_message::Message::Servers(v1::Servers { addresses, trust });
            to_agent.send(Ok(v1::ServerMessage { message: Some(message) })).await.ok()?;
        }
        if servers.changed().await.is_err() {
            return Some(stopped(Stopped));
        }
    }
}

/// The same.
async fn listen(inbound: &mut Streaming<v1::AgentMessage>, ends: &SessionEnd) -> Option<Status> {
    let places = Arc::new(Semaphore::new(UNTAKEN));
    loop {
        // Nobody closes it.
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        // An agent that says nothing for so long hangs, even if its connection stands.
        let silence = ends.brain.newest().state.settings().silence();
        let said = match timeout(Duration::from_millis(silence.0), inbound.message()).await {
            Ok(Ok(Some(said))) => said,
            Ok(Ok(None)) => return None,
            Ok(Err(status)) => return Some(status),
            Err(_) => {
                ends.lives.send_replace(Life::Hangs);
                return Some(Status::deadline_exceeded(format!("the agent said nothing for {silence}")));
            }
        };
        if let Err(status) = hear(said, ends, Arc::new(place)).await {
            return Some(status);
        }
    }
}

async fn hear(said: v1::AgentMessage, ends: &SessionEnd, place: Place) -> Result<(), Status> {
    let report = match AgentSays::try_from(said)? {
        AgentSays::Report(mut said) => {
            limits::bound_observed(&mut said.observed);
            limits::bound_exits(&mut said.exits);
            let exits = said.exits.into_iter().map(Into::into).collect();
            Report { said_at: said.said_at, observed: said.observed, exits, images: None }
        }
        AgentSays::Images(images) => Report { images: Some(images), ..Report::default() },
        AgentSays::Hello(_) | AgentSays::Introduction { .. } => {
            return Err(Status::invalid_argument("hello is said once, at the beginning of a session"));
        }
        AgentSays::Heartbeat { number, usage } => {
            return ends.brain.heartbeat(ends.session, number, usage, place).map_err(stopped);
        }
        // One after the other, so that the last is what stays. Where it cannot be written, the agent opens another session,
        // and says it again.
        AgentSays::Believes(_, belief) => return rotation::note(&ends.brain, ends.node, belief).await,
        AgentSays::InForce { version } => {
            return ends.brain.in_force(ends.session, version, place).map_err(stopped);
        }
        // Nothing waits for acknowledgements.
        AgentSays::Acknowledged { .. } => return Ok(()),
    };
    ends.brain.report(ends.session, report, place).map_err(stopped)
}
