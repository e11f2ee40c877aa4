//! A server that is only played: it says what the test wants, and remembers what the agent said.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use model::{Assignment, ClusterId, Dispatch, Millis, Observed, ReplicaId};
use proto::{
    session::{AgentSays, ContainerExit, Hello},
    v1::{
        self,
        agents_server::{Agents, AgentsServer},
        exec_input::Input,
        exec_output::{Output, exited::How},
        open::Request,
        relay_frame::Frame,
        server_message::Message,
    },
};
use tokio::{net::UnixListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    tokio: tokio::runtime::Runtime,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    memory: Mutex<Memory>,
    changed: Condvar,
}

#[derive(Default)]
struct Memory {
    hellos: Vec<Hello>,
    seen: BTreeMap<ReplicaId, Observed>,
    exits: Vec<ContainerExit>,
    /// What is given for each heartbeat; they are not answered without.
    lease: Option<Millis>,
    session: Option<mpsc::Sender<Result<v1::ServerMessage, Status>>>,
    turns_away: bool,
    sequence: u64,
    relays: HashMap<u64, (Vec<Frame>, mpsc::UnboundedSender<Vec<Frame>>)>,
    next_stream: u64,
}

pub(crate) struct Said {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) how: Option<How>,
}

impl Server {
    pub(crate) fn listen(socket: &Path) -> Server {
        let tokio =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let heard = Arc::new(Heard::default());
        let service = AgentsServer::new(Played(Arc::clone(&heard)));
        let listener = {
            let _inside = tokio.enter();
            UnixListenerStream::new(UnixListener::bind(socket).unwrap())
        };
        tokio.spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(listener));
        Server { tokio, heard }
    }

    /// The hello of a new session; what is known is what it says.
    pub(crate) fn hello(&self) -> Hello {
        self.wait("a hello", |memory| memory.hellos.pop())
    }

    pub(crate) fn forget(&self) {
        *self.heard.memory.lock().unwrap() = Memory::default();
    }

    pub(crate) fn dispatch_full(&self, assignments: Vec<Assignment>) {
        let mut memory = self.heard.memory.lock().unwrap();
        memory.sequence += 1;
        let dispatch = Dispatch::Full { sequence: memory.sequence, assignments };
        memory.say(Message::Dispatch((&dispatch).into()));
    }

    /// From now on heartbeats are answered with this, or not at all.
    pub(crate) fn give_lease(&self, lease: Option<Millis>) {
        self.heard.memory.lock().unwrap().lease = lease;
    }

    /// The next session is taken, and ended over the first thing that is said after the hello: so does a server that does
    /// not know yet who leads.
    pub(crate) fn turn_away_one(&self) {
        self.heard.memory.lock().unwrap().turns_away = true;
    }

    pub(crate) fn seen(&self, replica: ReplicaId) -> Observed {
        self.wait_for("it is seen", replica, |_| true)
    }

    /// What was reported last, if anything was.
    pub(crate) fn last_seen(&self, replica: ReplicaId) -> Option<Observed> {
        self.heard.memory.lock().unwrap().seen.get(&replica).cloned()
    }

    pub(crate) fn wait_for(
        &self,
        what: &str,
        replica: ReplicaId,
        is: impl Fn(&Observed) -> bool,
    ) -> Observed {
        let what = format!("{what} ({replica})");
        self.wait(&what, |memory| memory.seen.get(&replica).filter(|seen| is(seen)).cloned())
    }

    pub(crate) fn wait_for_exit(&self, replica: ReplicaId) -> ContainerExit {
        self.wait("an exit", |memory| {
            let index = memory.exits.iter().position(|exit| exit.replica == replica)?;
            Some(memory.exits.remove(index))
        })
    }

    /// Asks for a stream, says these frames, and returns all that came back.
    pub(crate) fn relay(&self, request: Request, says: &[Frame]) -> Vec<Frame> {
        let (answer, mut answered) = mpsc::unbounded_channel();
        {
            let mut memory = self.heard.memory.lock().unwrap();
            memory.next_stream += 1;
            let stream = memory.next_stream;
            memory.relays.insert(stream, (says.to_vec(), answer));
            memory.say(Message::Open(v1::Open { stream, request: Some(request) }));
        }
        let frames = self.tokio.block_on(async { tokio::time::timeout(PATIENCE, answered.recv()).await });
        frames.expect("the stream ends in time").expect("the stream was served")
    }

    pub(crate) fn exec_request(&self, replica: ReplicaId, script: &str) -> v1::open::NodeExec {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let start = v1::ExecStart { command, stdin: true, ..Default::default() };
        v1::open::NodeExec { replica: replica.0, start: Some(start) }
    }

    pub(crate) fn exec(&self, replica: ReplicaId, script: &str, stdin: &'static [u8]) -> Said {
        let input = |input| Frame::ExecInput(v1::ExecInput { input: Some(input) });
        let says = [
            input(Input::Stdin(bytes::Bytes::from_static(stdin))),
            input(Input::StdinClosed(v1::exec_input::StdinClosed {})),
        ];
        self.said(Request::Exec(self.exec_request(replica, script)), &says)
    }

    pub(crate) fn exec_on_terminal(&self, replica: ReplicaId, script: &str) -> Said {
        let mut request = self.exec_request(replica, script);
        if let Some(start) = &mut request.start {
            start.tty = true;
            start.size = Some(v1::TerminalSize { rows: 30, columns: 100 });
        }
        self.said(Request::Exec(request), &[])
    }

    fn said(&self, request: Request, says: &[Frame]) -> Said {
        let mut said = Said { stdout: String::new(), stderr: String::new(), how: None };
        let frames = self.relay(request, says);
        for frame in frames {
            let Frame::ExecOutput(v1::ExecOutput { output: Some(output) }) = frame else {
                assert!(matches!(frame, Frame::Open(_) | Frame::End(_)), "{frame:?}");
                continue;
            };
            match output {
                Output::Stdout(bytes) => said.stdout += &String::from_utf8_lossy(&bytes),
                Output::Stderr(bytes) => said.stderr += &String::from_utf8_lossy(&bytes),
                Output::Exited(exited) => said.how = exited.how,
                Output::Started(_) => {}
            }
        }
        said
    }

    fn wait<T>(&self, what: &str, mut find: impl FnMut(&mut Memory) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut memory = self.heard.memory.lock().unwrap();
        loop {
            if let Some(found) = find(&mut memory) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "in vain: {what}; seen last: {:#?}", memory.seen);
            memory = self.heard.changed.wait_timeout(memory, left).unwrap().0;
        }
    }
}

