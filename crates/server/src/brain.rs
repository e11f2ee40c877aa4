//! The way to the manager: a handle that is cheap to clone.
//!
//! Everything else in this crate talks to the manager through [`Brain`]; who owns it is in `worker`, whose turn it is to have
//! it do something in `turns`, what is seen of it without a turn in `published`.
//!
//! # The way of one write between threads
//!
//! On a virtual machine it costs about 40 µs when a thread wakes another, half of it for whoever wakes; the disk takes about
//! 100 µs for pwrite and fdatasync. So one write that comes alone wakes nobody: the thread that serves its connection takes
//! the manager's turn, and writes. Of several servers the leader has its log's thread write, while it speaks to the others.
//! Where much is asked the manager's own thread takes what comes together: one step of the manager, one pwrite and one
//! fdatasync are shared by all that waits, while few threads serve connections.

mod turns;
mod worker;

mod published;
mod session;
mod snapshot;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use consensus::{MemberId, PeerMessageKind, Snapshot};
use manager::{
    Hello, Manager, MemberError, MemberRequest, Reply, Report, Request, RequestError, SessionId, View,
};
use model::{DirectoryNews, Dispatch, MemberId as Id, NodeInfo, Usage};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tonic::Status;

use crate::{
    codec::WireCodec,
    log::{Log, LogEvent, SavedSnapshot},
    peers::{Listens, PeerEvent, Peers, Tell},
};
use published::Published;
pub(crate) use published::Servers;
pub use session::LastHeard;
use turns::Turns;
use worker::Worker;

/// A handle to the manager.
#[derive(Clone, Debug)]
pub struct Brain {
    turns: Arc<Turns>,
    published: Published,
    requests: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    members: Arc<Semaphore>,
}

/// How long whoever asks waits for a leader to be elected.
pub(crate) const ELECTION: Duration = Duration::from_secs(5);

/// The thread has ended: the server is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server is shutting down")]
pub struct Stopped;

/// Why nobody can say what is true now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error("too many ask this server at once; try again shortly")]
    Overloaded,
    #[error(transparent)]
    NoLeader(#[from] NoLeader),
}

/// Whoever led when this was asked may have lost the others meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLeader {
    #[error("the cluster has no leader now; try again shortly")]
    ForNow,
    /// A server that can write nothing neither leads nor votes, and where most are so, the cluster waits for room.
    #[error("the cluster has no leader now, and this server cannot help to elect one: {full}")]
    WithoutRoom { full: String },
}

/// What the manager says to one agent.
#[derive(Debug)]
pub enum ToAgent {
    Dispatch(Dispatch),
    Directory(Arc<DirectoryNews>),
    /// To its last heartbeat.
    Heard(LastHeard),
    /// The session is over, for this reason.
    Close(String),
}

/// The first word of a session.
#[derive(Debug)]
pub enum First {
    Hello(Box<Hello>),
    /// By an agent that has no subnet yet.
    Introduction(NodeInfo),
}

impl First {
    pub fn node(&self) -> &NodeInfo {
        match self {
            First::Hello(hello) => &hello.info,
            First::Introduction(info) => info,
        }
    }
}

/// How many requests of users may be under way; the same of reads. The thread takes thousands in one step, so whoever is
/// refused meets one that does not get through its work. What consensus and agents say is never refused; of each agent only
/// so much is read as the thread takes.
const UNDER_WAY: usize = 8_192;
/// The same of what is asked about members, mostly by members.
const OF_MEMBERS: usize = 256;

/// More services than this in one apply are work for a while.
const LIGHT: usize = 16;

/// Of one request: free again once the manager has taken it, and whoever asked has its answer or has gone. Of what an agent
/// says: free once the manager has taken it.
pub(crate) type Place = Arc<OwnedSemaphorePermit>;

/// Everything that happens, beside time.
enum Input {
    Request { request: Request, reply: oneshot::Sender<Result<Reply, RequestError>>, _place: Place },
    Members { request: MemberRequest, reply: oneshot::Sender<Result<(), MemberError>>, _place: Place },
    Read { reply: oneshot::Sender<View>, _place: Place },
    SessionOpened { session: SessionId, first: First, to_agent: mpsc::UnboundedSender<ToAgent> },
    SessionReport { session: SessionId, report: Report, _place: Place },
    SessionHeartbeat { session: SessionId, number: u64, usage: Option<Usage>, _place: Place },
    SessionInForce { session: SessionId, version: u64, _place: Place },
    SessionClosed { session: SessionId },
    Log(LogEvent),
    SnapshotWritten(Snapshot, SavedSnapshot),
    Peer(PeerEvent),
    Stop,
}

impl Input {
    /// Whether it asks for no more work than a thread can do beside other things.
    fn is_light(&self) -> bool {
        match self {
            Input::Request { request: Request::Apply { declarations, .. }, .. } => {
                declarations.len() <= LIGHT
            }
            Input::Peer(PeerEvent::Received(message, _)) => message.kind != PeerMessageKind::Snapshot,
            _ => true,
        }
    }
}

/// What [`start`] started.
#[derive(Debug)]
pub struct Started {
    pub brain: Brain,
    pub thread: JoinHandle<()>,
    /// Why this server is no member any more; never, while it is one.
    pub removed: oneshot::Receiver<String>,
}

