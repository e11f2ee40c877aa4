//! Recognises whoever asks, before anything of what is asked is read.
//!
//! Below gRPC, and the same for every call of a user: a call that comes without a token never reaches more than this.

use std::{fmt, sync::Arc, time::Duration};

use model::{AccessToken, ClusterId, HostRole, MemberId, MemberPart};
use proto::{reason::refuse, v1::Reason};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tonic::{
    Status,
    body::Body,
    codegen::http::{self, HeaderMap, header::AUTHORIZATION},
};
use trust::{
    identity::Identity,
    token::access::{AccessError, AccessTokenText, recognise},
};

use super::{
    asker::{Asker, HandedOn, Who},
    ends::with_token,
};
use crate::{
    audit::Audit,
    brain::Brain,
    caller::{Arrival, Caller},
    clock,
    middleware::{Inner, Middleware},
    strangers::Probation,
};

/// In the head of a read: how new the answer has to be.
pub(crate) const READ_HEADER: &str = "wharf-read";
/// Whatever the server that is asked knows by itself.
pub(crate) const STALE: &str = "stale";

/// How many may be told at once that they are not known, and what each waits for it: whoever tries tokens tries few.
const REFUSALS: usize = 32;
const REFUSAL: Duration = Duration::from_millis(250);
/// How long the leader is asked about a token that is not known here.
const ASK_LEADER: Duration = Duration::from_secs(2);

pub(crate) fn is_stale(head: &HeaderMap) -> bool {
    head.get(READ_HEADER).is_some_and(|value| value == STALE)
}

/// Wraps the services that are for users.
#[derive(Clone)]
pub(crate) struct Recognise(Arc<Known>);

struct Known {
    brain: Brain,
    cluster: ClusterId,
    /// This server, where it is one of several.
    own: Option<MemberId>,
    audit: Audit,
    refusals: Semaphore,
}

impl Recognise {
    pub(crate) fn new(brain: Brain, cluster: ClusterId, own: Option<MemberId>, audit: Audit) -> Recognise {
        Recognise(Arc::new(Known { brain, cluster, own, audit, refusals: Semaphore::new(REFUSALS) }))
    }
}

impl Known {
    /// Afterwards the head says only what is believed of it.
    async fn recognise(&self, arrival: Option<&Arrival>, head: &mut HeaderMap) -> Result<Asker, Status> {
        let Some(arrival) = arrival else { return Err(Status::unauthenticated("it is not known who calls")) };
        match arrival.caller {
            Caller::Host => {
                HandedOn::take_out(head);
                Ok(Asker { who: Who::Root(self.own), from: None })
            }
            Caller::Node(Identity { role: HostRole::Server, node, .. })
                if self.is_member(MemberId(node.0)) =>
            {
                match HandedOn::read(head) {
                    Some(HandedOn::ForRoot) => {
                        Ok(Asker { who: Who::Root(Some(MemberId(node.0))), from: None })
                    }
                    Some(HandedOn::ForToken { from }) => {
                        Ok(Asker { who: Who::Token(self.bearer(head).await?), from })
                    }
                    None => Err(not_for_hosts()),
                }
            }
            // A server that was removed has a certificate still.
            Caller::Node(_) => Err(not_for_hosts()),
            Caller::Stranger => {
                HandedOn::take_out(head);
                match self.bearer(head).await {
                    Ok(token) => {
                        let passed = arrival.probation.as_ref().map_or(Ok(()), Probation::passed);
                        passed.map_err(|full| refuse(Reason::Overloaded, full.to_string()))?;
                        Ok(Asker { who: Who::Token(token), from: arrival.from })
                    }
                    Err(status) => {
                        self.audit.unrecognised(arrival.from, &status);
                        Err(status)
                    }
                }
            }
        }
    }

    fn is_member(&self, id: MemberId) -> bool {
        let member = self.brain.newest().state.member(id).cloned();
        member.is_some_and(|member| member.part != MemberPart::Removed)
    }

    /// Whose token is in the head. Who is refused waits for it.
    async fn bearer(&self, head: &mut HeaderMap) -> Result<Arc<AccessToken>, Status> {
        // It is not to be in what is logged of a connection, nor kept with it when it is handed on.
        head.get_mut(AUTHORIZATION).into_iter().for_each(|shown| shown.set_sensitive(true));
        let presented = self.presented(head)?;
        if let Ok(found) = self.look_up(&presented) {
            return Ok(found);
        }
        let Ok(_turn) = self.refusals.try_acquire() else {
            let message = "too many show tokens that are not known; try again shortly";
            return Err(refuse(Reason::Overloaded, message));
        };
        // It may be so new that only the leader knows.
        if let Ok(Ok(_)) = timeout(ASK_LEADER, self.brain.read()).await
            && let Ok(found) = self.look_up(&presented)
        {
            return Ok(found);
        }
        sleep(REFUSAL).await;
        self.look_up(&presented).map_err(|error| Status::unauthenticated(error.to_string()))
    }

    fn presented(&self, head: &HeaderMap) -> Result<AccessTokenText, Status> {
        let shown = head.get(AUTHORIZATION).ok_or_else(|| {
            Status::unauthenticated(
                "users show an access token: `wharf token create` makes one on the host of a server, and \
                 `wharf context add` takes it where you are",
            )
        })?;
        let shown = shown.to_str().ok().and_then(|shown| shown.strip_prefix("Bearer "));
        let shown = shown.ok_or_else(|| Status::unauthenticated("the token is shown as `Bearer TOKEN`"))?;
        let read = AccessTokenText::parse(shown);
        let presented = read.map_err(|error| Status::unauthenticated(error.to_string()))?;
        let (theirs, ours) = (presented.token.cluster, self.cluster);
        if theirs != ours {
            let message =
                format!("the token is for cluster {theirs}, and this is {ours}; use another context");
            return Err(Status::unauthenticated(message));
        }
        Ok(presented)
    }

    fn look_up(&self, presented: &AccessTokenText) -> Result<Arc<AccessToken>, AccessError> {
        let state = self.brain.newest().state;
        let known = state.access_token(presented.id());
        recognise(known.map(|known| &**known), presented, clock::wall())?;
        known.cloned().ok_or(AccessError::Unknown)
    }
}

fn not_for_hosts() -> Status {
    Status::unauthenticated(
        "the certificate of a host speaks for that host, not for users; they show an access token, or call over the \
         socket of a server, as root",
    )
}

impl fmt::Debug for Recognise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recognise").field("cluster", &self.0.cluster).finish_non_exhaustive()
    }
}

impl Middleware for Recognise {
    async fn handle<S: Inner>(
        self,
        mut request: http::Request<Body>,
        inner: S,
    ) -> Result<http::Response<Body>, Status> {
        let arrival = request.extensions().get::<Arrival>().cloned();
        let asker = self.0.recognise(arrival.as_ref(), request.headers_mut()).await?;
        let who = asker.who.clone();
        request.extensions_mut().insert(asker);
        let answer = inner.answer(request).await;
        Ok(match who {
            Who::Root(_) => answer,
            Who::Token(token) => with_token(answer, self.0.brain.clone(), token),
        })
    }
}
