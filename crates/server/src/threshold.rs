//! Before anything of a host's call is read: whether whoever calls is who may call that.
//!
//! Below gRPC, as `access::recognise` is for users: a message of a stranger would be in memory before a handler could look
//! at whose it is. Only joining is for strangers, a few at a time and not for long, so that neither this server's memory
//! nor the way to the leader, which users share, is theirs to fill. Of those few one address has a share: whoever holds it
//! keeps out nobody from elsewhere.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use proto::{reason::refuse, v1::Reason};
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::{Status, body::Body, codegen::http};

use crate::{
    caller::{Arrival, Caller},
    middleware::{Inner, Middleware},
    shares::Shares,
    strangers::network,
};

/// How many strangers may be joining at once, how long the next one waits for a place, and how long one may take, its commit
/// included.
const JOINING: usize = 128;
/// The share of one address. Many hosts may be behind one, and each takes a moment.
const FROM_ONE: usize = 16;
/// Of whoever does not come over a network.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const JOIN_TURN: Duration = Duration::from_secs(5);
const JOIN_PATIENCE: Duration = Duration::from_secs(30);

/// Wraps the services that are for hosts.
#[derive(Clone, Debug)]
pub(crate) struct Threshold {
    joining: Arc<Semaphore>,
    /// Of each address.
    shares: Shares<IpAddr>,
}

/// A place among those who join.
#[derive(Debug)]
struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_share: OwnedSemaphorePermit,
}

impl Threshold {
    pub(crate) fn new() -> Threshold {
        Threshold { joining: Arc::new(Semaphore::new(JOINING)), shares: Shares::new(FROM_ONE) }
    }

    /// Fails only where the server ends.
    async fn place(&self, from: IpAddr) -> Result<Place, AcquireError> {
        // First of the share, so that who waits for that holds no place of all.
        let share = self.shares.of(network(from)).acquire_owned().await?;
        Ok(Place { _of_all: self.joining.clone().acquire_owned().await?, _of_share: share })
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
        let arrival = request.extensions().get::<Arrival>();
        let caller = arrival.map_or(Caller::Stranger, |arrival| arrival.caller);
        let from = arrival.and_then(|arrival| arrival.from).map(|from| from.ip());
        check(request.uri().path(), caller)?;
        if caller != Caller::Stranger {
            return Ok(inner.answer(request).await);
        }
        let Ok(Ok(_place)) = timeout(JOIN_TURN, self.place(from.unwrap_or(NOWHERE))).await else {
            let full = "too many hosts join at once, or somebody holds their places; try again shortly";
            return Err(refuse(Reason::Overloaded, full));
        };
        let answered = timeout(JOIN_PATIENCE, inner.answer(request)).await;
        answered.map_err(|_| Status::deadline_exceeded("joining took too long; try again"))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// Where there is one without waiting.
    fn place(threshold: &Threshold, from: [u8; 4]) -> Option<Place> {
        threshold.place(from.into()).now_or_never().map(Result::unwrap)
    }

    #[test]
    fn one_address_has_a_share_of_the_places_and_gets_it_back() {
        let threshold = Threshold::new();
        let held: Vec<Place> = (0..FROM_ONE).map(|_| place(&threshold, [10, 0, 0, 1]).unwrap()).collect();
        assert!(place(&threshold, [10, 0, 0, 1]).is_none());
        assert!(place(&threshold, [10, 0, 0, 2]).is_some());
        drop(held);
        assert!(place(&threshold, [10, 0, 0, 1]).is_some());
    }
}
