//! An agent that is only played: it has a real session, and does what a test says.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use model::{
    Assignment, Bytes, ContainerObserved, ContainerState, Desired, Digest, Dispatch, MilliCpu, Name, NodeId,
    NodeInfo, Observed, Phase, ReplicaId, Timeline, Timestamp,
};
use proto::{
    PROTOCOL_VERSION,
    session::{AgentSays, Hello, Report},
    v1::{self, agents_client::AgentsClient, open::Request, relay_frame::Frame, server_message::Message},
};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use crate::fixture::{Server, in_time};

const QUEUE: usize = 64;
const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(1);

pub(crate) struct Agent {
    node: NodeId,
    says: mpsc::Sender<v1::AgentMessage>,
    opens: mpsc::UnboundedReceiver<v1::Open>,
    dispatches: mpsc::UnboundedReceiver<Dispatch>,
    ended: Arc<Mutex<Option<Status>>>,
    client: AgentsClient<Channel>,
    assigned: BTreeMap<ReplicaId, Assignment>,
    images: Vec<(String, Digest)>,
    tasks: Vec<JoinHandle<()>>,
}

/// One stream that the server asked for.
pub(crate) struct Relay {
    pub(crate) request: Request,
    says: mpsc::Sender<v1::RelayFrame>,
    hears: Streaming<v1::RelayFrame>,
}

pub(crate) fn digest(number: u64) -> Digest {
    format!("sha256:{number:064x}").parse().unwrap()
}

pub(crate) fn hello(node: u64, observed: Vec<Observed>, images: Vec<(String, Digest)>) -> Hello {
    let info = NodeInfo {
        id: NodeId(node),
        name: Name::new(&format!("n{node}")).unwrap(),
        labels: BTreeMap::new(),
        cpu: MilliCpu(4_000),
        memory: Bytes(1 << 40),
        address: Ipv4Addr::LOCALHOST,
        subnet: None,
        agent_version: "0.1.0".to_owned(),
    };
    Hello {
        protocol_version: PROTOCOL_VERSION,
        node: info,
        observed,
        images,
        level: model::Level::FIRST,
        said_at: None,
    }
}

impl Agent {
    /// Opens a session and has got its first assignments.
    pub(crate) async fn start(server: &Server, node: u64) -> Agent {
        Agent::start_with(server, node, Vec::new()).await
    }

    /// The same, with replicas that it has already.
    pub(crate) async fn start_with(server: &Server, node: u64, observed: Vec<Observed>) -> Agent {
        let images = vec![("hello:latest".to_owned(), digest(1))];
        let mut client = server.agents().await;
        let (says, messages) = mpsc::channel(QUEUE);
        let first = AgentSays::Hello(hello(node, observed, images.clone()));
        says.send((&first).into()).await.unwrap();
        let inbound = client.session(ReceiverStream::new(messages)).await.unwrap().into_inner();
        let (to_opens, opens) = mpsc::unbounded_channel();
        let (to_dispatches, dispatches) = mpsc::unbounded_channel();
        let ended = Arc::default();
        let hears = tokio::spawn(hear(inbound, to_opens, to_dispatches, Arc::clone(&ended)));
        let beats = tokio::spawn(beat(says.clone()));
        let tasks = vec![hears, beats];
        let assigned = BTreeMap::new();
        let node = NodeId(node);
        let mut agent = Agent { node, says, opens, dispatches, ended, client, assigned, images, tasks };
        agent.next_dispatch().await;
        agent
    }

    pub(crate) async fn next_dispatch(&mut self) {
        let Some(dispatch) = in_time("a dispatch", self.dispatches.recv()).await else {
            panic!("the session ended: {:?}", self.ended.lock().await);
        };
        match dispatch {
            Dispatch::Full { assignments, .. } => {
                self.assigned = assignments.into_iter().map(|one| (one.replica, one)).collect();
            }
            Dispatch::Increment { changed, removed, .. } => {
                self.assigned.extend(changed.into_iter().map(|one| (one.replica, one)));
                removed.iter().for_each(|id| drop(self.assigned.remove(id)));
            }
        }
    }

    /// Waits until it is to run exactly so many replicas; returns them in the order of their slots.
    pub(crate) async fn wanted(&mut self, count: usize) -> Vec<Assignment> {
        loop {
            let running = self.assigned.values().filter(|one| one.desired == Desired::Running);
            let mut running: Vec<Assignment> = running.cloned().collect();
            if running.len() == count {
                running.sort_by_key(|one| (one.service.clone(), one.slot));
                return running;
            }
            self.next_dispatch().await;
        }
    }

    pub(crate) async fn say(&self, says: AgentSays) {
        self.says.send((&says).into()).await.unwrap();
    }

