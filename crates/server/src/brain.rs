//! The thread that owns the manager: it gathers what happened, lets the manager decide, and executes the effects.
//!
//! Everything else in this crate talks to it through [`Brain`], which is cheap to clone. A panic on this thread, and a
//! log that cannot be written, end the process: the only safe state then is the one on disk.

use std::{
    collections::HashMap,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use consensus::{Snapshot, SnapshotMeta};
use manager::{
    Codec, Effect, Event, Hello, Manager, ReadId, Reply, Report, Request, RequestError, RequestId, SessionId,
    View,
};
use model::{Dispatch, Timestamp};
use store::State;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    codec::WireCodec,
    log::{Log, LogError, LogEvent, LogWriter, SavedSnapshot, SnapshotWriter},
};

/// How often consensus counts. Elections and heartbeats are multiples of it.
const TICK: Duration = Duration::from_millis(100);
/// How many events are handed to the manager at once: as many as came while the last batch was worked on, but not so
/// many that a reply waits long for the others of its batch.
const MAX_BATCH: usize = 1_024;

/// A handle to the thread.
#[derive(Clone, Debug)]
pub struct Brain {
    inputs: Sender<Input>,
    views: watch::Receiver<View>,
}

/// The thread has ended: the server is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server is shutting down")]
pub struct Stopped;

/// What the manager says to one agent.
#[derive(Debug)]
pub enum ToAgent {
    Dispatch(Dispatch),
    /// The session is over, for this reason.
    Close(String),
}

enum Input {
    Request { request: Request, reply: oneshot::Sender<Result<Reply, RequestError>> },
    Read { reply: oneshot::Sender<View> },
    SessionOpened { session: SessionId, hello: Box<Hello>, to_agent: mpsc::UnboundedSender<ToAgent> },
    SessionReport { session: SessionId, report: Report },
    SessionClosed { session: SessionId },
    Log(LogEvent),
    SnapshotWritten(Snapshot, SavedSnapshot),
    Stop,
}

impl Brain {
    pub async fn request(&self, request: Request) -> Result<Result<Reply, RequestError>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Request { request, reply })?;
        answer.await.map_err(|_| Stopped)
    }

    /// What is true now: everything that was answered before this call is in the view.
    pub async fn read(&self) -> Result<View, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Read { reply })?;
        answer.await.map_err(|_| Stopped)
    }

    /// The newest view, and word of every newer one.
    pub fn views(&self) -> watch::Receiver<View> {
        self.views.clone()
    }

    pub fn open_session(
        &self,
        session: SessionId,
        hello: Hello,
    ) -> Result<mpsc::UnboundedReceiver<ToAgent>, Stopped> {
        // Unbounded, because the brain must not wait for a slow agent; what is in it is bounded by what changes.
        let (to_agent, from_brain) = mpsc::unbounded_channel();
        self.send(Input::SessionOpened { session, hello: Box::new(hello), to_agent })?;
        Ok(from_brain)
    }

    pub fn report(&self, session: SessionId, report: Report) -> Result<(), Stopped> {
        self.send(Input::SessionReport { session, report })
    }

    pub fn close_session(&self, session: SessionId) -> Result<(), Stopped> {
        self.send(Input::SessionClosed { session })
    }

    /// Ends the thread once all that was sent before is worked off.
    pub fn stop(&self) {
        // Fails only where the thread has ended already.
        let _ = self.send(Input::Stop);
    }

    fn send(&self, input: Input) -> Result<(), Stopped> {
        self.inputs.send(input).map_err(|_| Stopped)
    }
}

/// Starts the thread. `manager` is as restored from `log`.
pub fn start(manager: Manager<WireCodec>, log: Log) -> std::io::Result<(Brain, std::thread::JoinHandle<()>)> {
    let (inputs, received) = channel();
    let (publish, views) = watch::channel(manager.view());
    let told = inputs.clone();
    let log = LogWriter::start(
        log,
        Box::new(move |event| {
            // The brain may have stopped before the log: then nobody waits for this.
            let _ = told.send(Input::Log(event));
        }),
    )?;
    let worker = Worker {
        manager,
        log,
        publish,
        inputs: inputs.clone(),
        full: None,
        requests: HashMap::new(),
        reads: HashMap::new(),
        sessions: HashMap::new(),
        next_id: 0,
    };
    let thread = std::thread::Builder::new().name("brain".to_owned()).spawn(move || {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run(&received)));
        if ended.is_err() {
            // The panic hook has printed what and where.
            std::process::abort();
        }
    })?;
    Ok((Brain { inputs, views }, thread))
}

struct Worker {
    manager: Manager<WireCodec>,
    log: LogWriter,
    publish: watch::Sender<View>,
    inputs: Sender<Input>,
    /// Why nothing can be written now.
    full: Option<String>,
    requests: HashMap<RequestId, oneshot::Sender<Result<Reply, RequestError>>>,
    reads: HashMap<ReadId, oneshot::Sender<View>>,
    sessions: HashMap<SessionId, mpsc::UnboundedSender<ToAgent>>,
    next_id: u64,
}

