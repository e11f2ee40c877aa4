//! What will happen, in the order of virtual time; what is due at the same moment happens in the order it was planned.

use std::collections::BTreeMap;

use model::Timestamp;

#[derive(Debug)]
pub(crate) struct Queue<T> {
    planned: BTreeMap<(Timestamp, u64), T>,
    sequence: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Queue<T> {
        Queue { planned: BTreeMap::new(), sequence: 0 }
    }

    pub(crate) fn add(&mut self, at: Timestamp, what: T) {
        self.sequence += 1;
        self.planned.insert((at, self.sequence), what);
    }

    pub(crate) fn pop(&mut self) -> Option<(Timestamp, T)> {
        self.planned.pop_first().map(|((at, _), what)| (at, what))
    }
}
