//! What the server wrote, entry by entry, and the state after each: a second state machine that never crashes.
//!
//! It takes the entries when they are handed to the log, so it may be ahead of the disk by what a crash then loses.

use std::collections::BTreeMap;

use consensus::{Entry, Payload, Recovered};
use manager::{Applied, Codec as _};
use model::{Desired, Generation, ReplicaId, ServiceKey, Timestamp, Version};
use server::codec::WireCodec;
use store::{Command, Outcome, State};

use crate::world::Context;

#[derive(Debug, Default)]
pub(crate) struct History {
    /// After each entry.
    states: BTreeMap<u64, State>,
    entries: BTreeMap<u64, Entry>,
    /// Synced.
    durable: u64,
    acknowledged: BTreeMap<ServiceKey, Acknowledged>,
    acknowledged_index: u64,
}

/// The last that a user was told of a service.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    generation: Generation,
    /// Tells one life of a service from another of the same name.
    created_at: Option<Timestamp>,
    is_deleted: bool,
}

impl History {
    /// The newest state, whether or not it is durable.
    pub(crate) fn latest(&self) -> State {
        self.states.values().next_back().cloned().unwrap_or_default()
    }

    fn at(&self, index: u64) -> State {
        self.states.range(..=index).next_back().map(|(_, state)| state.clone()).unwrap_or_default()
    }

    /// Whether a replica should run or be prepared, by all that was decided.
    pub(crate) fn wants(&self, id: ReplicaId) -> bool {
        let latest = self.states.values().next_back();
        latest.and_then(|state| state.replica(id)).is_some_and(|replica| replica.desired != Desired::Stopped)
    }

    pub(crate) fn acknowledged_version(&self) -> Version {
        Version(self.acknowledged_index)
    }

    /// The command in it that is not rejected, if there is one, and the state before it.
    pub(crate) fn append(&mut self, entry: &Entry) -> (Option<Command>, State) {
        self.states.split_off(&entry.index);
        self.entries.split_off(&entry.index);
        let before = self.latest();
        let command = match &entry.payload {
            Payload::Command(bytes) => WireCodec.decode_command(bytes).ok(),
            Payload::Empty | Payload::Membership(_) => None,
        };
        let mut state = before.clone();
        // What is rejected changes nothing but the version, and that too must be the same.
        let command = command.filter(|command| state.apply(Version(entry.index), command.clone()).is_ok());
        self.states.insert(entry.index, state);
        self.entries.insert(entry.index, entry.clone());
        (command, before)
    }

    pub(crate) fn durable(&mut self, entries: &[Entry]) {
        if let Some(last) = entries.last() {
            self.durable = last.index;
        }
    }

    pub(crate) fn acknowledged(&mut self, applied: &Applied) {
        let current = applied.current.as_ref();
        let index = current.map_or(0, |service| service.version.0);
        self.acknowledged_index = self.acknowledged_index.max(index);
        let acknowledged = Acknowledged {
            generation: applied.generation,
            created_at: current.map(|service| service.created_at),
            is_deleted: applied.outcome == Outcome::Deleted,
        };
        self.acknowledged.insert(applied.service.clone(), acknowledged);
    }

    pub(crate) fn published(&self, cx: &mut Context, state: &State) {
        let expected = self.at(state.version().0);
        if expected != *state {
            let detail = format!("at version {}: {}", state.version(), difference(&expected, state));
            cx.violate("the published state is the state of its log", detail);
        }
    }

    /// The server comes back from its disk: with a part of what was written that has all that was acknowledged.
    pub(crate) fn recovered(&mut self, cx: &mut Context, recovered: &Recovered) {
        let (last, _) = recovered.last();
        let must_have = self.durable.max(self.acknowledged_index);
        if last < must_have {
            let (durable, acknowledged) = (self.durable, self.acknowledged_index);
            let detail = format!(
                "the log ends at {last}, but {durable} was synced and a write at {acknowledged} acknowledged"
            );
            return cx.violate("nothing acknowledged is lost", detail);
        }
        if let Some(snapshot) = recovered.snapshot.as_ref().filter(|snapshot| !snapshot.data.is_empty()) {
            let index = snapshot.meta.index;
            match WireCodec.decode_snapshot(&snapshot.data) {
                Ok(state) if state == self.at(index) => {}
                Ok(state) => {
                    let detail = format!("at {index}: {}", difference(&self.at(index), &state));
                    return cx.violate("a snapshot is the state at its index", detail);
                }
                Err(error) => return cx.violate("a snapshot can be read", error.to_string()),
            }
        }
        let changed = recovered.entries.iter().find(|entry| self.entries.get(&entry.index) != Some(entry));
        if let Some(entry) = changed {
            let detail = format!("{entry:?} instead of {:?}", self.entries.get(&entry.index));
            return cx.violate("what is read is what was written", detail);
        }
        self.states.split_off(&(last + 1));
        self.entries.split_off(&(last + 1));
    }

    /// By name and number, not by index: what a user would look at.
    pub(crate) fn check_acknowledged(
        &self,
        cx: &mut Context,
        state: &State,
        may_be_gone: impl Fn(&ServiceKey) -> bool,
    ) {
        for (key, told) in &self.acknowledged {
            let is_kept = match state.service(key) {
                // Another of the same name, or none: somebody must have wanted the first away.
                None => told.is_deleted || may_be_gone(key),
                Some(now) if Some(now.created_at) != told.created_at => told.is_deleted || may_be_gone(key),
                Some(now) if told.is_deleted => now.deleting_since.is_some(),
                Some(now) => now.generation >= told.generation,
            };
            if !is_kept {
                let is = state.service(key).map(|service| service.generation);
                cx.violate("nothing acknowledged is lost", format!("{key}: told {told:?}, is {is:?}"));
            }
        }
    }
}

fn difference(expected: &State, found: &State) -> String {
    let services: Vec<_> = expected.services().zip(found.services()).filter(|(a, b)| a != b).collect();
    let replicas: Vec<_> = expected.replicas().zip(found.replicas()).filter(|(a, b)| a != b).collect();
    let versions = (expected.version(), found.version());
    format!("versions {versions:?}, services {services:?}, replicas {replicas:?}, or events or nodes")
}
