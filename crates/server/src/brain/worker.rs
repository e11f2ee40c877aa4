//! Who owns the manager: it gathers what happened, lets the manager decide, and executes the effects.
//!
//! A panic in a turn, and a log that cannot be written, end the process: the only safe state then is the one on disk.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use consensus::{Persist, SnapshotMeta};
use manager::{
    Effect, Event, Manager, MemberError, MemberRequest, ReadId, Reply, Request, RequestError, RequestId,
    SessionId, View,
};
use store::State;
use tokio::sync::oneshot;

use super::{
    First, Input, ToAgent,
    published::Publisher,
    session::ToSession,
    snapshot::SnapshotThread,
    turns::{Inbox, Taker},
};
use crate::{
    chain::chain,
    clock::{self, now},
    codec::WireCodec,
    log::{Log, LogEvent, LogWriter},
    peers::{PeerEvent, Peers},
};

/// How often consensus counts. Elections and heartbeats are multiples of it.
const TICK: Duration = Duration::from_millis(100);
/// How many events are handed to the manager at once: as many as came while the last batch was worked on, but not so
/// many that a reply waits long for the others of its batch.
const MAX_BATCH: usize = 1_024;
/// The manager's times are in milliseconds: what is due so much earlier than was said is due when it was said.
const LATE: Duration = Duration::from_millis(2);
/// How long a server that stops goes on for those whom it has not answered yet.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

pub(super) struct Worker {
    manager: Manager<WireCodec>,
    log: LogWriter,
    /// The last write that the log has not confirmed.
    unwritten: Option<u64>,
    peers: Option<Peers>,
    publisher: Publisher,
    inbox: Arc<Inbox>,
    /// Taken from the inbox, for the next steps.
    taken: VecDeque<Input>,
    next_tick: Instant,
    /// When the thread looks again at the latest, unless it is woken.
    looks_at: Instant,
    /// Who keeps the log, in words.
    whose: String,
    /// Why nothing can be written now.
    full: Option<String>,
    requests: HashMap<RequestId, oneshot::Sender<Result<Reply, RequestError>>>,
    members: HashMap<RequestId, oneshot::Sender<Result<(), MemberError>>>,
    reads: HashMap<ReadId, oneshot::Sender<View>>,
    sessions: HashMap<SessionId, ToSession>,
    next_id: u64,
    /// To be told why this server is no member any more.
    removed: Option<oneshot::Sender<String>>,
    /// When it ends at the latest; none while nobody wants it to end.
    stop_by: Option<Instant>,
    snapshot: Option<SnapshotThread>,
}

impl Worker {
    pub(super) fn new(
        manager: Manager<WireCodec>,
        log: Log,
        peers: Option<Peers>,
        publisher: Publisher,
        whose: String,
        removed: oneshot::Sender<String>,
        inbox: Arc<Inbox>,
    ) -> std::io::Result<Worker> {
        let told = inbox.clone();
        // The brain may have stopped before the log: then nobody waits for this.
        let notify = move |event| {
            let _ = told.send(Input::Log(event));
        };
        Ok(Worker {
            manager,
            log: LogWriter::start(log, Box::new(notify))?,
            unwritten: None,
            peers,
            publisher,
            inbox,
            taken: VecDeque::new(),
            next_tick: Instant::now(),
            looks_at: Instant::now(),
            whose,
            full: None,
            requests: HashMap::new(),
            members: HashMap::new(),
            reads: HashMap::new(),
            sessions: HashMap::new(),
            next_id: 0,
            removed: Some(removed),
            stop_by: None,
            snapshot: None,
        })
    }

    /// Does what waits, and what follows from it at once. Whoever lends its thread does not do what comes meanwhile: among that
    /// may be more and more, and its own users wait. Returns how many inputs were taken.
    pub(super) fn turn(&mut self, taker: Taker) -> u32 {
        let mut events = Vec::new();
        let mut count = self.gather(&mut events);
        loop {
            self.tick_if_due(&mut events);
            if events.is_empty() && Instant::now() < self.due_at() {
                return count;
            }
            events = Vec::from_iter(self.step(events, taker));
            let more = !self.taken.is_empty();
            match taker {
                Taker::Brain if more || !events.is_empty() => count += self.gather(&mut events),
                Taker::Connection if !events.is_empty() => {}
                Taker::Brain | Taker::Connection => return count,
            }
        }
    }

    /// What waits, as far as one step takes it. Returns how many inputs that were.
    fn gather(&mut self, events: &mut Vec<Event>) -> u32 {
        let mut count = 0;
        while events.len() < MAX_BATCH {
            if self.taken.is_empty() {
                self.inbox.swap(&mut self.taken);
            }
            let Some(input) = self.taken.pop_front() else { break };
            count += 1;
            events.extend(self.take(input));
        }
        count
    }

