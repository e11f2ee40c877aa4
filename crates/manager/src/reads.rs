//! Reads: each waits until a quorum has confirmed how far the log was when it was asked, and until that is applied.
//!
//! A refusal is a read too: "there is no such service" is what the state says, and a leader that is cut off does not know
//! that another has gone on without it. So whatever is answered without a write waits here as well, and so do agents that
//! have opened a session.
//!
//! Heartbeats of agents are read with: what confirms the index confirms that this server led when it was asked, so after
//! it had heard the agent. An answer to a heartbeat is a lease, and a leader that was replaced while it did not know must
//! give none: the new one counts from its own beginning. Heartbeats gather until the next tick, so that many nodes cost
//! one question.
//!
//! All reads of a step are one question. Every question has a context that was never used before, not even by this
//! server before a restart: the answer to an older question may lack what was written since.

use std::collections::BTreeMap;

use consensus::{Index, Read};

use crate::{Codec, Effect, Manager, MemberError, ReadId, Reply, RequestError, RequestId, SessionId};

#[derive(Debug, Default)]
pub(crate) struct Reads {
    unasked: Vec<Reader>,
    /// Since the last tick: sessions, and the numbers of what they said.
    heartbeats: Vec<(SessionId, u64)>,
    /// Questions that are not answered yet, by context.
    asked: BTreeMap<u64, Question>,
    /// Who waits until this index is applied.
    confirmed: Vec<(Index, Reader)>,
}

#[derive(Debug)]
struct Question {
    readers: Vec<Reader>,
    ticks: u32,
}

/// Who waits for the confirmation.
#[derive(Debug)]
enum Reader {
    View(ReadId),
    /// An agent, which is told what it shall run.
    Session {
        session: SessionId,
        rests_on: Index,
    },
    Heartbeats(Vec<(SessionId, u64)>),
    /// This is known already, and holds once everything up to `rests_on` is applied: only the leader that says so may
    /// still find out that it was none.
    Answer {
        answer: Answer,
        rests_on: Index,
    },
}

/// An answer that comes of the state and changes nothing.
#[derive(Debug)]
pub(crate) enum Answer {
    Request { id: RequestId, result: Result<Reply, RequestError> },
    Members { id: RequestId, refusal: MemberError },
}

impl Reader {
    fn rests_on(&self) -> Index {
        match self {
            Reader::View(_) | Reader::Heartbeats(_) => 0,
            Reader::Session { rests_on, .. } | Reader::Answer { rests_on, .. } => *rests_on,
        }
    }
}

impl Reads {
    pub(crate) fn add(&mut self, id: ReadId) {
        self.unasked.push(Reader::View(id));
    }

    pub(crate) fn add_heartbeat(&mut self, session: SessionId, number: u64) {
        self.heartbeats.push((session, number));
    }

    pub(crate) fn confirm(&mut self, read: Read) {
        // None asks any more where the question was given up.
        if let Some(question) = self.asked.remove(&read.context) {
            let confirmed =
                question.readers.into_iter().map(|reader| (read.index.max(reader.rests_on()), reader));
            self.confirmed.extend(confirmed);
        }
    }

    /// Takes out what only a leader answers.
    fn take_answers(&mut self) -> Vec<Answer> {
        let asked = std::mem::take(&mut self.asked).into_values().flat_map(|question| question.readers);
        let waiting = asked.chain(std::mem::take(&mut self.unasked)).map(|reader| (None, reader));
        let confirmed = std::mem::take(&mut self.confirmed).into_iter();
        let mut answers = Vec::new();
        self.heartbeats.clear();
        for (index, reader) in waiting.chain(confirmed.map(|(index, reader)| (Some(index), reader))) {
            match (reader, index) {
                (Reader::Answer { answer, .. }, _) => answers.push(answer),
                // Their sessions are closed.
                (Reader::Session { .. } | Reader::Heartbeats(_), _) => {}
                (reader @ Reader::View(_), Some(index)) => self.confirmed.push((index, reader)),
                (reader @ Reader::View(_), None) => self.unasked.push(reader),
            }
        }
        answers
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

    /// Gives an answer that comes of the state, this one or the one ahead of it, once it is sure that this server leads.
    pub(crate) fn answer_as_leader(&mut self, answer: Answer, rests_on: Index) {
        self.reads.unasked.push(Reader::Answer { answer, rests_on });
    }

    pub(crate) fn confirm_for_session(&mut self, session: SessionId, rests_on: Index) {
        self.reads.unasked.push(Reader::Session { session, rests_on });
    }

    /// Another leader may know better.
    pub(crate) fn take_answers_back(&mut self) {
        let leader = self.consensus.status().leader;
        for answer in self.reads.take_answers() {
            self.effects.push(match answer {
                Answer::Request { id, .. } => {
                    Effect::Reply { id, result: Err(RequestError::NotLeader { leader }) }
                }
                Answer::Members { id, .. } => {
                    Effect::MembersReply { id, result: Err(MemberError::NotLeader { leader }) }
                }
            });
        }
    }

    /// Answers every read whose index is applied.
    pub(crate) fn answer_reads(&mut self) {
        if self.reads.confirmed.is_empty() {
            return;
        }
        let applied = self.consensus.status().applied;
        let view = self.view();
        let applied = self.reads.confirmed.extract_if(.., |(index, _)| *index <= applied);
        for (_, reader) in applied.collect::<Vec<_>>() {
            match reader {
                Reader::View(id) => self.effects.push(Effect::ReadReady { id, view: view.clone() }),
                Reader::Session { session, .. } => self.session_is_confirmed(session),
                Reader::Heartbeats(heartbeats) => self.heartbeats_are_confirmed(heartbeats),
                Reader::Answer { answer: Answer::Request { id, result }, .. } => {
                    self.effects.push(Effect::Reply { id, result });
                }
                Reader::Answer { answer: Answer::Members { id, refusal }, .. } => {
                    self.effects.push(Effect::MembersReply { id, result: Err(refusal) });
                }
            }
        }
    }
}
