//! The log that a sequence of records describes.

use super::{Position, corruption::Damage, record::Record};
use crate::{Entry, HardState, Index};

pub(crate) struct Replay {
    pub(crate) hard_state: HardState,
    /// The position before the first entry.
    pub(crate) before: Position,
    pub(crate) entries: Vec<Entry>,
    /// Until a snapshot is installed: nothing replaces what that covers.
    may_begin_earlier: bool,
}

impl Replay {
    pub(crate) fn new(hard_state: HardState, before: Position) -> Replay {
        Replay { hard_state, before, entries: Vec::new(), may_begin_earlier: true }
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
                self.may_begin_earlier = false;
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
        if index <= commit.min(last) {
            return Err(Damage::ReplacesCommitted { index, commit });
        }
        if index <= self.before.index {
            self.begin_earlier(index)?;
        }
        self.entries.truncate((index - self.before.index - 1) as usize);
        if term < self.last().term {
            return Err(Damage::Term { index, term });
        }
        self.entries.push(entry);
        Ok(())
    }

    /// The first segment left may begin with entries that replace some of those before it: a leader's that were never
    /// committed, followed by those of the next leader. A snapshot covers them all, or the segment before it would be
    /// there; so nobody will ask for the term of the entry that they follow.
    fn begin_earlier(&mut self, index: Index) -> Result<(), Damage> {
        if !self.may_begin_earlier || index == 0 {
            return Err(Damage::ReplacesCommitted { index, commit: self.before.index });
        }
        self.entries.clear();
        self.before = Position { index: index - 1, term: 0 };
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
