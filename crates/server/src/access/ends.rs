//! What goes on after it was answered, a watch or a command, ends soon after the token that it was begun with: who withdraws
//! a token wants nobody to go on looking.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyStream, StreamBody};
use hyper::body::{Body as _, Frame};
use model::AccessToken;
use tokio::time::{Instant, sleep_until};
use tonic::{
    Status,
    body::Body,
    codegen::http::{HeaderMap, Response},
};

use crate::{brain::Brain, clock};

/// How long after its token something may go on.
const LOOK: Duration = Duration::from_secs(2);

/// The same answer, which ends with a refusal where the token ends before it.
pub(crate) fn with_token(answer: Response<Body>, brain: Brain, token: Arc<AccessToken>) -> Response<Body> {
    if answer.body().is_end_stream() {
        return answer;
    }
    answer.map(|body| {
        let lasts = Lasts { brain, token, look_at: Instant::now() + LOOK };
        let going_on = Some((BodyStream::new(body), lasts));
        let frames = stream::unfold(going_on, |going_on| async {
            let (mut frames, mut lasts) = going_on?;
            tokio::select! {
                frame = frames.next() => frame.map(|frame| (frame, Some((frames, lasts)))),
                refusal = lasts.ended() => Some((Ok(refused(&refusal)), None)),
            }
        });
        Body::new(StreamBody::new(frames))
    })
}

struct Lasts {
    brain: Brain,
    token: Arc<AccessToken>,
    look_at: Instant,
}

impl Lasts {
    /// Completes once the token does not hold any more. Nothing is lost where this is dropped before.
    async fn ended(&mut self) -> Status {
        loop {
            sleep_until(self.look_at).await;
            self.look_at = Instant::now() + LOOK;
            let is_known = self.brain.newest().state.access_token(self.token.id).is_some();
            let is_over = self.token.expires_at.is_some_and(|at| clock::wall() >= at);
            let name = &self.token.name;
            match (is_known, is_over) {
                (true, false) => {}
                (false, _) => {
                    return Status::unauthenticated(format!(
                        "the access token {name} was withdrawn meanwhile"
                    ));
                }
                (true, true) => {
                    return Status::unauthenticated(format!("the access token {name} has expired meanwhile"));
                }
            }
        }
    }
}

/// What a stream of gRPC ends with.
fn refused(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    // Our own words are no header's trouble; without them the stream still ends.
    let _ = status.add_header(&mut trailers);
    Frame::trailers(trailers)
}
