//! Any server answers any user: what only the leader can answer is handed on to it as it came, bytes and streams alike.
//!
//! Below gRPC, so that no call has to be written twice. What is handed on says who asks (`access`). What was handed on once
//! is not handed on again; leadership may have moved meanwhile, and the user hears so.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use consensus::MemberId;
use dial::{Patience, Way, dial};
use manager::View;
use model::MemberId as Id;
use proto::{LEADER_HEADER, reason::refuse, v1::Reason};
use tokio::sync::Mutex;
use tonic::{Status, body::Body, codegen::http, transport::Channel};
use tower::ServiceExt as _;

use crate::{
    access::{Asker, HandedOn, is_stale},
    brain::{Brain, ELECTION},
    caller::Arrival,
    middleware::{Inner, Middleware},
    peers::FindWay,
};

/// What is about the very server that is asked.
const LOCAL: [&str; 5] = [
    "/wharf.v1.Cluster/GetCluster",
    "/wharf.v1.Cluster/RotateDataKey",
    "/wharf.v1.Control/GetVersion",
    "/wharf.v1.Join/Announce",
    "/wharf.v1.Join/Renew",
];

/// What any server answers by itself, if that is all that is asked for.
const MAY_BE_STALE: [&str; 2] = ["/wharf.v1.Control/Status", "/wharf.v1.Control/Watch"];

/// Between looks at who leads, while the one that did cannot be reached.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long a leader that was followed by another may take to answer what it was asked: one that is well does at once.
const LAST_ANSWERS: Duration = Duration::from_millis(100);
pub(crate) const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(2), silence: Duration::from_secs(5) };

/// The way to whoever leads.
#[derive(Clone)]
pub(crate) struct Leader {
    own: MemberId,
    brain: Brain,
    find_way: FindWay,
    /// The channel to the server that led last; calls share it.
    channel: Arc<Mutex<Option<(MemberId, Channel)>>>,
}

impl Leader {
    pub(crate) fn new(own: MemberId, brain: Brain, find_way: FindWay) -> Leader {
        Leader { own, brain, find_way, channel: Arc::default() }
    }

    /// Who leads and where, once that is known; none where this server does. A server that was away knows by whom it is led
    /// before it knows where that one is, which is in the log that comes from it.
    async fn other(&self) -> Result<Option<(MemberId, String)>, Status> {
        let mut views = self.brain.views();
        let is_known = |view: &View| {
            let other = other_leader(view, Id(self.own));
            view.leader.is_some() && other.is_none_or(|(_, address)| address.is_some())
        };
        // What it ends with tells why, whether or not it was in time.
        let _ = tokio::time::timeout(ELECTION, views.wait_for(is_known)).await;
        let view = self.brain.newest();
        if view.leader.is_none() {
            return Err(refuse(Reason::NoLeader, self.brain.no_leader().to_string()));
        }
        let Some((leader, address)) = other_leader(&view, Id(self.own)) else { return Ok(None) };
        let unknown = || {
            refuse(
                Reason::NoLeader,
                format!(
                    "server {leader} leads, and where it is has not come to this server yet, which lags behind: ask \
                     another server, or try again"
                ),
            )
        };
        Ok(Some((leader.0, address.ok_or_else(unknown)?)))
    }

    async fn channel(&self, leader: MemberId, address: String) -> Result<Channel, Status> {
        if let Some((known, channel)) = &*self.channel.lock().await
            && *known == leader
        {
            return Ok(channel.clone());
        }
        // Nobody waits for a dial that is not its own: a leader that cannot be dialled costs each call no more than that.
        let way: Way = (self.find_way)(leader, address);
        let dialled = dial(way, PATIENCE).await;
        let made =
            dialled.map_err(|error| refuse(Reason::NoLeader, format!("the leader: {error}; try again")))?;
        *self.channel.lock().await = Some((leader, made.clone()));
        Ok(made)
    }