    pub(crate) async fn report(&self, observed: Vec<Observed>) {
        self.say(AgentSays::Report(Report { observed, exits: Vec::new(), said_at: None })).await;
    }

    /// Everything that it was told to run is ready.
    pub(crate) async fn run_all(&self) {
        let observed = self.assigned.values().map(|one| ready(one.replica)).collect();
        self.report(observed).await;
    }

    /// From now on, besides what it had.
    pub(crate) async fn has_image(&mut self, name: &str, digest: Digest) {
        self.images.push((name.to_owned(), digest));
        self.say(AgentSays::Images(self.images.clone())).await;
    }

    pub(crate) async fn has_no_images(&mut self) {
        self.images.clear();
        self.say(AgentSays::Images(Vec::new())).await;
    }

    /// Waits until it is asked for a stream.
    pub(crate) async fn asked(&mut self) -> v1::Open {
        in_time("the server asks for a stream", self.opens.recv()).await.unwrap()
    }

    /// Waits until it is asked for a stream, and opens it.
    pub(crate) async fn relay(&mut self) -> Relay {
        let open = self.asked().await;
        let (says, frames) = mpsc::channel(QUEUE);
        let first = Frame::Open(v1::relay_frame::RelayOpen { stream: open.stream });
        says.send(v1::RelayFrame { frame: Some(first) }).await.unwrap();
        let hears = self.client.relay(ReceiverStream::new(frames)).await.unwrap().into_inner();
        Relay { request: open.request.unwrap(), says, hears }
    }

    /// Says nothing any more, though its connection stands.
    pub(crate) fn hang(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    /// Waits until the server has ended the session, and says why.
    pub(crate) async fn ended(mut self) -> Status {
        in_time("the session ends", async { while self.dispatches.recv().await.is_some() {} }).await;
        let ended = self.ended.lock().await.take();
        ended.unwrap_or_else(|| Status::ok("without a word"))
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }
}

/// Its process is gone, and with it its connection.
impl Drop for Agent {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn hear(
    mut inbound: Streaming<v1::ServerMessage>,
    opens: mpsc::UnboundedSender<v1::Open>,
    dispatches: mpsc::UnboundedSender<Dispatch>,
    ended: Arc<Mutex<Option<Status>>>,
) {
    loop {
        match inbound.message().await {
            Ok(Some(v1::ServerMessage { message: Some(Message::Dispatch(dispatch)) })) => {
                let _ = dispatches.send(dispatch.try_into().unwrap());
            }
            Ok(Some(v1::ServerMessage { message: Some(Message::Open(open)) })) => drop(opens.send(open)),
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(status) => {
                *ended.lock().await = Some(status);
                return;
            }
        }
    }
}

async fn beat(says: mpsc::Sender<v1::AgentMessage>) {
    while says.send((&AgentSays::Heartbeat { number: 0, usage: None }).into()).await.is_ok() {
        tokio::time::sleep(HEARTBEAT).await;
    }
}

impl Relay {
    pub(crate) async fn say(&self, frame: Frame) {
        self.says.send(v1::RelayFrame { frame: Some(frame) }).await.unwrap();
    }

    pub(crate) async fn line(&self, slot: u32, unix_ns: u64, text: &'static str) {
        let container = "main".to_owned();
        let line = v1::LogLine { slot, container, unix_ns, text: text.into(), ..v1::LogLine::default() };
        self.say(Frame::LogLine(line)).await;
    }

    /// Its last frame, which has to arrive: to drop the stream would be to reset it.
    pub(crate) async fn end(mut self) {
        self.say(Frame::End(v1::relay_frame::End {})).await;
        self.closed().await;
    }

    pub(crate) async fn fail(mut self, message: &str) {
        self.say(Frame::Error(v1::relay_frame::RelayError { message: message.to_owned() })).await;
        self.closed().await;
    }

    /// What the server says; none once it has closed the stream.
    pub(crate) async fn hear(&mut self) -> Option<Frame> {
        in_time("the server says something", self.hears.message()).await.ok()??.frame
    }

    /// Waits until the server has closed the stream.
    pub(crate) async fn closed(&mut self) {
        while self.hear().await.is_some() {}
    }
}

pub(crate) fn ready(replica: ReplicaId) -> Observed {
    let now = Timestamp(1);
    let state = ContainerState::Running { pid: 1, since: now, ready: true };
    let main = ContainerObserved { name: Name::new("main").unwrap(), state, restarts: 0, last_exit: None };
    Observed {
        replica,
        phase: Phase::Running,
        ready_since: Some(now),
        timeline: Timeline { started: Some(now), ready: Some(now), ..Timeline::default() },
        address: None,
        containers: vec![main],
        message: None,
    }
}

/// Started, and not ready yet.
pub(crate) fn running(replica: ReplicaId) -> Observed {
    Observed { ready_since: None, ..ready(replica) }
}
