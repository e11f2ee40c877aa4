//! Reads: each waits until a quorum has confirmed how far the log was when it was asked, and until that is applied.
//!
//! Heartbeats of agents are read with: what confirms the index confirms that this server led when it was asked, so after
//! it had heard the agent. An answer to a heartbeat is a lease, and a leader that was replaced while it did not know must
//! give none: the new one counts from its own beginning. Heartbeats gather until the next tick, so that many nodes cost
//! one question.
//!
//! All reads of a step are one question. Every question has a context that was never used before, not even by this
//! server before a restart: the answer to an older question may lack what was written since.

use std::collections::BTreeMap;

use consensus::Read;

use crate::{Codec, Effect, Manager, ReadId, SessionId};

#[derive(Debug, Default)]
pub(crate) struct Reads {
    unasked: Vec<Reader>,
    /// Since the last tick: sessions, and the numbers of what they said.
    heartbeats: Vec<(SessionId, u64)>,
    /// Questions that are not answered yet, by context.
    asked: BTreeMap<u64, Question>,
    /// Who waits until this index is applied.
    confirmed: Vec<(u64, Vec<Reader>)>,
}

#[derive(Debug)]
enum Reader {
    Asks(ReadId),
    Heartbeats(Vec<(SessionId, u64)>),
}

#[derive(Debug)]
struct Question {
    readers: Vec<Reader>,
    ticks: u32,
}

impl Reads {
    pub(crate) fn add(&mut self, id: ReadId) {
        self.unasked.push(Reader::Asks(id));
    }

    pub(crate) fn add_heartbeat(&mut self, session: SessionId, number: u64) {
        self.heartbeats.push((session, number));
    }

    pub(crate) fn confirm(&mut self, read: Read) {
        // None asks any more where the question was given up.
        if let Some(question) = self.asked.remove(&read.context) {
            self.confirmed.push((read.index, question.readers));
        }
    }

    /// Gives up questions that nobody answers: consensus forgets them silently, for example when messages are lost.
    pub(crate) fn tick(&mut self, patience_ticks: u32) {
        if !self.heartbeats.is_empty() {
            self.unasked.push(Reader::Heartbeats(std::mem::take(&mut self.heartbeats)));
        }
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
        let is_applied = |(index, _): &mut (u64, Vec<Reader>)| *index <= applied;
        let ready: Vec<_> = self.reads.confirmed.extract_if(.., is_applied).collect();
        for reader in ready.into_iter().flat_map(|(_, readers)| readers) {
            match reader {
                Reader::Asks(id) => self.effects.push(Effect::ReadReady { id, view: view.clone() }),
                Reader::Heartbeats(heartbeats) => self.answer_heartbeats(heartbeats),
            }
        }
    }
}
