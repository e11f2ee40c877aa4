//! People and CI: they ask any server, go where they are sent, try again when nobody answers, and remember what was
//! acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use manager::{Applied, Declaration, Event, ReadId, Reply, Request, RequestError, RequestId, View};
use model::{Millis, ServiceKey, Timestamp, Version};
use store::Rejected;

use crate::{
    bug::Bug,
    check::{
        history::Asked,
        service::{Action, NOTE, note_of},
    },
    plan::{Ask, Wish, key},
    world::{Happening, World},
};

const ATTEMPTS: u32 = 30;
const PAUSE: Millis = Millis(500);
/// How many services there can be; see `plan`.
const SERVICES: u64 = 3;

#[derive(Debug, Default)]
pub(crate) struct Users {
    last_id: u64,
    wishes: BTreeMap<RequestId, Wishing>,
    reads: BTreeMap<ReadId, Reading>,
    /// They do not wait any more, and an answer may still come.
    pub(crate) given_up: BTreeSet<u64>,
    /// Who wants other servers: ask, attempt, and the server asked.
    pub(crate) members: BTreeMap<RequestId, (usize, u32, usize)>,
    /// From then on they know which servers are lost.
    pub(crate) sees_losses_at: Timestamp,
    /// The server that an ask adds.
    pub(crate) joining: BTreeMap<usize, usize>,
    /// Which server is said to lead, by ask.
    hints: BTreeMap<usize, usize>,
    /// Services that somebody, some time, asked to delete.
    pub(crate) asked_to_delete: BTreeSet<ServiceKey>,
}

#[derive(Debug)]
struct Wishing {
    ask: usize,
    attempt: u32,
    server: usize,
    stories: Vec<(ServiceKey, Asked)>,
}

#[derive(Debug)]
struct Reading {
    server: usize,
    began: u64,
    /// Must be in the answer.
    at_least: Version,
    /// Asks again elsewhere when nobody answers; none asks the same server again.
    ask: Option<(usize, u32)>,
}

impl Users {
    pub(crate) fn are_waiting(&self) -> bool {
        !self.wishes.is_empty() || !self.reads.is_empty() || !self.members.is_empty()
    }
}

impl World {
    pub(crate) fn user_asks(&mut self, ask: usize, attempt: u32) {
        let up: Vec<usize> = (0..self.servers.len()).filter(|&at| self.servers[at].is_up()).collect();
        if up.is_empty() {
            return self.ask_again(ask, attempt);
        }
        let hint = self.users.hints.remove(&ask).filter(|at| up.contains(at));
        let server = hint.unwrap_or_else(|| self.cx.random.pick(&up));
        let what = self.plan.asks[ask].1.clone();
        match what {
            Ask::Read => self.user_begins_to_read(server, Some((ask, attempt))),
            Ask::Members(what) => self.user_wants_members(server, ask, attempt, what),
            what => self.user_wishes(server, ask, attempt, what),
        }
    }

    fn user_wishes(&mut self, server: usize, ask: usize, attempt: u32, what: Ask) {
        let number = self.next_number();
        self.cx.say(format_args!("user: asks server {server} #{number} {}", what.describe()));
        let (actions, request) = self.request(ask, what);
        let stories = actions
            .into_iter()
            .map(|(service, action)| (service.clone(), self.history.asks(service, action)))
            .collect();
        let id = RequestId(number);
        self.users.wishes.insert(id, Wishing { ask, attempt, server, stories });
        self.cx.soon(8_000, 20_000, Happening::UserGivesUp { number });
        self.server_hears(server, Event::Request { id, request });
    }

    pub(crate) fn next_number(&mut self) -> u64 {
        self.users.last_id += 1;
        self.users.last_id
    }

    /// What is asked of the server, and what it is in the story of each service.
    fn request(&mut self, ask: usize, what: Ask) -> (Vec<(ServiceKey, Action)>, Request) {
        match what {
            Ask::Read | Ask::Members(_) => unreachable!("{} is no request", what.describe()),
            Ask::Apply(wishes) => self.apply(ask, wishes, false),
            Ask::Create(service, wish) => self.apply(ask, vec![(service, wish)], true),
            Ask::Scale(service, replicas) => {
                let action = Action::Scale { replicas, told: None };
                (vec![(service.clone(), action)], Request::Scale { service, replicas })
            }
            Ask::Undo(service) => {
                let action = Action::Retemplate { told: None };
                (vec![(service.clone(), action)], Request::Undo { service, to: None })
            }
            Ask::Restart(service) => {
                let action = Action::Retemplate { told: None };
                (vec![(service.clone(), action)], Request::Restart { service })
            }
            Ask::Delete(service) => {
                self.users.asked_to_delete.insert(service.clone());
                (vec![(service.clone(), Action::Delete)], Request::Delete { services: vec![service] })
            }
        }
    }

