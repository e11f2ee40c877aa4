//! A watch that outlives the server that answers it: what the leader told ends with its leadership, and the next one is
//! asked the same.

use std::time::{Duration, Instant};

use proto::v1;
use tonic::{Code, Status, Streaming};

use crate::{answer::Answer, ask::Question, connect::Client, exit::Failure};

/// How long a server that does not answer is believed to be coming back.
const LOST_PATIENCE: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_millis(200);

pub struct Watching<'a> {
    client: &'a mut Client,
    request: v1::StatusRequest,
    updates: Option<Streaming<v1::StatusResponse>>,
    /// None while no server has ever answered: then the first error is the user's to know.
    heard_at: Option<Instant>,
}

impl<'a> Watching<'a> {
    pub fn new(client: &'a mut Client, question: &Question) -> Watching<'a> {
        Watching { client, request: question.request(), updates: None, heard_at: None }
    }

    /// Of what a server was just asked to do: it has answered that.
    pub fn of_a_change(client: &'a mut Client, question: &Question) -> Watching<'a> {
        Watching { heard_at: Some(Instant::now()), ..Watching::new(client, question) }
    }

    /// For other questions in between.
    pub fn client(&mut self) -> &mut Client {
        self.client
    }

    /// What is so now, each time that it has changed. An error when nobody has answered for a while, or when somebody
    /// refuses.
    ///
    /// Cancel safe: what is waited for goes on with the next call.
    pub async fn next(&mut self) -> Result<Answer, Failure> {
        loop {
            match self.update().await {
                Ok(update) => {
                    self.heard_at = Some(Instant::now());
                    return Answer::read(update);
                }
                Err(status) if may_come_back(&status) && self.was_heard_lately() => {
                    self.updates = None;
                    tokio::time::sleep(RETRY).await;
                }
                Err(status) => return Err(status.into()),
            }
        }
    }

    /// Nothing has changed: a server that is silent and connected is not lost.
    pub fn is_quiet(&mut self) {
        if self.updates.is_some() {
            self.heard_at = Some(Instant::now());
        }
    }

    fn was_heard_lately(&self) -> bool {
        self.heard_at.is_some_and(|heard_at| heard_at.elapsed() < LOST_PATIENCE)
    }

    async fn update(&mut self) -> Result<v1::StatusResponse, Status> {
        let updates = match &mut self.updates {
            Some(updates) => updates,
            None => {
                let answer = self.client.watch(self.request.clone()).await?;
                self.updates.insert(answer.into_inner())
            }
        };
        let ended =
            || Status::unavailable("the server ended the watch; `wharf version` tells whether it answers");
        updates.message().await?.ok_or_else(ended)
    }
}

fn may_come_back(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled)
}
