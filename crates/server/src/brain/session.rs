//! The way from the manager to one session of an agent.
//!
//! The manager never waits for an agent, so what an agent does not take is kept. What is decided is only so much; but it says
//! heartbeats as often as it likes, and one that took no answer would fill the memory. Of answers in a row the last is as
//! good as all of them, so they are one. It stays behind what was told before: a lease comes after that.

use std::sync::{Arc, Mutex, PoisonError};

use model::Heard;
use tokio::sync::mpsc;

use super::ToAgent;

pub(super) struct ToSession {
    queue: mpsc::UnboundedSender<ToAgent>,
    /// The last that was put, if it is an answer to a heartbeat.
    answer: Option<LastHeard>,
}

/// The answer to the newest heartbeat, until it is taken.
#[derive(Clone, Debug)]
pub struct LastHeard(Arc<Mutex<Option<Heard>>>);

impl ToSession {
    pub(super) fn new(queue: mpsc::UnboundedSender<ToAgent>) -> ToSession {
        ToSession { queue, answer: None }
    }

    pub(super) fn tell(&mut self, message: ToAgent) {
        self.answer = None;
        // The session may be over: then nobody needs to be told.
        let _ = self.queue.send(message);
    }

    pub(super) fn answer(&mut self, heard: Heard) {
        if !self.answer.as_ref().is_some_and(|waiting| waiting.replace(heard)) {
            let answer = LastHeard(Arc::new(Mutex::new(Some(heard))));
            self.tell(ToAgent::Heard(answer.clone()));
            self.answer = Some(answer);
        }
    }
}

impl LastHeard {
    /// Says whether it was still there to be replaced.
    fn replace(&self, heard: Heard) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = waiting.is_some();
        *waiting = is_there.then_some(heard);
        is_there
    }

    /// There is none but for who takes it twice.
    pub(crate) fn take(&self) -> Option<Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use model::Millis;

    use super::*;

    fn heard(number: u64) -> Heard {
        Heard { number, lease: Millis(1), next: Millis(1), scatter: Millis(1) }
    }

    /// What waits, in words.
    fn told(queue: &mut mpsc::UnboundedReceiver<ToAgent>) -> Vec<String> {
        let word = |message| match message {
            ToAgent::Heard(answer) => {
                answer.take().map_or("nothing".to_owned(), |heard| heard.number.to_string())
            }
            ToAgent::Close(reason) => reason,
            other => format!("{other:?}"),
        };
        std::iter::from_fn(|| queue.try_recv().ok()).map(word).collect()
    }

    #[test]
    fn of_the_answers_to_heartbeats_that_nobody_takes_the_last_is_kept_behind_what_came_before_it() {
        let (queue, mut told_to) = mpsc::unbounded_channel();
        let mut session = ToSession::new(queue);
        (1..=1_000).for_each(|number| session.answer(heard(number)));
        session.tell(ToAgent::Close("between".to_owned()));
        (1_001..=2_000).for_each(|number| session.answer(heard(number)));
        assert_eq!(told(&mut told_to), ["1000", "between", "2000"]);
        session.answer(heard(2_001));
        assert_eq!(told(&mut told_to), ["2001"], "what was taken is not replaced");
    }
}