/// Starts the thread. `manager` is as restored from `log`, which is kept by `whose`, a server and its folder in words;
/// `connect` makes the way to the other servers, if there are any.
pub fn start(
    manager: Manager<WireCodec>,
    log: Log,
    whose: String,
    connect: impl FnOnce(Tell) -> Option<Peers>,
) -> std::io::Result<Started> {
    let turns = Arc::new(Turns::default());
    let (publisher, published) = published::published(manager.view());
    let peers = connect(hears_peers(&turns));
    let (says_removed, removed) = oneshot::channel();
    let worker = Worker::new(manager, log, peers, publisher, whose, says_removed, turns.inbox().clone())?;
    let takes_turns = turns.clone();
    let thread =
        std::thread::Builder::new().name("brain".to_owned()).spawn(move || takes_turns.run(worker))?;
    let places = |count| Arc::new(Semaphore::new(count));
    let (requests, reads, members) = (places(UNDER_WAY), places(UNDER_WAY), places(OF_MEMBERS));
    let brain = Brain { turns, published, requests, reads, members };
    Ok(Started { brain, thread, removed })
}

fn place(places: &Arc<Semaphore>) -> Option<Place> {
    places.clone().try_acquire_owned().ok().map(Arc::new)
}

fn hears_peers(turns: &Arc<Turns>) -> Tell {
    let turns = turns.clone();
    Arc::new(move |events| turns.take_part_at_once(events.into_iter().map(Input::Peer).collect()))
}

impl Brain {
    /// For whatever hears of other servers.
    pub(crate) fn hears_peers(&self) -> Tell {
        hears_peers(&self.turns)
    }

    /// For whoever brings the state, before anything of it is read.
    pub(crate) fn listens(&self) -> Listens {
        let views = self.published.views.clone();
        Arc::new(move |peer| {
            if views.borrow().may_speak(peer) {
                return Ok(());
            }
            let server = Id(peer);
            let message = format!("server {server} is no member of the cluster, as far as is known here");
            Err(Status::permission_denied(message))
        })
    }

    pub async fn request(&self, request: Request) -> Result<Result<Reply, RequestError>, Stopped> {
        let Some(place) = place(&self.requests) else { return Ok(Err(RequestError::Overloaded)) };
        let (reply, answer) = oneshot::channel();
        self.turns.take_part(Input::Request { request, reply, _place: place.clone() }).await?;
        answer.await.map_err(|_| Stopped)
    }

    /// What is wanted of the servers themselves.
    pub(crate) async fn members(&self, request: MemberRequest) -> Result<Result<(), MemberError>, Stopped> {
        let Some(place) = place(&self.members) else { return Ok(Err(MemberError::Overloaded)) };
        let (reply, answer) = oneshot::channel();
        self.turns.take_part(Input::Members { request, reply, _place: place.clone() }).await?;
        answer.await.map_err(|_| Stopped)
    }

    /// What this server knows, which may be old.
    pub(crate) fn newest(&self) -> View {
        self.published.newest()
    }

    /// When a leader last said something to this server. What this server knows is about as old, while it keeps up.
    pub(crate) fn leader_heard(&self) -> Option<Instant> {
        self.published.leader_heard()
    }

    /// What is true now: everything that was answered before this call is in the view. Without a leader nobody knows.
    pub async fn read(&self) -> Result<View, Unread> {
        let place = place(&self.reads).ok_or(Unread::Overloaded)?;
        let (reply, answer) = oneshot::channel();
        self.turns.take_part(Input::Read { reply, _place: place.clone() }).await?;
        let answer = tokio::time::timeout(ELECTION, answer).await.map_err(|_| self.no_leader())?;
        answer.map_err(|_| Unread::Stopped(Stopped))
    }

    /// What is known here of why there is no leader.
    pub(crate) fn no_leader(&self) -> NoLeader {
        self.published.full().map_or(NoLeader::ForNow, |full| NoLeader::WithoutRoom { full })
    }

    /// Word of every view from now on. Ends with the thread. What `read` answers after this is no newer than the last of
    /// them.
    pub fn views(&self) -> watch::Receiver<View> {
        let mut views = self.published.views.clone();
        views.mark_unchanged();
        views
    }

    /// Word of what hosts are told of the servers, only when that changes.
    pub(crate) fn servers(&self) -> watch::Receiver<Servers> {
        self.published.servers.clone()
    }

    /// Completes once another one leads, as far as this server knows: at once where that is so already.
    pub(crate) async fn another_leads(&self, leader: MemberId) {
        let mut leads = self.published.leader.clone();
        if leads.wait_for(|now| now.is_some_and(|now| now != leader)).await.is_err() {
            // Nobody will know any more, as this server ends.
            std::future::pending().await
        }
    }

    pub fn open_session(
        &self,
        session: SessionId,
        first: First,
    ) -> Result<mpsc::UnboundedReceiver<ToAgent>, Stopped> {
        // Unbounded, because the brain must not wait for a slow agent; what is in it is bounded by what changes: see `session`.
        let (to_agent, from_brain) = mpsc::unbounded_channel();
        self.send(Input::SessionOpened { session, first, to_agent })?;
        Ok(from_brain)
    }

    pub(crate) fn report(&self, session: SessionId, report: Report, place: Place) -> Result<(), Stopped> {
        self.send(Input::SessionReport { session, report, _place: place })
    }

    pub(crate) fn heartbeat(
        &self,
        session: SessionId,
        number: u64,
        usage: Option<Usage>,
        place: Place,
    ) -> Result<(), Stopped> {
        self.send(Input::SessionHeartbeat { session, number, usage, _place: place })
    }

    pub(crate) fn in_force(&self, session: SessionId, version: u64, place: Place) -> Result<(), Stopped> {
        self.send(Input::SessionInForce { session, version, _place: place })
    }

    pub fn close_session(&self, session: SessionId) -> Result<(), Stopped> {
        self.send(Input::SessionClosed { session })
    }

    /// Ends the thread once what was asked before is answered, or it takes too long.
    pub fn stop(&self) {
        // Fails only where the thread has ended already.
        let _ = self.send(Input::Stop);
    }

    fn send(&self, input: Input) -> Result<(), Stopped> {
        self.turns.inbox().send(input)
    }
}
