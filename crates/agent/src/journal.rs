//! Save first, then act: holds back what the core ordered until the ledger has it on disk.
//!
//! Strictly in order: whatever waits in front holds up all behind it, also what has nothing to save. So no action ever
//! overtakes a save that came before it, and all that gathers while one commit runs goes into the next one.

use std::collections::VecDeque;

use model::Observed;

use crate::core::{Action, Change};

#[derive(Debug, Default)]
pub(crate) struct Journal {
    queue: VecDeque<(Vec<Change>, Held)>,
    /// How many at the front are in the commit that runs.
    writing: usize,
}

/// What is done once everything before it is durable.
#[derive(Debug, PartialEq)]
pub(crate) enum Held {
    Actions(Vec<Action>),
    /// To the session: all that is known.
    Hello(Vec<Observed>),
    /// To the session: assignments up to this sequence number are held.
    Acknowledge(u64),
}

impl Journal {
    pub(crate) fn push(&mut self, held: Held) {
        let entry = match held {
            Held::Actions(mut actions) => {
                let saves = |action: &Action| matches!(action, Action::Save(_));
                match actions.first().is_some_and(saves).then(|| actions.remove(0)) {
                    Some(Action::Save(changes)) => (changes, Held::Actions(actions)),
                    Some(_) | None => (Vec::new(), Held::Actions(actions)),
                }
            }
            other => (Vec::new(), other),
        };
        self.queue.push_back(entry);
    }

    /// What can be done now.
    pub(crate) fn take_ready(&mut self) -> Vec<Held> {
        let mut ready = Vec::new();
        while self.writing == 0 && self.queue.front().is_some_and(|(changes, _)| changes.is_empty()) {
            ready.extend(self.queue.pop_front().map(|(_, held)| held));
        }
        ready
    }

    /// What is to be committed now; none while a commit runs or nothing waits.
    pub(crate) fn begin_commit(&mut self) -> Option<Vec<Change>> {
        if self.writing > 0 || self.queue.is_empty() {
            return None;
        }
        self.writing = self.queue.len();
        Some(self.queue.iter_mut().flat_map(|(changes, _)| std::mem::take(changes)).collect())
    }

    /// The commit is durable.
    pub(crate) fn end_commit(&mut self) -> Vec<Held> {
        let done = std::mem::take(&mut self.writing);
        self.queue.drain(..done).map(|(_, held)| held).collect()
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.writing > 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use model::ReplicaId;

    use super::*;

    fn save(id: u64) -> Action {
        Action::Save(vec![Change::Forget(ReplicaId(id))])
    }

    #[test]
    fn what_has_nothing_to_wait_for_does_not_wait() {
        let mut journal = Journal::default();
        journal.push(Held::Actions(vec![Action::ReopenSession]));
        assert_eq!(journal.take_ready(), [Held::Actions(vec![Action::ReopenSession])]);
        assert_eq!(journal.begin_commit(), None);
    }

    #[test]
    fn nothing_overtakes_a_save_and_what_gathers_is_one_commit() {
        let mut journal = Journal::default();
        journal.push(Held::Actions(vec![save(1), Action::ReopenSession]));
        assert_eq!(journal.take_ready(), []);
        assert_eq!(journal.begin_commit(), Some(vec![Change::Forget(ReplicaId(1))]));
        journal.push(Held::Acknowledge(7));
        journal.push(Held::Actions(vec![save(2)]));
        journal.push(Held::Actions(vec![save(3)]));
        assert_eq!((journal.take_ready(), journal.begin_commit()), (vec![], None));
        assert_eq!(journal.end_commit(), [Held::Actions(vec![Action::ReopenSession])]);
        assert_eq!(journal.take_ready(), [Held::Acknowledge(7)]);
        let second = vec![Change::Forget(ReplicaId(2)), Change::Forget(ReplicaId(3))];
        assert_eq!(journal.begin_commit(), Some(second));
        assert_eq!(journal.end_commit(), [Held::Actions(vec![]), Held::Actions(vec![])]);
        assert!(journal.is_empty());
    }
}