    fn tick_if_due(&mut self, events: &mut Vec<Event>) {
        if Instant::now() < self.next_tick {
            return;
        }
        // Who asked may have gone: while there is no leader, nobody is answered.
        self.reads.retain(|_, reply| !reply.is_closed());
        events.push(Event::Tick);
        events.extend(self.leave_to_others());
        self.next_tick = Instant::now() + TICK;
        self.manager.look_at_the_wall(clock::wall());
    }

    /// What was written at once is an event for the next step.
    fn step(&mut self, events: Vec<Event>, taker: Taker) -> Option<Event> {
        let (mut writes, mut sends) = (Vec::new(), false);
        for effect in self.manager.step(now(), events) {
            sends |= matches!(&effect, Effect::Send(messages) if !messages.is_empty());
            self.execute(effect, &mut writes);
        }
        // Last, so that nobody waits for it who need not. What was said to others leaves from a thread that serves
        // connections.
        self.write(writes, taker == Taker::Brain || !sends)
    }

    /// Makes it durable at once if nothing is in the way, and has it done if something is.
    fn write(&mut self, writes: Vec<Persist>, may_wait: bool) -> Option<Event> {
        let last = writes.last()?.number;
        if self.unwritten.replace(last).is_some() || !may_wait {
            writes.into_iter().for_each(|persist| self.log.append(persist));
            return None;
        }
        let event = self.log.append_here(writes)?;
        self.take_log_event(event)
    }

    /// Whether everyone was answered who can be answered soon, and there are to be no more turns.
    pub(super) fn is_done(&self) -> bool {
        let waits = !self.requests.is_empty() && self.full.is_none();
        self.stop_by.is_some_and(|by| !waits || Instant::now() >= by)
    }

    /// After the last turn.
    pub(super) fn end(mut self) {
        self.snapshot.take().into_iter().for_each(SnapshotThread::end);
    }

    /// How long the thread may sleep.
    pub(super) fn patience(&mut self) -> Duration {
        self.looks_at = self.due_at();
        self.looks_at.saturating_duration_since(Instant::now())
    }

    /// Whether the thread has to look earlier than it was told, or has to end.
    pub(super) fn wants_thread(&self) -> bool {
        self.stop_by.is_some() || !self.taken.is_empty() || self.due_at() + LATE < self.looks_at
    }

    /// When something needs doing though nothing happens: the next tick, or what the manager waits for.
    fn due_at(&self) -> Instant {
        let due =
            self.manager.next_wake().map(|at| Instant::now() + Duration::from_millis(at.since(now()).0));
        due.map_or(self.next_tick, |due| due.min(self.next_tick))
    }

    /// Turns an input into an event, if the manager is to know of it, keeping the way back to who asked.
    fn take(&mut self, input: Input) -> Option<Event> {
        self.next_id += 1;
        Some(match input {
            Input::Request { request, reply, .. } => return self.take_request(request, reply),
            Input::Members { request, reply, .. } => {
                let id = RequestId(self.next_id);
                self.members.insert(id, reply);
                Event::Members { id, request }
            }
            Input::Read { reply, .. } => {
                let id = ReadId(self.next_id);
                self.reads.insert(id, reply);
                Event::Read { id }
            }
            Input::SessionOpened { session, first, to_agent } => {
                self.sessions.insert(session, ToSession::new(to_agent));
                match first {
                    First::Hello(hello) => Event::SessionOpened { session, hello: *hello },
                    First::Introduction(info) => Event::NodeIntroduced { session, info },
                }
            }
            Input::SessionInForce { session, version, .. } => Event::SessionInForce { session, version },
            Input::SessionReport { session, report, .. } => Event::SessionReport { session, report },
            Input::SessionHeartbeat { session, number, usage, .. } => {
                Event::SessionHeartbeat { session, number, usage }
            }
            Input::SessionClosed { session } => {
                self.sessions.remove(&session);
                Event::SessionClosed { session }
            }
            Input::Peer(PeerEvent::Received(message, level)) => {
                self.publisher.hears(message.from);
                Event::Peer { message, level }
            }
            Input::Peer(PeerEvent::Ended(peer)) => Event::PeerEnded { peer },
            Input::Peer(PeerEvent::Unreachable(peer)) => Event::Unreachable { peer },
            Input::Peer(PeerEvent::Snapshot(peer, delivery)) => Event::SnapshotSent { peer, delivery },
            Input::Log(event) => return self.take_log_event(event),
            Input::SnapshotWritten(snapshot, saved) => {
                self.log.compact(saved);
                self.snapshot = None;
                Event::SnapshotWritten(snapshot)
            }
            Input::Stop => {
                self.stop_by = Some(Instant::now() + LAST_ANSWERS);
                return None;
            }
        })
    }

