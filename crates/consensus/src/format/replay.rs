//! The log that a sequence of records describes.

use super::{Position, corruption::Damage, record::Record};
use crate::{Entry, HardState};

pub(crate) struct Replay {
    pub(crate) hard_state: HardState,
    /// The position before the first entry.
    pub(crate) before: Position,
    pub(crate) entries: Vec<Entry>,
}

impl Replay {
    pub(crate) fn new(hard_state: HardState, before: Position) -> Replay {
        Replay { hard_state, before, entries: Vec::new() }
    }

    pub(crate) fn last(&self) -> Position {
        let entry = self.entries.last();
        entry.map_or(self.before, |entry| Position { index: entry.index, term: entry.term })
    }

    pub(crate) fn apply(&mut self, record: Record) -> Result<(), Damage> {
        match record {
            Record::HardState(hard_state) => self.hard_state = hard_state,
            Record::Entry(entry) => self.push(entry)?,
            Record::Restart(position) => {
                self.before = position;
                self.entries.clear();
            }
            Record::Seal { .. } => {}
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry) -> Result<(), Damage> {
        let Entry { index, term, .. } = entry;
        let (last, commit) = (self.last().index, self.hard_state.commit);
        if index > last + 1 {
            return Err(Damage::Gap { index, last });
        }
        if index <= self.before.index || index <= commit.min(last) {
            return Err(Damage::ReplacesCommitted { index, commit: commit.max(self.before.index) });
        }
        self.entries.truncate((index - self.before.index - 1) as usize);
        if term < self.last().term {
            return Err(Damage::Term { index, term });
        }
        self.entries.push(entry);
        Ok(())
    }

    /// The term at `index`, where the log still knows it.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.before.index {
            return Some(self.before.term);
        }
        let at = index.checked_sub(self.before.index + 1)?;
        self.entries.get(at as usize).map(|entry| entry.term)
    }
}
