//! What must hold of every effect, held against a second state machine that only knows what lies on the disks.

use std::collections::BTreeMap;

use consensus::Payload;
use manager::{Codec, ReadId, Reply, Request, RequestError, RequestId, View};
use model::{Desired, ReplicaId, Version};
use store::State;

use crate::{agent::Agent, codec::Table, member::Member};

pub(crate) struct Checks {
    table: Table,
    /// The committed log so far: the term of each entry, and the state after it.
    committed: BTreeMap<u64, (u64, State)>,
    /// What each server published last.
    published: BTreeMap<u64, View>,
    /// And which server was asked.
    asked: BTreeMap<RequestId, (u64, Asked)>,
    /// And with what must be seen.
    reads: BTreeMap<ReadId, (u64, Version)>,
    acknowledged: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    ToWrite,
    /// The answer says what would be, and nothing is kept.
    ToTell,
    Answered,
}

impl Checks {
    pub(crate) fn new(table: Table) -> Checks {
        Checks {
            table,
            // The snapshot of nothing that a log begins with.
            committed: BTreeMap::from([(1, (1, State::default()))]),
            published: BTreeMap::new(),
            asked: BTreeMap::new(),
            reads: BTreeMap::new(),
            acknowledged: Version(0),
        }
    }

    /// Whoever asked it is never answered.
    pub(crate) fn member_died(&mut self, id: u64) {
        self.published.remove(&id);
        self.asked.retain(|_, (at, _)| *at != id);
        self.reads.retain(|_, (at, _)| *at != id);
    }

    pub(crate) fn view(&self, id: u64) -> Option<&View> {
        self.published.get(&id)
    }

    pub(crate) fn unanswered(&self) -> Vec<RequestId> {
        self.asked.iter().filter(|(_, (_, asked))| *asked != Asked::Answered).map(|(id, _)| *id).collect()
    }

    pub(crate) fn unread(&self) -> usize {
        self.reads.len()
    }

    /// The state after everything that is known to be committed.
    pub(crate) fn state(&self) -> &State {
        &self.committed.values().next_back().unwrap().1
    }

    /// What is published was committed: a majority has it on disk, and it is what the log says.
    pub(crate) fn published(&mut self, id: u64, view: View, members: &BTreeMap<u64, Member>) {
        let version = view.state.version().0;
        let disk = &members[&id].disk;
        for entry in disk.entries.iter().filter(|entry| entry.index <= version) {
            if let Some((term, _)) = self.committed.get(&entry.index) {
                assert_eq!(*term, entry.term, "entry {} was committed twice", entry.index);
                continue;
            }
            let take_part = || members.values().filter(|member| view.membership.voters.contains(&member.id));
            let having = take_part().filter(|member| member.disk.has(entry.index, entry.term)).count();
            assert!(
                having * 2 > take_part().count(),
                "server {id} shows entry {}, which {having} have",
                entry.index
            );
            self.commit(entry);
        }
        let (_, expected) = &self.committed[&version.max(1)];
        assert_eq!(*expected, view.state, "server {id} shows what is not the state at {version}");
        self.published.insert(id, view);
    }

    fn commit(&mut self, entry: &consensus::Entry) {
        let (last, (_, before)) = self.committed.last_key_value().unwrap();
        assert_eq!(entry.index, last + 1, "entries are committed in order");
        let mut state = before.clone();
        if let Payload::Command(bytes) = &entry.payload {
            let command = self.table.decode_command(bytes).unwrap();
            state.apply(Version(entry.index), command).expect("only what takes effect is proposed");
        }
        self.committed.insert(entry.index, (entry.term, state));
    }

    pub(crate) fn asked(&mut self, at: u64, id: RequestId, request: &Request) {
        let asked = match request {
            Request::Apply { dry_run: true, .. } => Asked::ToTell,
            Request::Apply { .. }
            | Request::Delete { .. }
            | Request::Scale { .. }
            | Request::Undo { .. }
            | Request::Restart { .. }
            | Request::Node { .. }
            | Request::Configure { .. }
            | Request::Trust(_) => Asked::ToWrite,
        };
        assert_eq!(self.asked.insert(id, (at, asked)), None, "every request has a number of its own");
    }

    pub(crate) fn answered(&mut self, at: u64, id: RequestId, result: &Result<Reply, RequestError>) {
        let asked = self.asked.insert(id, (at, Asked::Answered));
        match (asked.filter(|(asked_at, _)| *asked_at == at).map(|(_, asked)| asked), result) {
            (Some(Asked::ToTell), _) | (Some(Asked::ToWrite), Err(_)) => {}
            (Some(Asked::ToWrite), Ok(reply)) => {
                for version in reply.applied.iter().filter_map(|a| Some(a.current.as_ref()?.version)) {
                    assert!(self.committed.contains_key(&version.0), "{id:?} is answered before its commit");
                    self.acknowledged = self.acknowledged.max(version);
                }
            }
            (Some(Asked::Answered), _) => panic!("{id:?} is answered twice"),
            (None, _) => panic!("{id:?} is answered by server {at}, which was not asked"),
        }
    }

    pub(crate) fn asked_to_read(&mut self, at: u64, id: ReadId) {
        assert_eq!(
            self.reads.insert(id, (at, self.acknowledged)),
            None,
            "every read has a number of its own"
        );
    }

    pub(crate) fn read(&mut self, id: ReadId, view: &View) {
        let (_, at_least) = self.reads.remove(&id).expect("an answer follows a question, once");
        let version = view.state.version();
        assert!(version >= at_least, "{id:?} shows version {version}, {at_least} was acknowledged before");
    }

    /// An agent has exactly what is published for its node.
    pub(crate) fn told(&self, id: u64, agent: &Agent) {
        let state = &self.published[&id].state;
        let expected: Vec<(ReplicaId, Desired)> =
            state.replicas_on(agent.node).map(|replica| (replica.id, replica.desired)).collect();
        let told: Vec<_> = agent.assigned.values().map(|one| (one.replica, one.desired)).collect();
        assert_eq!(told, expected, "node {} is told what was not committed", agent.node);
    }
}
