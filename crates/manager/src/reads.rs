//! Reads: each waits until a quorum has confirmed how far the log was when it was asked, and until that is applied.
//!
//! All reads of a step are one question. Every question has a context that was never used before, not even by this
//! server before a restart: the answer to an older question may lack what was written since.

use std::collections::BTreeMap;

use consensus::Read;

use crate::{Codec, Effect, Manager, ReadId};

#[derive(Debug, Default)]
pub(crate) struct Reads {
    unasked: Vec<ReadId>,
    /// Questions that are not answered yet, by context.
    asked: BTreeMap<u64, Question>,
    /// Who waits until this index is applied.
    confirmed: Vec<(u64, Vec<ReadId>)>,
}

#[derive(Debug)]
struct Question {
    readers: Vec<ReadId>,
    ticks: u32,
}

impl Reads {
    pub(crate) fn add(&mut self, id: ReadId) {
        self.unasked.push(id);
    }

    pub(crate) fn confirm(&mut self, read: Read) {
        // None asks any more where the question was given up.
        if let Some(question) = self.asked.remove(&read.context) {
            self.confirmed.push((read.index, question.readers));
        }
    }

    /// Gives up questions that nobody answers: consensus forgets them silently, for example when messages are lost.
    pub(crate) fn tick(&mut self, patience_ticks: u32) {
        self.asked.values_mut().for_each(|question| question.ticks += 1);
        self.give_up(|question| question.ticks >= patience_ticks);
    }

    /// The leader may be another now, and knows nothing of what its predecessor was asked.
    pub(crate) fn ask_anew(&mut self) {
        self.give_up(|_| true);
    }

    fn give_up(&mut self, is_lost: impl Fn(&Question) -> bool) {
        for (_, question) in self.asked.extract_if(.., |_, question| is_lost(question)) {
            self.unasked.extend(question.readers);
        }
    }
}

impl<C: Codec> Manager<C> {
    /// Asks for all reads that came since; says whether it did. While no leader can answer, they wait.
    pub(crate) fn ask_to_read(&mut self) -> bool {
        if self.reads.unasked.is_empty() {
            return false;
        }
        let context = self.ids.next_u64();
        if let Err(error) = self.consensus.read_index(context) {
            tracing::debug!(%error, "reads have to wait");
            return false;
        }
        let readers = std::mem::take(&mut self.reads.unasked);
        self.reads.asked.insert(context, Question { readers, ticks: 0 });
        true
    }

    /// Answers every read whose index is applied.
    pub(crate) fn answer_reads(&mut self) {
        if self.reads.confirmed.is_empty() {
            return;
        }
        let applied = self.consensus.status().applied;
        let view = self.view();
        for (_, readers) in self.reads.confirmed.extract_if(.., |(index, _)| *index <= applied) {
            let answers = readers.into_iter().map(|id| Effect::ReadReady { id, view: view.clone() });
            self.effects.extend(answers);
        }
    }
}
