//! Save first, then act: holds back what the core ordered until the ledger has it on disk.
//!
//! Strictly in order: whatever waits in front holds up all behind it, also what has nothing to save. So no action ever
//! overtakes a save that came before it, and all that gathers while one commit runs goes into the next one.
//!
//! A list of which nothing has to wait for its save ([`Action::waits_for_save`]) goes ahead, and what it saves goes with the
//! next commit that is needed, or a moment later: fifty replicas that come to run are a few commits, not fifty.

use std::collections::VecDeque;

use model::Observed;

use crate::core::{Action, Change};

#[derive(Debug, Default)]
pub(crate) struct Journal {
    queue: VecDeque<(Vec<Change>, Held)>,
    /// How many at the front are in the commit that runs.
    writing: usize,
    /// Saves that nothing waits for. They are older than all saves in the queue: they are gathered only while it has none.
    lazy: Vec<Change>,
    /// The commit that runs has only such.
    commits_lazily: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    WhatIsWaitedFor,
    Everything,
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
                let changes = take_changes(&mut actions);
                if self.holds_nothing_up() && !actions.iter().any(Action::waits_for_save) {
                    self.lazy.extend(changes);
                    (Vec::new(), Held::Actions(actions))
                } else {
                    (changes, Held::Actions(actions))
                }
            }
            Held::Hello(observed) => (Vec::new(), Held::Hello(observed)),
            // What is acknowledged is held durably.
            Held::Acknowledge(sequence) => (std::mem::take(&mut self.lazy), Held::Acknowledge(sequence)),
        };
        self.queue.push_back(entry);
    }

    fn holds_nothing_up(&self) -> bool {
        self.writing == 0 && self.queue.iter().all(|(changes, _)| changes.is_empty())
    }

    /// What can be done now.
    pub(crate) fn take_ready(&mut self) -> Vec<Held> {
        let mut ready = Vec::new();
        while self.writing == 0 && self.queue.front().is_some_and(|(changes, _)| changes.is_empty()) {
            ready.extend(self.queue.pop_front().map(|(_, held)| held));
        }
        ready
    }

    /// What is to be committed now; none while a commit runs or nothing waits for one.
    pub(crate) fn begin_commit(&mut self, urgency: Urgency) -> Option<Vec<Change>> {
        let wanted = match urgency {
            Urgency::WhatIsWaitedFor => !self.queue.is_empty(),
            Urgency::Everything => !self.queue.is_empty() || !self.lazy.is_empty(),
        };
        if self.writing > 0 || self.commits_lazily || !wanted {
            return None;
        }
        self.writing = self.queue.len();
        self.commits_lazily = self.writing == 0;
        let waited_for = self.queue.iter_mut().flat_map(|(changes, _)| std::mem::take(changes));
        Some(std::mem::take(&mut self.lazy).into_iter().chain(waited_for).collect())
    }

    /// The commit is durable.
    pub(crate) fn end_commit(&mut self) -> Vec<Held> {
        self.commits_lazily = false;
        let done = std::mem::take(&mut self.writing);
        self.queue.drain(..done).map(|(_, held)| held).collect()
    }

    /// Whether something is to be saved that nothing waits for.
    pub(crate) fn has_lazy(&self) -> bool {
        !self.lazy.is_empty()
    }

    /// Whether all that was ever pushed is durable and was taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.lazy.is_empty() && !self.commits_lazily
    }
}

/// A list's save comes first in it, and there is only one.
fn take_changes(actions: &mut Vec<Action>) -> Vec<Change> {
    match actions.first_mut() {
        Some(Action::Save(changes)) => {
            let changes = std::mem::take(changes);
            actions.remove(0);
            changes
        }
        Some(_) | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use model::ReplicaId;

    use super::*;

    fn save(id: u64) -> Action {
        Action::Save(vec![Change::Forget(ReplicaId(id))])
    }

    const NOW: Urgency = Urgency::WhatIsWaitedFor;

    fn forgotten(ids: &[u64]) -> Option<Vec<Change>> {
        Some(ids.iter().map(|id| Change::Forget(ReplicaId(*id))).collect())
    }

    fn clean() -> Action {
        Action::Clean { replica: ReplicaId(1), service: None }
    }

    #[test]
    fn what_has_nothing_to_wait_for_does_not_wait() {
        let mut journal = Journal::default();
        journal.push(Held::Actions(vec![Action::ReopenSession]));
        assert_eq!(journal.take_ready(), [Held::Actions(vec![Action::ReopenSession])]);
        assert_eq!(journal.begin_commit(Urgency::Everything), None);
        assert!(journal.is_empty());
    }

    #[test]
    fn nothing_overtakes_a_save_and_what_gathers_is_one_commit() {
        let mut journal = Journal::default();
        journal.push(Held::Actions(vec![save(1), clean()]));
        assert_eq!(journal.take_ready(), []);
        assert_eq!(journal.begin_commit(NOW), forgotten(&[1]));
        journal.push(Held::Hello(vec![]));
        journal.push(Held::Actions(vec![save(2), Action::Report(vec![])]));
        journal.push(Held::Actions(vec![save(3), clean()]));
        assert_eq!((journal.take_ready(), journal.begin_commit(NOW)), (vec![], None));
        assert_eq!(journal.end_commit(), [Held::Actions(vec![clean()])]);
        assert_eq!(journal.take_ready(), [Held::Hello(vec![])]);
        assert_eq!(journal.begin_commit(NOW), forgotten(&[2, 3]));
        assert_eq!(
            journal.end_commit(),
            [Held::Actions(vec![Action::Report(vec![])]), Held::Actions(vec![clean()])]
        );
        assert!(journal.is_empty());
    }

    #[test]
    fn what_nothing_waits_for_goes_with_the_next_commit() {
        let mut journal = Journal::default();
        let report = || Action::Report(vec![]);
        journal.push(Held::Actions(vec![save(1), report()]));
        journal.push(Held::Actions(vec![save(2), report()]));
        assert_eq!(journal.take_ready().len(), 2);
        assert_eq!(journal.begin_commit(NOW), None);
        assert!(journal.has_lazy() && !journal.is_empty());
        journal.push(Held::Actions(vec![save(3), clean()]));
        assert_eq!(journal.begin_commit(NOW), forgotten(&[1, 2, 3]));
        assert_eq!(journal.end_commit(), [Held::Actions(vec![clean()])]);
        assert!(journal.is_empty());
    }

    #[test]
    fn an_acknowledgement_waits_for_all_before_it() {
        let mut journal = Journal::default();
        journal.push(Held::Actions(vec![save(1), Action::Report(vec![])]));
        journal.take_ready();
        journal.push(Held::Acknowledge(7));
        assert_eq!(journal.take_ready(), []);
        assert_eq!(journal.begin_commit(NOW), forgotten(&[1]));
        assert_eq!(journal.end_commit(), [Held::Acknowledge(7)]);
    }

    #[test]
    fn a_lazy_commit_holds_up_nobody_but_the_next_one() {
        let mut journal = Journal::default();
        journal.push(Held::Actions(vec![save(1), Action::Report(vec![])]));
        journal.take_ready();
        assert_eq!(journal.begin_commit(Urgency::Everything), forgotten(&[1]));
        journal.push(Held::Hello(vec![]));
        assert_eq!(journal.take_ready(), [Held::Hello(vec![])]);
        journal.push(Held::Actions(vec![save(2), clean()]));
        assert_eq!(journal.begin_commit(NOW), None);
        assert_eq!(journal.end_commit(), []);
        assert_eq!(journal.begin_commit(NOW), forgotten(&[2]));
    }
}
