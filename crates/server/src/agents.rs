//! The gRPC service that agents dial: one session each, and one relay per stream that they were asked for.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use manager::{Hello, Report, SessionId};
use model::NodeId;
use proto::{
    PROTOCOL_VERSION,
    session::AgentSays,
    v1::{self, server_message},
};
use tokio::{
    sync::mpsc,
    time::{error::Elapsed, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    brain::{Brain, ToAgent},
    relay::{Relay, Relays},
};

/// How many messages may wait for a slow agent before the server waits for it.
const SESSION_QUEUE: usize = 256;
const RELAY_QUEUE: usize = 64;

/// An agent speaks every three seconds at least. One that is silent for longer than this may have stopped, though its
/// connection stands: what it said is not known to be true any more.
const SILENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Agents {
    brain: Brain,
    relays: Relays,
    next_session: AtomicU64,
}

impl Agents {
    pub fn new(brain: Brain, relays: Relays) -> Agents {
        Agents { brain, relays, next_session: AtomicU64::new(1) }
    }
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
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.map(AgentSays::try_from).transpose()?;
        let Some(AgentSays::Hello(hello)) = first else {
            return Err(Status::invalid_argument("a session begins with hello"));
        };
        if hello.protocol_version != PROTOCOL_VERSION {
            let theirs = hello.protocol_version;
            return Err(Status::failed_precondition(format!(
                "the agent speaks protocol {theirs}, this server {PROTOCOL_VERSION}; run the same version of wharf"
            )));
        }
        let hello = Hello { info: hello.node, observed: hello.observed, images: hello.images };
        let (node, name) = (hello.info.id, hello.info.name.clone());
        let number = self.next_session.fetch_add(1, Ordering::Relaxed);
        let session = SessionId(number);
        let from_brain = self.brain.open_session(session, hello).map_err(stopped)?;
        let (to_agent, outbound) = mpsc::channel(SESSION_QUEUE);
        self.relays.agent_opened(node, name, number, to_agent.clone());
        let ends = SessionEnd { brain: self.brain.clone(), relays: self.relays.clone(), session, node };
        tokio::spawn(async move {
            // The end is said whichever direction ends first, and also when this task is dropped.
            let ends = ends;
            tokio::select! {
                () = forward(from_brain, &to_agent) => {}
                result = listen(&mut inbound, &ends) => {
                    if let Err(status) = result {
                        tracing::info!(%node, %status, "the session of an agent ended");
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }

    async fn relay(
        &self,
        request: Request<Streaming<v1::RelayFrame>>,
    ) -> Result<Response<Self::RelayStream>, Status> {
        let mut from_agent = request.into_inner();
        let first = from_agent.message().await?.and_then(|frame| frame.frame);
        let Some(v1::relay_frame::Frame::Open(open)) = first else {
            return Err(Status::invalid_argument("a relay begins with open"));
        };
        let (to_agent, outbound) = mpsc::channel(RELAY_QUEUE);
        self.relays.dialled(open.stream, Relay { from_agent, to_agent })?;
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

/// Says that a session is over, whatever ended it.
struct SessionEnd {
    brain: Brain,
    relays: Relays,
    session: SessionId,
    node: NodeId,
}

impl Drop for SessionEnd {
    fn drop(&mut self) {
        self.relays.agent_closed(self.node, self.session.0);
        // Fails only when the server is shutting down.
        let _ = self.brain.close_session(self.session);
    }
}

async fn forward(
    mut from_brain: mpsc::UnboundedReceiver<ToAgent>,
    to_agent: &mpsc::Sender<Result<v1::ServerMessage, Status>>,
) {
    while let Some(message) = from_brain.recv().await {
        let (message, last) = match message {
            ToAgent::Dispatch(dispatch) => {
                let message = server_message::Message::Dispatch(v1::Dispatch::from(&dispatch));
                (Ok(v1::ServerMessage { message: Some(message) }), false)
            }
            ToAgent::Close(reason) => (Err(Status::unavailable(reason)), true),
        };
        if to_agent.send(message).await.is_err() || last {
            return;
        }
    }
}

fn silent(_: Elapsed) -> Status {
    Status::deadline_exceeded(format!("the agent said nothing for {}s", SILENCE.as_secs()))
}

async fn listen(inbound: &mut Streaming<v1::AgentMessage>, ends: &SessionEnd) -> Result<(), Status> {
    while let Some(message) = timeout(SILENCE, inbound.message()).await.map_err(silent)?? {
        let report = match AgentSays::try_from(message)? {
            AgentSays::Report(said) => Report {
                observed: said.observed,
                exits: said.exits.into_iter().map(Into::into).collect(),
                images: None,
            },
            AgentSays::Images(images) => Report { images: Some(images), ..Report::default() },
            AgentSays::Hello(_) => {
                return Err(Status::invalid_argument("hello is said once, at the beginning of a session"));
            }
            // That it came is all that a heartbeat says; nothing waits for acknowledgements.
            AgentSays::Heartbeat | AgentSays::Acknowledged { .. } => continue,
        };
        ends.brain.report(ends.session, report).map_err(stopped)?;
    }
    Ok(())
}

fn stopped(error: crate::brain::Stopped) -> Status {
    Status::unavailable(error.to_string())
}
