//! A way to the servers that waits out the change of a leader, and the loss of the one that was asked: what was not done is
//! asked again, for a while. Who waits longer than a moment is told what for.
//!
//! Below gRPC, so that no verb has to think of it. A request whose outcome is not known is asked again only where asking
//! twice is the same as asking once. Such a one is also asked of a second server while the first is silent: that may be cut
//! off from the others, or gone without a word, and nobody could tell for as long as its connection stands. The head of
//! each request says who asks.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use proto::{reason::reason_of, v1::Reason};
use tokio::time::{sleep, timeout};
use tonic::{
    Status,
    body::Body,
    codegen::{
        Service,
        http::{self, HeaderMap},
    },
};
use tower::ServiceExt as _;

use crate::{
    output::remark,
    reach::{Reach, Unreachable},
};

/// Several elections, with what they take on a slow host.
const PATIENCE: Duration = Duration::from_secs(15);
/// Doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// What takes no longer is not worth a word.
const MOMENT: Duration = Duration::from_secs(1);
/// A server that has not answered for so long is not waited for alone.
const SILENT: Duration = Duration::from_secs(1);

/// Calls with one request; what they do if done twice.
const CALLS: [(&str, Twice); 29] = [
    ("/wharf.v1.Control/Apply", Twice::IsOnce),
    ("/wharf.v1.Control/Delete", Twice::IsMore),
    ("/wharf.v1.Control/Scale", Twice::IsOnce),
    ("/wharf.v1.Control/Undo", Twice::IsMore),
    ("/wharf.v1.Control/Restart", Twice::IsMore),
    ("/wharf.v1.Control/ChangeNode", Twice::IsOnce),
    ("/wharf.v1.Control/Status", Twice::IsOnce),
    ("/wharf.v1.Control/Watch", Twice::IsOnce),
    ("/wharf.v1.Control/Logs", Twice::IsOnce),
    ("/wharf.v1.Control/ListImages", Twice::IsOnce),
    ("/wharf.v1.Control/RemoveImage", Twice::IsMore),
    ("/wharf.v1.Control/GetVersion", Twice::IsOnce),
    ("/wharf.v1.Cluster/GetCluster", Twice::IsOnce),
    ("/wharf.v1.Cluster/AddMember", Twice::IsOnce),
    ("/wharf.v1.Cluster/SetMemberPart", Twice::IsOnce),
    ("/wharf.v1.Cluster/TransferLeader", Twice::IsMore),
    ("/wharf.v1.Cluster/GetSettings", Twice::IsOnce),
    ("/wharf.v1.Cluster/ChangeSettings", Twice::IsOnce),
    ("/wharf.v1.Cluster/GetAuthority", Twice::IsOnce),
    ("/wharf.v1.Cluster/RotateAuthority", Twice::IsMore),
    ("/wharf.v1.Cluster/AbandonRotation", Twice::IsMore),
    ("/wharf.v1.Cluster/CreateJoinToken", Twice::IsMore),
    ("/wharf.v1.Cluster/ListJoinTokens", Twice::IsOnce),
    ("/wharf.v1.Cluster/RevokeJoinToken", Twice::IsMore),
    ("/wharf.v1.Cluster/CreateAccessToken", Twice::IsMore),
    ("/wharf.v1.Cluster/ListAccessTokens", Twice::IsOnce),
    ("/wharf.v1.Cluster/RevokeAccessToken", Twice::IsMore),
    ("/wharf.v1.Cluster/Backup", Twice::IsOnce),
    ("/wharf.v1.Join/Join", Twice::IsMore),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Twice {
    IsOnce,
    /// Does more, or is refused though it was done.
    IsMore,
}

#[derive(Clone)]
pub struct Patient {
    reach: Reach,
    head: HeaderMap,
}

impl Patient {
    /// `head` is part of every request's.
    pub fn new(reach: Reach, head: HeaderMap) -> Patient {
        Patient { reach, head }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    #[error(transparent)]
    Broken(#[from] tonic::transport::Error),
}

type Answer = Result<http::Response<Body>, Unanswered>;

impl Service<http::Request<Body>> for Patient {
    type Response = http::Response<Body>;
    type Error = Unanswered;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unanswered>> {
        // Each attempt waits for its own channel to be ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let reach = self.reach.clone();
        request.headers_mut().extend(self.head.clone());
        let twice = CALLS.iter().find(|(path, _)| *path == request.uri().path()).map(|(_, twice)| *twice);
        Box::pin(async move {
            match twice {
                Some(twice) => ask(&reach, request, twice).await,
                None => once(&reach, request).await,
            }
        })
    }
}

async fn once(reach: &Reach, request: http::Request<Body>) -> Answer {
    let answer = reach.channel().await?.oneshot(request).await;
    if answer.is_err() {
        reach.lost();
    }
    Ok(answer?)
}

async fn ask(reach: &Reach, request: http::Request<Body>, twice: Twice) -> Answer {
    let (head, body) = request.into_parts();
    // A request is encoded before it is sent: reading it never fails.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut told = String::new();
    loop {
        let answer = match twice == Twice::IsOnce && reach.has_several() {
            true => of_two(reach, || again(&head, &body)).await,
            false => once(reach, again(&head, &body)).await,
        };
        if !is_worth_another(&answer, twice, reach.has_several()) || began.elapsed() + pause > PATIENCE {
            return answer;
        }
        if let Some(why) = why(&answer).filter(|why| began.elapsed() > MOMENT && *why != told) {
            remark(&format!("waiting up to {} s: {why}\n", PATIENCE.as_secs()));
            told = why;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Asks one server, and another one beside it where that one is silent. For what is the same if it is done twice.
async fn of_two(reach: &Reach, request: impl Fn() -> http::Request<Body>) -> Answer {
    let mut first = pin!(once(reach, request()));
    if let Ok(answer) = timeout(SILENT, &mut first).await {
        return answer;
    }
    let elsewhere = reach.elsewhere();
    let mut second = pin!(once(&elsewhere, request()));
    let is_settled = |answer: &Answer| !is_worth_another(answer, Twice::IsOnce, true);
    let answer = tokio::select! {
        answer = &mut first => if is_settled(&answer) { return answer } else { second.await },
        answer = &mut second => match answer {
            Err(Unanswered::Unreachable(_)) => return first.await,
            answer => answer,
        },
    };
    reach.go_on_at(&elsewhere);
    answer
}

fn again(head: &http::request::Parts, body: &Bytes) -> http::Request<Body> {
    let mut request = http::Request::new(Body::new(Full::new(body.clone())));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers.clone();
    request
}

/// Where no server can be reached at all, and where the only one is lost, the user is to know at once.
fn is_worth_another(answer: &Answer, twice: Twice, has_several: bool) -> bool {
    match answer {
        Ok(answer) => match reason_of(answer.headers()) {
            Some(Reason::NoLeader) => true,
            // Nodes take a moment to find a new leader.
            Some(Reason::OutcomeUnknown | Reason::NodeSilent) => twice == Twice::IsOnce,
            Some(_) | None => false,
        },
        Err(Unanswered::Broken(_)) => has_several && twice == Twice::IsOnce,
        Err(Unanswered::Unreachable(_)) => false,
    }
}

/// In the server's words.
fn why(answer: &Answer) -> Option<String> {
    let status = Status::from_header_map(answer.as_ref().ok()?.headers())?;
    Some(status.message().to_owned())
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use dial::Way;
    use proto::{
        reason::refuse,
        v1::{self, join_server},
    };
    use tokio::net::UnixListener;
    use tokio_stream::wrappers::UnixListenerStream;
    use tonic::{Request, Response};

    use super::*;

    /// A loaded machine is slow.
    const SOON: Duration = Duration::from_secs(20);

    /// Counts what it is asked.
    #[derive(Clone, Default)]
    struct Counts(Arc<AtomicUsize>);

    #[tonic::async_trait]
    impl join_server::Join for Counts {
        async fn join(&self, _: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
            Err(Status::unimplemented("not for this test"))
        }

        async fn renew(&self, _: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
            Err(Status::unimplemented("not for this test"))
        }

        async fn announce(
            &self,
            _: Request<v1::AnnounceRequest>,
        ) -> Result<Response<v1::AnnounceResponse>, Status> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Response::new(v1::AnnounceResponse {}))
        }
    }

    impl Counts {
        fn asked(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }

        fn serve(&self, socket: &Path) {
            let incoming = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
            let service = join_server::JoinServer::new(self.clone());
            let server = tonic::transport::Server::builder().add_service(service);
            tokio::spawn(server.serve_with_incoming(incoming));
        }
    }

    fn request() -> http::Request<Body> {
        let message = Bytes::from_static(&[0; 5]);
        let request = http::Request::post("http://wharf.internal/wharf.v1.Join/Announce");
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        request.body(Body::new(Full::new(message))).unwrap()
    }

    #[tokio::test]
    async fn beside_a_server_that_is_silent_another_is_asked_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (mute, well) = (folder.path().join("mute"), folder.path().join("well"));
        // The kernel takes the connection for a process that was stopped.
        let _mute = UnixListener::bind(&mute).unwrap();
        let counts = Counts::default();
        counts.serve(&well);
        let reach = Reach::new(vec![Way::Socket(mute), Way::Socket(well)]);
        assert!(timeout(2 * SILENT, once(&reach, request())).await.is_err());
        assert_eq!(counts.asked(), 0, "what may be done only once is asked of one");
        timeout(SOON, of_two(&reach, request)).await.unwrap().unwrap();
        // The silent one never answers.
        timeout(SOON, once(&reach, request())).await.unwrap().unwrap();
        assert_eq!(counts.asked(), 2);
    }

    #[test]
    fn what_was_not_done_is_asked_again_and_what_may_have_been_only_if_that_is_harmless() {
        let refused = |reason| Ok(refuse(reason, "for this test").into_http());
        let check = |reason, once, more| {
            assert_eq!(is_worth_another(&refused(reason), Twice::IsOnce, false), once, "{reason:?}");
            assert_eq!(is_worth_another(&refused(reason), Twice::IsMore, true), more, "{reason:?}");
        };
        check(Reason::NoLeader, true, true);
        check(Reason::OutcomeUnknown, true, false);
        check(Reason::NodeSilent, true, false);
        check(Reason::Conflict, false, false);
    }

    #[test]
    fn what_is_waited_for_is_told_in_the_words_of_the_server() {
        let refused = Ok(refuse(Reason::NodeSilent, "no node: \"join\" one").into_http());
        assert_eq!(why(&refused), Some("no node: \"join\" one".to_owned()));
        assert_eq!(why(&Ok(http::Response::new(Body::empty()))), None);
    }
}
