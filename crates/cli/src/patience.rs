//! A way to the server that waits out the change of a leader: what was not done is asked again, for a while.
//!
//! Below gRPC, so that no verb has to think of it. A request whose outcome is not known is asked again only where asking
//! twice is the same as asking once.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use proto::{reason::reason_of, v1::Reason};
use tonic::{
    body::Body,
    codegen::{Service, http},
    transport::Channel,
};
use tower::ServiceExt as _;

/// Several elections, with what they take on a slow host.
const PATIENCE: Duration = Duration::from_secs(15);
/// Doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Calls with one request and one answer; what they do if done twice.
const CALLS: [(&str, Twice); 18] = [
    ("/wharf.v1.Control/Apply", Twice::IsOnce),
    ("/wharf.v1.Control/Delete", Twice::IsMore),
    ("/wharf.v1.Control/Scale", Twice::IsOnce),
    ("/wharf.v1.Control/Undo", Twice::IsMore),
    ("/wharf.v1.Control/Restart", Twice::IsMore),
    ("/wharf.v1.Control/ChangeNode", Twice::IsOnce),
    ("/wharf.v1.Control/Status", Twice::IsOnce),
    ("/wharf.v1.Control/ListImages", Twice::IsOnce),
    ("/wharf.v1.Control/RemoveImage", Twice::IsMore),
    ("/wharf.v1.Control/GetVersion", Twice::IsOnce),
    ("/wharf.v1.Cluster/GetCluster", Twice::IsOnce),
    ("/wharf.v1.Cluster/AddMember", Twice::IsOnce),
    ("/wharf.v1.Cluster/SetMemberPart", Twice::IsOnce),
    ("/wharf.v1.Cluster/TransferLeader", Twice::IsMore),
    ("/wharf.v1.Cluster/CreateJoinToken", Twice::IsMore),
    ("/wharf.v1.Cluster/ListJoinTokens", Twice::IsOnce),
    ("/wharf.v1.Cluster/RevokeJoinToken", Twice::IsMore),
    ("/wharf.v1.Join/Join", Twice::IsMore),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Twice {
    IsOnce,
    /// Does more, or is refused though it was done.
    IsMore,
}

#[derive(Clone, Debug)]
pub struct Patient {
    channel: Channel,
}

impl Patient {
    pub fn new(channel: Channel) -> Patient {
        Patient { channel }
    }
}

type Answer = Result<http::Response<Body>, tonic::transport::Error>;

impl Service<http::Request<Body>> for Patient {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), tonic::transport::Error>> {
        // Each attempt waits for its own channel to be ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let channel = self.channel.clone();
        let twice = CALLS.iter().find(|(path, _)| *path == request.uri().path()).map(|(_, twice)| *twice);
        Box::pin(async move {
            match twice {
                Some(twice) => ask(channel, request, twice).await,
                None => channel.oneshot(request).await,
            }
        })
    }
}

async fn ask(channel: Channel, request: http::Request<Body>, twice: Twice) -> Answer {
    let (head, body) = request.into_parts();
    // A request is encoded before it is sent: reading it never fails.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let deadline = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        let answer = channel.clone().oneshot(again(&head, &body)).await;
        if !is_worth_another(&answer, twice) || Instant::now() + pause > deadline {
            return answer;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn again(head: &http::request::Parts, body: &Bytes) -> http::Request<Body> {
    let mut request = http::Request::new(Body::new(Full::new(body.clone())));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers.clone();
    request
}

/// The server on this host that cannot be reached is for the user to know at once.
fn is_worth_another(answer: &Answer, twice: Twice) -> bool {
    match answer.as_ref().ok().and_then(|answer| reason_of(answer.headers())) {
        Some(Reason::NoLeader) => true,
        Some(Reason::OutcomeUnknown) => twice == Twice::IsOnce,
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use proto::reason::refuse;

    use super::*;

    #[test]
    fn what_was_not_done_is_asked_again_and_what_may_have_been_only_if_that_is_harmless() {
        let refused = |reason| Ok(refuse(reason, "for this test").into_http());
        let check = |reason, once, more| {
            assert_eq!(is_worth_another(&refused(reason), Twice::IsOnce), once, "{reason:?}");
            assert_eq!(is_worth_another(&refused(reason), Twice::IsMore), more, "{reason:?}");
        };
        check(Reason::NoLeader, true, true);
        check(Reason::OutcomeUnknown, true, false);
        check(Reason::Conflict, false, false);
    }
}
