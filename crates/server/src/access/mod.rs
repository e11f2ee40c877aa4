//! Who asks, whether they may, and that it is written down: everything between a connection and what users can call.
//!
//! 1. `recognise`, below gRPC, on the server that is asked: root over the socket, or whose token is shown. What is handed on
//!    to the leader says whose word it is (`asker`); the leader looks at a token again by itself.
//! 2. `needs`: the table of what each call takes, by its first message.
//! 3. [`Gate`], on the server that decides: no handler gets a message but as [`Passed`], which only this module makes, and
//!    only of a message that the table knows. So a call that was forgotten does not compile.
//! 4. What goes on ends with the token that it was begun with (`ends`).
//! 5. What is written, and what is refused of it, is a line of the audit (`crate::audit`).

mod asker;
mod ends;
mod needs;
mod recognise;

use std::{collections::BTreeSet, ops::Deref, time::Duration};

use model::{Grant, Name, Scope};
use serde_json::json;
use tonic::{Request, Response, Status, Streaming};
use trust::rights::{Place, authorize};

pub(crate) use self::{
    asker::{Asker, HandedOn},
    needs::{Became, Reads, Writes},
    recognise::{Recognise, is_stale},
};
use crate::{
    audit::{Audit, Entry, Outcome},
    control::refuse::invalid,
};
use needs::{Need, Needs};

/// How long a caller may take for the first message of a stream.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// A message from somebody who may ask for what it says.
#[derive(Debug)]
pub(crate) struct Passed<M> {
    message: M,
    grant: Grant,
    is_stale: bool,
}

impl<M> Passed<M> {
    pub(crate) fn into_inner(self) -> M {
        self.message
    }

    /// Where whoever asks may look; none for everywhere.
    pub(crate) fn narrowed_to(&self) -> Option<BTreeSet<Name>> {
        match &self.grant.scope {
            Scope::Everywhere => None,
            Scope::Namespaces(names) => Some(names.clone()),
        }
    }

    /// Whether what this server knows by itself will do.
    pub(crate) fn is_stale(&self) -> bool {
        self.is_stale
    }
}

impl<M> Deref for Passed<M> {
    type Target = M;
    fn deref(&self) -> &M {
        &self.message
    }
}

/// Where messages pass, or are refused.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    audit: Audit,
}

impl Gate {
    pub(crate) fn new(audit: Audit) -> Gate {
        Gate { audit }
    }

    /// Of what changes nothing.
    pub(crate) fn read<M: Needs + Reads>(&self, request: Request<M>) -> Result<Passed<M>, Status> {
        let asker = Asker::of(request.extensions())?;
        let is_stale = is_stale(request.metadata().as_ref());
        let message = request.into_inner();
        check(&message, &asker)?;
        Ok(Passed { message, grant: asker.grant(), is_stale })
    }

    /// Of what changes something, or opens what is closed to most. [`Write::ended`] takes how it went.
    pub(crate) fn write<M: Needs + Writes>(&self, request: Request<M>) -> Result<(Passed<M>, Write), Status> {
        let asker = Asker::of(request.extensions())?;
        self.pass(request.into_inner(), &asker)
    }

    /// The same by the first message of a stream.
    pub(crate) async fn write_by_stream<M: Needs + Writes>(
        &self,
        request: Request<Streaming<M>>,
    ) -> Result<(Passed<M>, Streaming<M>, Write), Status> {
        let asker = Asker::of(request.extensions())?;
        let mut stream = request.into_inner();
        let first = tokio::time::timeout(FIRST_WORD, stream.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("the stream began with nothing"))??;
        let first = first.ok_or_else(|| invalid("the stream ended before it began"))?;
        let (passed, write) = self.pass(first, &asker)?;
        Ok((passed, stream, write))
    }

    fn pass<M: Needs + Writes>(&self, message: M, asker: &Asker) -> Result<(Passed<M>, Write), Status> {
        let mut write = Write {
            audit: self.audit.clone(),
            // What only tries is no write.
            entry: message.is_write().then(|| Entry::new(asker, M::VERB, message.about())),
        };
        match check(&message, asker) {
            Ok(()) => Ok((Passed { message, grant: asker.grant(), is_stale: false }, write)),
            Err(status) => {
                write.tell(Outcome::Refused(&status));
                Err(status)
            }
        }
    }
}

fn check(message: &impl Needs, asker: &Asker) -> Result<(), Status> {
    let grant = asker.grant();
    for Need { right, place } in message.needs()? {
        let place = place.as_ref().map_or(Place::Everywhere, Place::Namespace);
        authorize(&grant, right, place).map_err(|refusal| Status::permission_denied(refusal.to_string()))?;
    }
    Ok(())
}

/// Something that was begun: a line of the audit once it has ended, however that is.
#[derive(Debug)]
#[must_use = "how it ends belongs into the audit"]
pub(crate) struct Write {
    audit: Audit,
    entry: Option<Entry>,
}

impl Write {
    pub(crate) fn ended<T: Became>(mut self, result: Result<T, Status>) -> Result<Response<T>, Status> {
        match &result {
            Ok(answer) => self.tell(Outcome::Done(answer.became())),
            Err(status) => self.tell(Outcome::Failed(status)),
        }
        result.map(Response::new)
    }

    /// Of what goes on after it was answered.
    pub(crate) fn begun<T>(mut self, result: Result<T, Status>) -> Result<Response<T>, Status> {
        match &result {
            Ok(_) => self.tell(Outcome::Done(json!(null))),
            Err(status) => self.tell(Outcome::Failed(status)),
        }
        result.map(Response::new)
    }

    fn tell(&mut self, outcome: Outcome<'_>) {
        if let Some(entry) = self.entry.take() {
            self.audit.write(entry.ended(outcome));
        }
    }
}

/// Whoever asked has gone before there was an answer: it may have been done.
impl Drop for Write {
    fn drop(&mut self) {
        self.tell(Outcome::Unknown);
    }
}