    /// A leader that cannot write holds up a cluster in which others can: another one is to lead, as soon as one may. Where
    /// this server does not lead nothing comes of it, and nobody waits for the answer.
    fn leave_to_others(&mut self) -> Option<Event> {
        if self.full.is_none() || self.peers.is_none() {
            return None;
        }
        self.next_id += 1;
        Some(Event::Members { id: RequestId(self.next_id), request: MemberRequest::Transfer { to: None } })
    }

    /// What is not to be written can be answered also while nothing can be written.
    fn take_request(
        &mut self,
        request: Request,
        reply: oneshot::Sender<Result<Reply, RequestError>>,
    ) -> Option<Event> {
        let is_dry_run = matches!(request, Request::Apply { dry_run: true, .. });
        if let Some(reason) = self.full.clone().filter(|_| !is_dry_run) {
            let _ = reply.send(Err(RequestError::CannotWrite { reason }));
            return None;
        }
        let id = RequestId(self.next_id);
        self.requests.insert(id, reply);
        Some(Event::Request { id, request })
    }

    fn take_log_event(&mut self, event: LogEvent) -> Option<Event> {
        match event {
            LogEvent::Persisted { number } => {
                self.unwritten = self.unwritten.filter(|last| *last > number);
                return Some(Event::Persisted { number });
            }
            LogEvent::Full(error) => {
                let reason = chain(&error);
                tracing::error!(error = reason, "nothing can be written until there is room; reads go on");
                let reason = format!("{}: {reason}", self.whose);
                // Those whose write is stuck would wait until somebody makes room.
                for (_, reply) in self.requests.drain() {
                    let _ = reply.send(Err(RequestError::WritesLater { reason: reason.clone() }));
                }
                self.set_full(Some(reason));
            }
            LogEvent::Writable => {
                tracing::info!("there is room again: writes go on");
                self.set_full(None);
            }
            LogEvent::Failed(error) => give_up(&chain(&error)),
        }
        None
    }

    fn set_full(&mut self, full: Option<String>) {
        self.publisher.set_full(full.clone());
        self.full = full;
    }

    fn execute(&mut self, effect: Effect, writes: &mut Vec<Persist>) {
        // Whoever asked may have gone away meanwhile; then the answer is dropped, which is all there is to do.
        match effect {
            Effect::Persist(persist) => writes.push(persist),
            Effect::Send(messages) => match &self.peers {
                Some(peers) => peers.send(messages),
                None => assert!(messages.is_empty(), "a cluster of one server has nobody to send to"),
            },
            Effect::Reply { id, result } => {
                if let Some(reply) = self.requests.remove(&id) {
                    let _ = reply.send(result);
                }
            }
            Effect::MembersReply { id, result } => {
                if let Some(reply) = self.members.remove(&id) {
                    let _ = reply.send(result);
                }
            }
            Effect::ReadReady { id, view } => {
                if let Some(reply) = self.reads.remove(&id) {
                    let _ = reply.send(view);
                }
            }
            Effect::Dispatch { session, dispatch } => self.tell(session, ToAgent::Dispatch(dispatch)),
            Effect::Directory { session, news } => self.tell(session, ToAgent::Directory(news)),
            Effect::Heard { session, heard } => {
                if let Some(to_session) = self.sessions.get_mut(&session) {
                    to_session.answer(heard);
                }
            }
            Effect::CloseSession { session, reason } => {
                self.tell(session, ToAgent::Close(reason));
                self.sessions.remove(&session);
            }
            Effect::Snapshot { meta, state } => self.write_snapshot(meta, state),
            Effect::Publish(view) => self.publish(view),
            Effect::Removed { reason } => {
                // Said again with every step until the last.
                if let Some(removed) = self.removed.take() {
                    let _ = removed.send(reason);
                    self.stop_by = Some(Instant::now());
                }
            }
            Effect::Fatal { reason } => give_up(&reason),
        }
    }

    fn publish(&mut self, view: View) {
        if let Some(peers) = &mut self.peers {
            // Those who were removed too: they are told so when they ask.
            let members = view.state.members();
            peers.know(&members.map(|member| (member.id.0, member.address.clone())).collect());
        }
        self.publisher.publish(view);
    }

    fn tell(&mut self, session: SessionId, message: ToAgent) {
        if let Some(to_session) = self.sessions.get_mut(&session) {
            to_session.tell(message);
        }
    }

    fn write_snapshot(&mut self, meta: SnapshotMeta, state: State) {
        match SnapshotThread::start(meta, state, self.log.snapshots(), self.inbox.clone()) {
            Ok(thread) => self.snapshot = Some(thread),
            Err(error) => give_up(&format!("no thread can be started for a snapshot: {error}")),
        }
    }
}

pub(super) fn give_up(reason: &str) -> ! {
    tracing::error!(reason, "this server cannot go on");
    std::process::exit(1);
}