impl Memory {
    fn say(&self, message: Message) {
        let session = self.session.as_ref().expect("a session is open");
        session.try_send(Ok(v1::ServerMessage { message: Some(message) })).expect("there is room");
    }

    fn hear(&mut self, says: AgentSays) {
        match says {
            AgentSays::Hello(hello) => {
                self.seen = hello.observed.iter().map(|one| (one.replica, one.clone())).collect();
                self.hellos.push(hello);
            }
            AgentSays::Report(report) => {
                self.seen.extend(report.observed.into_iter().map(|one| (one.replica, one)));
                self.exits.extend(report.exits);
            }
            AgentSays::Heartbeat { number, .. } => {
                if let Some(lease) = self.lease {
                    let heard = model::Heard { number, lease, next: Millis(200), scatter: Millis(50) };
                    self.say(Message::Heard(heard.into()));
                }
            }
            AgentSays::Introduction { .. } => panic!("the agents of these tests have a subnet"),
            AgentSays::Images(_)
            | AgentSays::Acknowledged { .. }
            | AgentSays::Believes(..)
            | AgentSays::InForce { .. } => {}
        }
    }
}

struct Played(Arc<Heard>);

#[tonic::async_trait]
impl Agents for Played {
    type SessionStream = ReceiverStream<Result<v1::ServerMessage, Status>>;
    type RelayStream = ReceiverStream<Result<v1::RelayFrame, Status>>;

    async fn session(
        &self,
        request: tonic::Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (sender, receiver) = mpsc::channel(64);
        let heard = Arc::clone(&self.0);
        let mut inbound = request.into_inner();
        let mut session = Some(sender);
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                let says = AgentSays::try_from(message).unwrap();
                let mut memory = heard.memory.lock().unwrap();
                if let AgentSays::Hello(_) = says {
                    memory.session = session.take();
                } else if std::mem::take(&mut memory.turns_away) {
                    let session = memory.session.take().expect("a hello came first");
                    session.try_send(Err(Status::unavailable("who leads?"))).expect("there is room");
                    return;
                }
                memory.hear(says);
                heard.changed.notify_all();
            }
        });
        let mut answer = Response::new(ReceiverStream::new(receiver));
        let cluster = ClusterId(1).to_string().parse().expect("an id fits into a header");
        answer.metadata_mut().insert(proto::CLUSTER_HEADER, cluster);
        Ok(answer)
    }

    async fn relay(
        &self,
        request: tonic::Request<Streaming<v1::RelayFrame>>,
    ) -> Result<Response<Self::RelayStream>, Status> {
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.and_then(|frame| frame.frame);
        let Some(Frame::Open(open)) = first else { return Err(Status::invalid_argument("open comes first")) };
        let asked = self.0.memory.lock().unwrap().relays.remove(&open.stream);
        let (says, answer) = asked.ok_or_else(|| Status::not_found("nobody asked"))?;
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(async move {
            for frame in says {
                drop(sender.send(Ok(v1::RelayFrame { frame: Some(frame) })).await);
            }
            let mut frames = Vec::new();
            while let Ok(Some(message)) = inbound.message().await {
                frames.extend(message.frame);
            }
            drop(sender);
            drop(answer.send(frames));
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