    fn apply(
        &mut self,
        ask: usize,
        wishes: Vec<(ServiceKey, Wish)>,
        creates: bool,
    ) -> (Vec<(ServiceKey, Action)>, Request) {
        // Long enough to fill several sectors of the log, so that a crash can tear them. The same ask always has the same
        // annotation, so that it may come to be unchanged when it is asked again.
        let annotation = format!("{ask}:{}", "x".repeat(ask % 4 * 700));
        let expects = (creates && !self.cx.has(Bug::SkipCompareAndSet)).then_some(Version(0));
        let mut actions = Vec::new();
        let mut declarations = Vec::new();
        for (service, wish) in wishes {
            let (note, replicas) = (note_of(&annotation), wish.spec.replicas);
            declarations.push(Declaration {
                service: service.clone(),
                labels: BTreeMap::new(),
                annotations: BTreeMap::from([(NOTE.to_owned(), annotation.clone())]),
                spec: wish.spec,
                expects,
            });
            actions.push((service, Action::Apply { note, replicas, creates, told: None }));
        }
        (actions, Request::Apply { declarations, dry_run: false })
    }

    pub(crate) fn ask_again(&mut self, ask: usize, attempt: u32) {
        if attempt < ATTEMPTS {
            self.cx.after(PAUSE, Happening::UserAsks { ask, attempt: attempt + 1 });
        }
    }

    pub(crate) fn user_is_answered(&mut self, id: RequestId, result: Result<Reply, RequestError>) {
        let Some(wishing) = self.users.wishes.remove(&id) else {
            if !self.users.given_up.remove(&id.0) {
                self.cx.violate("an answer follows a question, once", format!("{id:?}: {result:?}"));
            }
            return;
        };
        // The connection breaks in this moment: whether the wish came true is not known to who asked.
        if !self.cx.calm && self.servers.len() > 1 && self.cx.random.one_in(20) {
            self.cx.say(format_args!("user: #{} is not told", id.0));
            return self.nobody_answered(wishing);
        }
        match result {
            Ok(reply) => self.wish_came_true(id, &wishing, &reply.applied),
            Err(RequestError::LeadershipLost) => {
                self.cx.say(format_args!("user: #{}: nobody knows", id.0));
                self.nobody_answered(wishing);
            }
            Err(error) => self.wish_is_refused(id, wishing, error),
        }
    }

    fn wish_came_true(&mut self, id: RequestId, wishing: &Wishing, answers: &[Applied]) {
        for (applied, (_, asked)) in answers.iter().zip(&wishing.stories) {
            let (service, outcome, generation) = (&applied.service, &applied.outcome, applied.generation);
            self.cx.say(format_args!("user: #{} {service} is {outcome:?}, generation {generation}", id.0));
            self.history.is_told(asked, applied);
            let index = applied.current.as_ref().map_or(0, |service| service.version.0);
            if index > self.agreement.newest().index {
                self.cx.violate("what is acknowledged is committed", format!("{service} at {index}"));
            }
        }
    }

    fn wish_is_refused(&mut self, id: RequestId, wishing: Wishing, error: RequestError) {
        for (service, asked) in &wishing.stories {
            self.history.is_refused(asked, says_missing(&error, service));
        }
        let Wishing { ask, attempt, .. } = wishing;
        match error {
            RequestError::NotLeader { leader } => {
                self.note_hint(ask, leader);
                self.ask_again(ask, attempt);
            }
            RequestError::NoneJoined
            | RequestError::NoNodes { .. }
            | RequestError::NodeNotHeard { .. }
            | RequestError::Overloaded => {
                self.cx.say(format_args!("user: #{} is to try again: {error}", id.0));
                self.ask_again(ask, attempt);
            }
            _ => self.cx.say(format_args!("user: #{} is refused: {error}", id.0)),
        }
    }