impl Worker {
    fn run(mut self, received: &Receiver<Input>) {
        let mut next_tick = Instant::now();
        loop {
            let mut events = Vec::new();
            let mut stop = false;
            match received.recv_timeout(self.patience(next_tick)) {
                Ok(input) => stop |= self.take(input, &mut events),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => stop = true,
            }
            while events.len() < MAX_BATCH
                && let Ok(input) = received.try_recv()
            {
                stop |= self.take(input, &mut events);
            }
            if Instant::now() >= next_tick {
                events.push(Event::Tick);
                next_tick = Instant::now() + TICK;
            }
            for effect in self.manager.step(now(), events) {
                self.execute(effect);
            }
            if stop {
                return;
            }
        }
    }

    /// How long nothing needs doing: until the next tick, or until something the manager waits for is due.
    fn patience(&self, next_tick: Instant) -> Duration {
        let to_tick = next_tick.saturating_duration_since(Instant::now());
        match self.manager.next_wake() {
            Some(at) => to_tick.min(Duration::from_millis(at.since(now()).0)),
            None => to_tick,
        }
    }

    /// Turns an input into an event, keeping the way back to who asked. Says whether to stop.
    fn take(&mut self, input: Input, events: &mut Vec<Event>) -> bool {
        self.next_id += 1;
        events.push(match input {
            Input::Request { request, reply } => {
                if let Some(reason) = self.full.clone() {
                    let _ = reply.send(Err(RequestError::CannotWrite { reason }));
                    return false;
                }
                let id = RequestId(self.next_id);
                self.requests.insert(id, reply);
                Event::Request { id, request }
            }
            Input::Read { reply } => {
                let id = ReadId(self.next_id);
                self.reads.insert(id, reply);
                Event::Read { id }
            }
            Input::SessionOpened { session, hello, to_agent } => {
                self.sessions.insert(session, to_agent);
                Event::SessionOpened { session, hello: *hello }
            }
            Input::SessionReport { session, report } => Event::SessionReport { session, report },
            Input::SessionClosed { session } => {
                self.sessions.remove(&session);
                Event::SessionClosed { session }
            }
            Input::Log(LogEvent::Persisted { number }) => Event::Persisted { number },
            Input::Log(LogEvent::Full(error)) => {
                tracing::error!(
                    error = chain(&error),
                    "nothing can be written until there is room; reads go on"
                );
                self.full = Some(chain(&error));
                return false;
            }
            Input::Log(LogEvent::Writable) => {
                tracing::info!("there is room again: writes go on");
                self.full = None;
                return false;
            }
            Input::Log(LogEvent::Failed(error)) => give_up(&chain(&error)),
            Input::SnapshotWritten(snapshot, saved) => {
                self.log.compact(saved);
                Event::SnapshotWritten(snapshot)
            }
            Input::Stop => return true,
        });
        false
    }

    fn execute(&mut self, effect: Effect) {
        // Whoever asked may have gone away meanwhile; then the answer is dropped, which is all there is to do.
        match effect {
            Effect::Persist(persist) => self.log.append(persist),
            Effect::Send(messages) => {
                assert!(messages.is_empty(), "a cluster of one server has nobody to send to");
            }
            Effect::Reply { id, result } => {
                if let Some(reply) = self.requests.remove(&id) {
                    let _ = reply.send(result);
                }
            }
            Effect::ReadReady { id, view } => {
                if let Some(reply) = self.reads.remove(&id) {
                    let _ = reply.send(view);
                }
            }
            Effect::Dispatch { session, dispatch } => self.tell(session, ToAgent::Dispatch(dispatch)),
            Effect::CloseSession { session, reason } => {
                self.tell(session, ToAgent::Close(reason));
                self.sessions.remove(&session);
            }
            Effect::Snapshot { meta, state } => self.write_snapshot(meta, state),
            Effect::Publish(view) => {
                self.publish.send_replace(view);
            }
            Effect::Fatal { reason } => give_up(&reason),
        }
    }

    /// Beside everything else: the state is a clone that nobody changes.
    fn write_snapshot(&self, meta: SnapshotMeta, state: State) {
        let (writer, inputs) = (self.log.snapshots(), self.inputs.clone());
        let written = std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            let snapshot = Snapshot { meta, data: WireCodec.encode_snapshot(&state).into() };
            let saved = save(&writer, &snapshot);
            let _ = inputs.send(Input::SnapshotWritten(snapshot, saved));
        });
        if let Err(error) = written {
            give_up(&format!("no thread can be started for a snapshot: {error}"));
        }
    }

    fn tell(&self, session: SessionId, message: ToAgent) {
        if let Some(to_agent) = self.sessions.get(&session) {
            let _ = to_agent.send(message);
        }
    }
}

/// Tries until there is room: a log that is not compacted only grows.
fn save(writer: &SnapshotWriter, snapshot: &Snapshot) -> SavedSnapshot {
    loop {
        match writer.write(snapshot) {
            Ok(saved) => return saved,
            Err(error @ LogError::Full { .. }) => {
                tracing::warn!(error = chain(&error), "a snapshot waits for room on the disk");
                std::thread::sleep(Duration::from_secs(5));
            }
            Err(error) => give_up(&chain(&error)),
        }
    }
}

fn give_up(reason: &str) -> ! {
    tracing::error!(reason, "this server cannot go on");
    std::process::exit(1);
}

/// An error with everything that caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// The only place of the server that reads the wall clock.
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since_epoch.as_millis() as u64)
}
