//! People and CI: they ask, try again when nobody answers, and remember what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use manager::{Declaration, Event, ReadId, Reply, Request, RequestError, RequestId, View};
use model::{Millis, ServiceKey, Version};

use crate::{
    plan::Ask,
    world::{Happening, World},
};

const PATIENCE: u32 = 30;
const PAUSE: Millis = Millis(500);

#[derive(Debug, Default)]
pub(crate) struct Users {
    last_id: u64,
    asked: BTreeMap<RequestId, (usize, u32)>,
    /// With what must be in the answer.
    reads: BTreeMap<ReadId, Version>,
    /// Services that somebody, some time, asked to delete.
    pub(crate) asked_to_delete: BTreeSet<ServiceKey>,
}

impl World {
    pub(crate) fn user_asks(&mut self, ask: usize, attempt: u32) {
        if !self.server.is_up() {
            return self.ask_again(ask, attempt);
        }
        self.users.last_id += 1;
        let number = self.users.last_id;
        let what = self.plan.asks[ask].1.clone();
        self.cx.say(format_args!("user: asks #{number} {}", what.describe()));
        let request = match what {
            Ask::Read => {
                let id = ReadId(number);
                self.users.reads.insert(id, self.history.acknowledged_version());
                return self.server_hears(Event::Read { id });
            }
            Ask::Apply(wishes) => {
                // Long enough to fill several sectors of the log, so that a crash can tear them.
                let note = "x".repeat(self.cx.random.between(0, 3) as usize * 700);
                let declarations = wishes.into_iter().map(|(service, wish)| Declaration {
                    service,
                    labels: BTreeMap::new(),
                    annotations: BTreeMap::from([("note".to_owned(), note.clone())]),
                    spec: wish.spec,
                    expects: None,
                });
                Request::Apply { declarations: declarations.collect(), dry_run: false }
            }
            Ask::Scale(service, replicas) => Request::Scale { service, replicas },
            Ask::Undo(service) => Request::Undo { service, to: None },
            Ask::Restart(service) => Request::Restart { service },
            Ask::Delete(service) => {
                self.users.asked_to_delete.insert(service.clone());
                Request::Delete { services: vec![service] }
            }
        };
        let id = RequestId(number);
        self.users.asked.insert(id, (ask, attempt));
        self.server_hears(Event::Request { id, request });
    }

    fn ask_again(&mut self, ask: usize, attempt: u32) {
        if attempt < PATIENCE {
            self.cx.after(PAUSE, Happening::UserAsks { ask, attempt: attempt + 1 });
        }
    }

    pub(crate) fn user_is_answered(&mut self, id: RequestId, result: Result<Reply, RequestError>) {
        let Some((ask, attempt)) = self.users.asked.remove(&id) else {
            return self.cx.violate("an answer follows a question, once", format!("{id:?}: {result:?}"));
        };
        match result {
            Ok(reply) => {
                for applied in &reply.applied {
                    let (service, outcome) = (&applied.service, &applied.outcome);
                    self.cx.say(format_args!(
                        "user: #{} {service} is {outcome:?}, generation {}",
                        id.0, applied.generation
                    ));
                    self.history.acknowledged(applied);
                }
            }
            Err(
                error @ (RequestError::NotLeader { .. }
                | RequestError::NoNodes { .. }
                | RequestError::LeadershipLost
                | RequestError::Overloaded),
            ) => {
                self.cx.say(format_args!("user: #{} is to try again: {error}", id.0));
                self.ask_again(ask, attempt);
            }
            Err(error) => self.cx.say(format_args!("user: #{} is refused: {error}", id.0)),
        }
    }

    pub(crate) fn user_reads(&mut self, id: ReadId, view: &View) {
        let Some(at_least) = self.users.reads.remove(&id) else {
            return self.cx.violate("an answer follows a question, once", format!("{id:?}"));
        };
        let version = view.state.version();
        if version < at_least {
            let detail = format!("read {} shows version {version}, {at_least} was acknowledged before", id.0);
            self.cx.violate("a read sees every write before it", detail);
        }
    }

    /// The server is gone: whether what was asked was done is not known.
    pub(crate) fn server_left_users(&mut self) {
        self.users.reads.clear();
        for (ask, attempt) in std::mem::take(&mut self.users.asked).into_values() {
            if self.cx.random.one_in(2) {
                self.ask_again(ask, attempt);
            }
        }
    }
}