    /// Nobody, where this server has come to lead meanwhile.
    async fn reach(&self) -> Result<Option<(MemberId, Channel)>, Status> {
        let deadline = Instant::now() + ELECTION;
        loop {
            let Some((leader, address)) = self.other().await? else { return Ok(None) };
            let channel = tokio::select! {
                channel = self.channel(leader, address) => channel,
                () = self.brain.another_leads(leader) => continue,
            };
            // A leader that cannot be reached is followed by another one soon, or was only slow.
            match channel {
                Ok(channel) => return Ok(Some((leader, channel))),
                Err(_) if Instant::now() < deadline => tokio::time::sleep(LOOK_AGAIN).await,
                Err(status) => return Err(status),
            }
        }
    }

    async fn hand_on(
        &self,
        leader: MemberId,
        channel: Channel,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<Body>, Status> {
        let asker = request.extensions().get::<Asker>().cloned();
        HandedOn::put_in(request.headers_mut(), asker.as_ref());
        let why = tokio::select! {
            answered = channel.oneshot(request) => match answered {
                Ok(response) => return Ok(response),
                Err(error) => {
                    *self.channel.lock().await = None;
                    error.to_string()
                }
            },
            () = self.replaced(leader) => "another server leads now".to_owned(),
        };
        let message =
            format!("the leader did not answer, so what was asked may have been done or not: {why}");
        let mut status = refuse(Reason::OutcomeUnknown, message);
        let now = other_leader(&self.brain.newest(), Id(leader));
        point_to(&mut status, now.and_then(|(_, address)| address));
        Err(status)
    }

    /// Completes a moment after another one leads. A leader that stopped or was cut off answers nothing for as long as its
    /// connection stands, and others go on long before that.
    async fn replaced(&self, leader: MemberId) {
        self.brain.another_leads(leader).await;
        tokio::time::sleep(LAST_ANSWERS).await;
    }
}

/// Whether only the leader can answer this, and it may still be handed on.
fn is_leaders(request: &http::Request<Body>) -> bool {
    let (path, head) = (request.uri().path(), request.headers());
    let may_be_stale = MAY_BE_STALE.contains(&path) && is_stale(head);
    // Only a server hands on; where hosts join, anybody may say that he does.
    let by_server =
        request.extensions().get::<Arrival>().is_some_and(|arrival| arrival.caller.member().is_ok());
    let is_handed_on = by_server && HandedOn::read(head).is_some();
    !LOCAL.contains(&path) && !may_be_stale && !is_handed_on
}

/// The server that leads, where it is known and another one, and its address as far as it is known.
fn other_leader(view: &View, own: Id) -> Option<(Id, Option<String>)> {
    let leader = view.leader.map(Id).filter(|leader| *leader != own)?;
    Some((leader, view.state.member(leader).map(|member| member.address.clone())))
}

/// To whoever says something that only the leader takes, and that is not handed on. `own` is this server, where it is one
/// of several.
pub(crate) fn check_leads(brain: &Brain, own: Option<Id>) -> Result<(), Status> {
    let Some((other, address)) = own.and_then(|own| other_leader(&brain.newest(), own)) else {
        return Ok(());
    };
    let mut status = refuse(Reason::NoLeader, format!("server {other} leads the cluster"));
    point_to(&mut status, address);
    Err(status)
}

/// Says where the leader is, if that is known.
fn point_to(status: &mut Status, address: Option<String>) {
    if let Some(address) = address.and_then(|address| address.parse().ok()) {
        status.metadata_mut().insert(LEADER_HEADER, address);
    }
}

/// Wraps a service that only the leader can give.
#[derive(Clone)]
pub(crate) struct ToLeader(pub(crate) Option<Leader>);

impl Middleware for ToLeader {
    async fn handle<S: Inner>(
        self,
        request: http::Request<Body>,
        inner: S,
    ) -> Result<http::Response<Body>, Status> {
        let Some(leader) = self.0.filter(|_| is_leaders(&request)) else {
            return Ok(inner.answer(request).await);
        };
        match leader.reach().await? {
            None => Ok(inner.answer(request).await),
            Some((member, channel)) => leader.hand_on(member, channel, request).await,
        }
    }
}
