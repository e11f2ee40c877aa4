//! Before anything of a host's call is read: whether whoever calls is who may call that.
//!
//! Below gRPC, as `access::recognise` is for users: a message of a stranger would be in memory before a handler could look
//! at whose it is. Only joining is for strangers, a few at a time and not for long, so that neither this server's memory
//! nor the way to the leader, which users share, is theirs to fill.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use proto::{reason::refuse, v1::Reason};
use tokio::{sync::Semaphore, time::timeout};
use tonic::{
    Status,
    body::Body,
    codegen::{Service, http},
    server::NamedService,
};
use tower::Layer;

use crate::caller::{Arrival, Caller};

/// How many strangers may be joining at once, how long the next one waits for a place, and how long one may take, its commit
/// included.
const JOINING: usize = 128;
const JOIN_TURN: Duration = Duration::from_secs(5);
const JOIN_PATIENCE: Duration = Duration::from_secs(30);

/// Wraps the services that are for hosts.
#[derive(Clone, Debug)]
pub(crate) struct Threshold {
    joining: Arc<Semaphore>,
}

impl Threshold {
    pub(crate) fn new() -> Threshold {
        Threshold { joining: Arc::new(Semaphore::new(JOINING)) }
    }
}

/// Who may call what. The handlers ask more: which host it is.
fn check(path: &str, caller: Caller) -> Result<(), Status> {
    if path.starts_with("/wharf.v1.Peers/") || path == "/wharf.v1.Join/Announce" {
        return caller.member().map(drop);
    }
    if path.starts_with("/wharf.v1.Agents/") {
        return caller.is_agent();
    }
    Ok(())
}

impl<S> Layer<S> for Threshold {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, joining: self.joining.clone() }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Guarded<S> {
    inner: S,
    joining: Arc<Semaphore>,
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The one that is ready is the one that is called.
        let waiting = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, waiting);
        let caller = request.extensions().get::<Arrival>().map_or(Caller::Stranger, |arrival| arrival.caller);
        let joining = self.joining.clone();
        Box::pin(async move {
            if let Err(status) = check(request.uri().path(), caller) {
                return Ok(status.into_http());
            }
            if caller != Caller::Stranger {
                return inner.call(request).await;
            }
            let Ok(Ok(_place)) = timeout(JOIN_TURN, joining.acquire()).await else {
                let full = "too many hosts join at once, or somebody holds their places; try again shortly";
                return Ok(refuse(Reason::Overloaded, full).into_http());
            };
            match timeout(JOIN_PATIENCE, inner.call(request)).await {
                Ok(answer) => answer,
                Err(_) => Ok(Status::deadline_exceeded("joining took too long; try again").into_http()),
            }
        })
    }
}