    /// Somebody said who leads.
    pub(crate) fn note_hint(&mut self, ask: usize, leader: Option<u64>) {
        let known = self.servers.iter().position(|server| Some(server.member) == leader);
        if let Some(server) = known {
            self.users.hints.insert(ask, server);
        }
    }

    /// It may have come true, or still do. Some ask again, some do not.
    fn nobody_answered(&mut self, wishing: Wishing) {
        if self.cx.random.one_in(2) {
            self.ask_again(wishing.ask, wishing.attempt);
        }
    }

    pub(crate) fn user_gives_up(&mut self, number: u64) {
        if let Some(wishing) = self.users.wishes.remove(&RequestId(number)) {
            self.cx.say(format_args!("user: #{number} has waited long enough"));
            self.users.given_up.insert(number);
            self.nobody_answered(wishing);
        } else if let Some(reading) = self.users.reads.remove(&ReadId(number)) {
            self.users.given_up.insert(number);
            self.read_again(reading);
        } else if let Some((ask, attempt, _)) = self.users.members.remove(&RequestId(number)) {
            self.users.given_up.insert(number);
            self.ask_again(ask, attempt);
        }
    }

    fn user_begins_to_read(&mut self, server: usize, ask: Option<(usize, u32)>) {
        let number = self.next_number();
        let (id, at_least) = (ReadId(number), self.history.acknowledged_version());
        let began = self.history.begins_to_read();
        self.users.reads.insert(id, Reading { server, began, at_least, ask });
        self.cx.soon(8_000, 20_000, Happening::UserGivesUp { number });
        let published = self.servers[server].published.as_ref().filter(|view| view.is_leader).cloned();
        match published.filter(|_| self.cx.has(Bug::ReadAlone)) {
            Some(view) => self.user_reads(id, &view),
            None => self.server_hears(server, Event::Read { id }),
        }
    }

    /// Every server can be read.
    pub(crate) fn user_reads_at(&mut self, server: usize) {
        self.user_begins_to_read(server, None);
    }

    fn read_again(&mut self, Reading { server, ask, .. }: Reading) {
        match ask {
            Some((ask, attempt)) => self.ask_again(ask, attempt),
            None if self.servers[server].is_gone || !self.has_a_part(server) => {}
            None => self.user_begins_to_read(server, None),
        }
    }

    pub(crate) fn user_reads(&mut self, id: ReadId, view: &View) {
        let Some(reading) = self.users.reads.remove(&id) else {
            if !self.users.given_up.remove(&id.0) {
                self.cx.violate("an answer follows a question, once", format!("{id:?}"));
            }
            return;
        };
        let version = view.state.version();
        self.cx.say(format_args!("user: server {} shows version {version}", reading.server));
        if version < reading.at_least {
            let detail = format!(
                "read {} shows version {version}, {} was acknowledged before",
                id.0, reading.at_least
            );
            self.cx.violate("a read sees every write before it", detail);
        }
        self.history.reads(reading.began, (1..=SERVICES).map(key), &view.state);
    }

    /// The server is gone: whether what was asked was done is not known.
    pub(crate) fn server_left_users(&mut self, server: usize) {
        let reads: Vec<Reading> =
            self.users.reads.extract_if(.., |_, reading| reading.server == server).map(|(_, r)| r).collect();
        reads
            .into_iter()
            .filter(|reading| reading.ask.is_some())
            .for_each(|reading| self.read_again(reading));
        let wishes: Vec<Wishing> =
            self.users.wishes.extract_if(.., |_, wishing| wishing.server == server).map(|(_, w)| w).collect();
        wishes.into_iter().for_each(|wishing| self.nobody_answered(wishing));
        let members: Vec<(usize, u32, usize)> =
            self.users.members.extract_if(.., |_, (_, _, at)| *at == server).map(|(_, m)| m).collect();
        members.into_iter().for_each(|(ask, attempt, _)| self.ask_again(ask, attempt));
    }
}

fn says_missing(error: &RequestError, service: &ServiceKey) -> bool {
    match error {
        RequestError::Rejected(reasons) => {
            reasons.iter().any(|reason| matches!(reason, Rejected::NoService(missing) if missing == service))
        }
        _ => false,
    }
}
