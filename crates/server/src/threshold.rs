//! Before anything of a host's call is read: whether whoever calls is who may call that.
//!
//! Below gRPC, as `access::recognise` is for users: a message of a stranger would be in memory before a handler could look
//! at whose it is. Only joining is for strangers, a few at a time and not for long, so that neither this server's memory
//! nor the way to the leader, which users share, is theirs to fill.

use std::{sync::Arc, time::Duration};

use proto::{reason::refuse, v1::Reason};
use tokio::{sync::Semaphore, time::timeout};
use tonic::{Status, body::Body, codegen::http};

use crate::{
    caller::{Arrival, Caller},
    middleware::{Inner, Middleware},
};

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

impl Middleware for Threshold {
    async fn handle<S: Inner>(
        self,
        request: http::Request<Body>,
        inner: S,
    ) -> Result<http::Response<Body>, Status> {
        let caller = request.extensions().get::<Arrival>().map_or(Caller::Stranger, |arrival| arrival.caller);
        check(request.uri().path(), caller)?;
        if caller != Caller::Stranger {
            return Ok(inner.answer(request).await);
        }
        let Ok(Ok(_place)) = timeout(JOIN_TURN, self.joining.acquire()).await else {
            let full = "too many hosts join at once, or somebody holds their places; try again shortly";
            return Err(refuse(Reason::Overloaded, full));
        };
        let answered = timeout(JOIN_PATIENCE, inner.answer(request)).await;
        answered.map_err(|_| Status::deadline_exceeded("joining took too long; try again"))
    }
}
