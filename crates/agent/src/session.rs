//! The session with a server: one at a time, opened again whenever it ends, for as long as the agent runs.
//!
//! It begins with all that is known, then tells what changes, gathered for a moment so that a rollout of many replicas is
//! few messages. A server that is not there is no trouble: what is desired is in the ledger, what changes is told with the
//! next hello; only exits are kept, since a later report would not show them. Nothing of that is told before it is certain
//! that the server leads.
//!
//! When a leader goes, all agents look for the next one at once. So each waits for a moment of its own, the longer the more
//! nodes there are, as the last server that was heard said.

mod heartbeats;
mod introduction;
mod pending;
mod renewal;
mod ways;

use std::{sync::Arc, time::Duration};

use dial::{DialError, Patience, dial};
use model::{Belief, DirectoryNews, Dispatch, Heard, IdSource, Level, NodeInfo, Observed, Timestamp};
use proto::{
    CLUSTER_HEADER, LEADER_HEADER, PROTOCOL_VERSION,
    session::{AgentSays, ContainerExit, Hello},
    v1::{self, agents_client::AgentsClient, server_message::Message},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::{
    agent::{Happened, Sender},
    core::Event,
    host::{Host, Meter, chain},
    identity::{Identity, IdentityError},
    lease::LeaseFile,
    relay,
};
use heartbeats::Heartbeats;
pub(crate) use introduction::introduce;
use pending::Pending;
pub(crate) use ways::Ways;
pub use ways::{WaysError, write_servers};

/// How far apart reports are at least: a change after a quiet moment is told at once, what follows is gathered. Short
/// against what a person or a rollout notices, long against a burst of events.
const GATHER: Duration = Duration::from_millis(5);

/// Pauses between attempts to open a session, doubled each time and then scattered over their upper half. The first is an
/// eighth of the time over which all agents are to scatter themselves, if that is more: with many, an election costs each
/// only a few attempts.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);
const SCATTER_SHARE: u32 = 8;

/// A server that is silent for so long, though asked, is gone.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(5), silence: Duration::from_secs(5) };

/// How many messages may wait for a slow server before the session waits for it.
const QUEUE: usize = 64;

/// What the loop has for the server, in order.
#[derive(Debug)]
pub(crate) enum ToServer {
    /// The answer to [`Happened::SessionOpened`]; everything before it is part of it.
    Hello(Vec<Observed>),
    Report(Vec<Observed>),
    Exits(Vec<ContainerExit>),
    Acknowledged(u64),
    /// The directory of this version is in force.
    GoesBy(u64),
    /// All images, again.
    Images,
    /// This session cannot go on.
    Reopen,
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Dial(DialError),
    #[error("the server ended the session: {}", .0.message())]
    Status(tonic::Status),
    #[error("the server ended the session")]
    Closed,
    #[error("an increment of the assignments is missing")]
    Gap,
    #[error("the server sent what cannot be understood")]
    Nonsense(#[from] proto::DecodeError),
    #[error("cannot list the images")]
    Images(#[from] image::Error),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the server does not say of which cluster it is; run the same version of wharf")]
    NoCluster,
    #[error(transparent)]
    Ways(#[from] WaysError),
    #[error("the agent ends")]
    AgentEnds,
}

impl Ways {
    fn refused(&mut self, status: tonic::Status) -> Ended {
        if let Some(leader) = status.metadata().get(LEADER_HEADER).and_then(|address| address.to_str().ok()) {
            self.leader_is(leader);
        }
        Ended::Status(status)
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    host: Host,
    node: NodeInfo,
    identity: Identity,
    ways: Ways,
    happened: Sender,
    inbox: mpsc::UnboundedReceiver<ToServer>,
    pending: Pending,
    lease: LeaseFile,
    meter: Meter,
    /// Over how long all agents are to scatter themselves, by the last server that was heard.
    scatter: Duration,
    random: IdSource,
}

impl Session {
    /// Runs until the loop drops its end of the inbox.
    pub(crate) fn spawn(
        host: Host,
        node: NodeInfo,
        identity: Identity,
        ways: Ways,
        lease: LeaseFile,
        happened: Sender,
        seed: u64,
    ) -> mpsc::UnboundedSender<ToServer> {
        let (outbox, inbox) = mpsc::unbounded_channel();
        ways.renew_in_time();
        let (pending, random, scatter) = (Pending::default(), IdSource::new(seed), RETRY_FIRST);
        let meter = Meter::default();
        let session =
            Session { host, node, identity, ways, happened, inbox, pending, lease, meter, scatter, random };
        tokio::spawn(session.run());
        outbox
    }

    async fn run(mut self) {
        let mut pause = RETRY_FIRST;
        let mut said = String::new();
        loop {
            let begun = Instant::now();
            let ended = match self.serve().await {
                Ended::AgentEnds => return,
                ended => ended,
            };
            let first = RETRY_FIRST.max(self.scatter / SCATTER_SHARE);
            if begun.elapsed() > RETRY_MAX {
                pause = first;
            }
            // Once, and again for every new reason; repeating the same every few seconds helps nobody.
            let reason = chain(&ended);
            if pause <= first || reason != said {
                tracing::warn!(error = reason, "no session with the server; what runs goes on running");
                said = reason;
            }
            sleep(self.scattered(pause, first)).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// After a session that stood, anywhere in the time for all agents; else in the upper half of the pause.
    fn scattered(&mut self, pause: Duration, first: Duration) -> Duration {
        let (from, over) =
            if pause <= first { (Duration::ZERO, self.scatter) } else { (pause / 2, pause / 2) };
        from + Duration::from_millis(self.random.next_u64() % (over.as_millis() as u64 + 1))
    }

    /// One session, from dialling to its end.
    async fn serve(&mut self) -> Ended {
        match self.open().await {
            Ok((channel, outbound, inbound)) => self.converse(channel, outbound, inbound).await,
            Err(ended) => ended,
        }
    }

    async fn open(
        &mut self,
    ) -> Result<(Channel, mpsc::Sender<v1::AgentMessage>, Streaming<v1::ServerMessage>), Ended> {
        let channel = dial(self.ways.next(), PATIENCE).await.map_err(Ended::Dial)?;
        let observed = self.everything().await?;
        let hello = Hello {
            protocol_version: PROTOCOL_VERSION,
            node: self.node.clone(),
            observed,
            images: relay::images::named(&self.host.images)?,
            level: Level::NEWEST,
            said_at: Some(self.host.clock.now()),
        };
        let (outbound, messages) = mpsc::channel(QUEUE);
        // There is room for it: nothing else was sent.
        let _ = outbound.try_send((&AgentSays::Hello(hello)).into());
        let answer = AgentsClient::new(channel.clone()).session(ReceiverStream::new(messages)).await;
        let answer = answer.map_err(|refused| self.ways.refused(refused))?;
        let cluster = answer.metadata().get(CLUSTER_HEADER).and_then(|id| id.to_str().ok()?.parse().ok());
        self.identity.admit(cluster.ok_or(Ended::NoCluster)?)?;
        let inbound = answer.into_inner();
        tracing::info!("a session with the server is open");
        Ok((channel, outbound, inbound))
    }

    /// Asks the loop for all that is known; reports from before are part of the answer.
    async fn everything(&mut self) -> Result<Vec<Observed>, Ended> {
        self.happened.send(Happened::SessionOpened).map_err(|_| Ended::AgentEnds)?;
        loop {
            match self.inbox.recv().await.ok_or(Ended::AgentEnds)? {
                ToServer::Hello(observed) => {
                    self.pending.forget_reports();
                    return Ok(observed);
                }
                ToServer::Exits(exits) => self.pending.add_exits(exits),
                ToServer::Report(_)
                | ToServer::Acknowledged(_)
                | ToServer::GoesBy(_)
                | ToServer::Images
                | ToServer::Reopen => {}
            }
        }
    }

    async fn converse(
        &mut self,
        channel: Channel,
        outbound: mpsc::Sender<v1::AgentMessage>,
        mut inbound: Streaming<v1::ServerMessage>,
    ) -> Ended {
        let mut heartbeats = Heartbeats::new();
        // None until the server has told whom to believe: an older one does not ask.
        let mut beliefs = None;
        let channel = Arc::new(channel);
        let mut flush_at = None;
        let mut not_before = Instant::now();
        // While servers elect a leader, one takes a hello that it then turns away, and all that came with it is lost.
        let mut is_led = false;
        if !self.pending.is_empty() {
            flush_at = Some(Instant::now());
        }
        loop {
            let says = tokio::select! {
                message = inbound.message() => {
                    match message {
                        Ok(Some(message)) => {
                            is_led |= is_of_leader(&message);
                            match self.hear(message, &channel, &mut heartbeats, &mut beliefs) {
                                Ok(()) => continue,
                                Err(ended) => return ended,
                            }
                        }
                        Ok(None) => return Ended::Closed,
                        Err(status) => return Ended::Status(status),
                    }
                }
                told = self.inbox.recv() => match told.ok_or(Ended::AgentEnds).and_then(|told| self.gather(told)) {
                    Ok(None) => {
                        flush_at = flush_at.or_else(|| Some(not_before.max(Instant::now())));
                        continue;
                    }
                    Ok(Some(says)) => says,
                    Err(ended) => return ended,
                },
                () = sleep_until(flush_at.unwrap_or_else(Instant::now)), if is_led && flush_at.is_some() => {
                    flush_at = None;
                    not_before = Instant::now() + GATHER;
                    AgentSays::Report(self.pending.take(self.host.clock.now()))
                }
                belief = next(&mut beliefs) => AgentSays::Believes(self.node.id, belief),
                () = sleep_until(heartbeats.due()) => heartbeats.next(self.host.clock.now(), self.meter.look()),
            };
            if outbound.send((&says).into()).await.is_err() {
                return Ended::Closed;
            }
        }
    }

    /// What is said at once; none if it was put to what is gathered.
    fn gather(&mut self, told: ToServer) -> Result<Option<AgentSays>, Ended> {
        match told {
            ToServer::Report(observed) => self.pending.add_reports(observed),
            ToServer::Exits(exits) => self.pending.add_exits(exits),
            ToServer::Acknowledged(sequence) => return Ok(Some(AgentSays::Acknowledged { sequence })),
            ToServer::GoesBy(version) => return Ok(Some(AgentSays::InForce { version })),
            ToServer::Images => {
                return Ok(Some(AgentSays::Images(relay::images::named(&self.host.images)?)));
            }
            ToServer::Reopen => return Err(Ended::Gap),
            // Of a session that never came to be.
            ToServer::Hello(observed) => self.pending.add_reports(observed),
        }
        Ok(None)
    }

    fn hear(
        &mut self,
        message: v1::ServerMessage,
        channel: &Arc<Channel>,
        heartbeats: &mut Heartbeats,
        beliefs: &mut Option<watch::Receiver<Belief>>,
    ) -> Result<(), Ended> {
        match message.message {
            Some(Message::Dispatch(dispatch)) => {
                let dispatch = Dispatch::try_from(dispatch)?;
                self.happened.send(Happened::Core(Event::Assigned(dispatch))).map_err(|_| Ended::AgentEnds)
            }
            Some(Message::Directory(news)) => {
                let mut news = DirectoryNews::try_from(news)?;
                news.without(self.node.id);
                self.happened.send(Happened::Core(Event::Listed(news))).map_err(|_| Ended::AgentEnds)
            }
            Some(Message::Open(open)) => {
                relay::serve(self.host.clone(), Channel::clone(channel), open, self.happened.clone());
                Ok(())
            }
            Some(Message::Servers(servers)) => {
                if let Err(error) = self.ways.servers_are(servers.addresses) {
                    // The session is worth more than the note of where the next one could begin.
                    tracing::warn!(error = chain(&error), "where the servers are is not written down");
                }
                if !servers.trust.is_empty() {
                    self.ways.trust_is(servers.trust)?;
                    beliefs.get_or_insert_with(|| self.ways.beliefs());
                }
                Ok(())
            }
            Some(Message::Heard(heard)) => {
                let heard = Heard::from(heard);
                self.scatter = Duration::from_millis(heard.scatter.0);
                heartbeats.heard(heard).map_or(Ok(()), |until| self.hold_lease(until))
            }
            // A kind of message that this version does not know asks for nothing that it could do.
            None => Ok(()),
        }
    }

    /// The keepers know of it before anything is started under it. Where they cannot, it is not held.
    fn hold_lease(&self, until: Timestamp) -> Result<(), Ended> {
        match self.lease.renew(until) {
            Ok(()) => {
                self.happened.send(Happened::Core(Event::Leased { until })).map_err(|_| Ended::AgentEnds)
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "the lease cannot be written down, so it is not used");
                Ok(())
            }
        }
    }
}

/// Whether only a leader says this, and only of a session that it has taken. Such a message comes soon: the first one has
/// all that the node is to run.
fn is_of_leader(message: &v1::ServerMessage) -> bool {
    match message.message {
        Some(Message::Dispatch(_) | Message::Directory(_) | Message::Heard(_)) => true,
        Some(Message::Open(_) | Message::Servers(_)) | None => false,
    }
}

/// What is believed, each time that it changes; never, while nobody asks.
async fn next(beliefs: &mut Option<watch::Receiver<Belief>>) -> Belief {
    if let Some(beliefs) = beliefs
        && beliefs.changed().await.is_ok()
    {
        return *beliefs.borrow_and_update();
    }
    std::future::pending().await
}
