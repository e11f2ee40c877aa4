//! A member's disk: what is written waits in order until a sync, and a crash loses any end of what waits.

use std::collections::VecDeque;

use consensus::{Persist, Recovered, Snapshot};

#[derive(Debug)]
pub(crate) struct Disk {
    durable: Recovered,
    waiting: VecDeque<Persist>,
}

impl Disk {
    pub(crate) fn new(recovered: Recovered) -> Disk {
        Disk { durable: recovered, waiting: VecDeque::new() }
    }

    pub(crate) fn write(&mut self, persist: Persist) {
        self.waiting.push_back(persist);
    }

    /// Makes the oldest `count` writes durable; gives the number of the last of them.
    pub(crate) fn sync(&mut self, count: usize) -> Option<u64> {
        let mut last = None;
        for _ in 0..count {
            let Some(persist) = self.waiting.pop_front() else { break };
            last = Some(persist.number);
            self.apply(persist);
        }
        last
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn last_waiting(&self) -> Option<u64> {
        self.waiting.back().map(|persist| persist.number)
    }

    /// The first `kept` of the waiting writes happen to survive.
    pub(crate) fn crash(&mut self, kept: usize) -> Recovered {
        self.sync(kept);
        self.waiting.clear();
        self.durable.clone()
    }

    /// A snapshot of the member's own state, written on the side.
    pub(crate) fn save(&mut self, snapshot: &Snapshot) {
        let index = snapshot.meta.index;
        if self.durable.snapshot.as_ref().is_some_and(|newest| newest.meta.index >= index) {
            return;
        }
        self.durable.entries.retain(|entry| entry.index > index);
        self.durable.hard_state.commit = self.durable.hard_state.commit.max(index);
        self.durable.snapshot = Some(snapshot.clone());
    }

    fn apply(&mut self, persist: Persist) {
        if let Some(snapshot) = persist.snapshot {
            self.durable.entries.clear();
            self.durable.snapshot = Some(snapshot);
        }
        if let Some(first) = persist.entries.first() {
            let index = first.index;
            self.durable.entries.retain(|entry| entry.index < index);
            self.durable.entries.extend(persist.entries);
        }
        if let Some(hard_state) = persist.hard_state {
            self.durable.hard_state = hard_state;
        }
        let base = self.durable.snapshot.as_ref().map_or(0, |snapshot| snapshot.meta.index);
        self.durable.hard_state.commit = self.durable.hard_state.commit.max(base);
    }
}
