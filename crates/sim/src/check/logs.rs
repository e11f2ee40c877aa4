//! Every server's log, as it was handed to its disk and as it is durable there, and the state after every entry.
//!
//! An entry is known by its index and term. If Raft holds, these two say everything: the entry itself, all entries before
//! it, and the state after it. So all servers' logs are one tree here, and a server that brings an entry that does not
//! fit into it breaks the rule of matching logs. The states of the tree are made by a second state machine, beside those
//! of the servers, which never crashes and never takes a snapshot.

use std::collections::BTreeMap;

use consensus::{Entry, HardState, Payload, Persist, Recovered, Snapshot, format::Position};
use manager::Codec as _;
use model::Version;
use server::codec::WireCodec;
use store::{Command, State};

use crate::world::Context;

#[derive(Debug, Default)]
pub(crate) struct Logs {
    known: BTreeMap<Position, Known>,
    servers: Vec<Option<Images>>,
}

#[derive(Debug)]
struct Known {
    /// None where a log begins with a snapshot.
    entry: Option<Entry>,
    before: Position,
    state: State,
}

/// One server's log.
#[derive(Debug)]
struct Images {
    written: Image,
    durable: Image,
    /// What was being written when the server died.
    left: Vec<Persist>,
}

#[derive(Clone, Debug)]
struct Image {
    base: Position,
    terms: BTreeMap<u64, u64>,
    hard_state: HardState,
}

/// An entry that nobody had before: its command, unless it is rejected, and the state before it.
pub(crate) struct Decided {
    pub(crate) at: Position,
    pub(crate) command: Option<Command>,
    pub(crate) before: State,
}

impl Logs {
    /// The state after an entry that some server has or had.
    pub(crate) fn state_at(&self, at: Position) -> Option<&State> {
        self.known.get(&at).map(|known| &known.state)
    }

    /// The last entry handed to a server's disk.
    pub(crate) fn tip(&self, server: usize) -> Position {
        self.images(server).map(|images| images.written.last()).unwrap_or_default()
    }

    /// What a server's log has at an index, on its disk or on the way there.
    pub(crate) fn written_at(&self, server: usize, index: u64) -> Option<Position> {
        self.images(server)?.written.at(index)
    }

    /// Whether an entry is on a server's disk, by itself or in a snapshot.
    pub(crate) fn is_durable(&self, server: usize, at: Position) -> bool {
        let covers = |image: &Image| image.at(at.index) == Some(at) || image.base.index >= at.index;
        self.images(server).is_some_and(|images| covers(&images.durable))
    }

    fn images(&self, server: usize) -> Option<&Images> {
        self.servers.get(server)?.as_ref()
    }

    /// A server hands a write to its disk. The entries in it that nobody had before are given back.
    pub(crate) fn written(&mut self, cx: &mut Context, server: usize, persist: &Persist) -> Vec<Decided> {
        if let Some(snapshot) = &persist.snapshot {
            self.check_snapshot(cx, snapshot);
        }
        let mut decided = Vec::new();
        let Some(Some(images)) = self.servers.get_mut(server) else { return decided };
        let mut next = images.written.clone();
        next.check_vote(cx, server, persist.hard_state);
        next.write(persist);
        for entry in &persist.entries {
            let Some(before) = next.at(entry.index - 1) else {
                cx.violate("a log has no gaps", format!("server {server} writes {entry:?} after nothing"));
                return decided;
            };
            let at = Position { index: entry.index, term: entry.term };
            match self.known.get(&at) {
                Some(known) if known.before == before && known.entry.as_ref() == Some(entry) => {}
                Some(known) => {
                    let detail =
                        format!("server {server} has {entry:?} after {before}, others have {known:?}");
                    cx.violate("logs that agree on an entry agree on all before it", detail);
                }
                None => decided.extend(self.learn(cx, at, before, entry)),
            }
        }
        if let Some(Some(images)) = self.servers.get_mut(server) {
            images.written = next;
        }
        decided
    }

    fn learn(&mut self, cx: &mut Context, at: Position, before: Position, entry: &Entry) -> Option<Decided> {
        let Some(state_before) = self.known.get(&before).map(|known| known.state.clone()) else {
            cx.violate("a log has no gaps", format!("{entry:?} follows {before}, which nobody has"));
            return None;
        };
        let command = match &entry.payload {
            Payload::Command(bytes) => WireCodec.decode_command(bytes).ok(),
            Payload::Empty | Payload::Membership(_) => None,
        };
        let mut state = state_before.clone();
        // What is rejected changes nothing but the version, and that too must be the same everywhere.
        let command = command.filter(|command| state.apply(Version(at.index), command.clone()).is_ok());
        self.known.insert(at, Known { entry: Some(entry.clone()), before, state });
        Some(Decided { at, command, before: state_before })
    }

    pub(crate) fn synced(&mut self, server: usize, group: &[Persist]) {
        if let Some(Some(images)) = self.servers.get_mut(server) {
            group.iter().for_each(|persist| images.durable.write(persist));
        }
    }

    /// A server died while this was being written: it may be there or not.
    pub(crate) fn crashed(&mut self, server: usize, group: Vec<Persist>) {
        if let Some(Some(images)) = self.servers.get_mut(server) {
            images.left = group;
        }
    }

    /// A server comes back from its disk: with all that was synced, and of the rest all or nothing.
    pub(crate) fn recovered(&mut self, cx: &mut Context, server: usize, recovered: &Recovered) {
        if let Some(snapshot) = &recovered.snapshot {
            self.check_snapshot(cx, snapshot);
        }
        let found = Image::of(recovered);
        if let Some(images) = self.images(server) {
            let without = images.durable.clone();
            let mut with = without.clone();
            images.left.iter().for_each(|persist| with.write(persist));
            if !without.may_become(&found) && !with.may_become(&found) {
                let (end, last) = (without.last(), found.last());
                let detail = format!(
                    "server {server}'s log ends at {last} with {:?}; synced was all up to {end} with {:?}",
                    found.hard_state, without.hard_state
                );
                cx.violate("what was synced is there after a crash", detail);
            }
        }
        for entry in &recovered.entries {
            let at = Position { index: entry.index, term: entry.term };
            let known = self.known.get(&at).and_then(|known| known.entry.as_ref());
            if known != Some(entry) {
                cx.violate("what is read is what was written", format!("{entry:?} instead of {known:?}"));
            }
        }
        self.servers.resize_with(self.servers.len().max(server + 1), || None);
        self.servers[server] = Some(Images { durable: found.clone(), written: found, left: Vec::new() });
    }

    /// A snapshot stands for the log up to its index, and for nothing else.
    pub(crate) fn check_snapshot(&mut self, cx: &mut Context, snapshot: &Snapshot) {
        let at = Position { index: snapshot.meta.index, term: snapshot.meta.term };
        if snapshot.data.is_empty() {
            let root = || Known { entry: None, before: Position::default(), state: State::default() };
            self.known.entry(at).or_insert_with(root);
            return;
        }
        let state = match WireCodec.decode_snapshot(&snapshot.data) {
            Ok(state) => state,
            Err(error) => return cx.violate("a snapshot can be read", error.to_string()),
        };
        match self.state_at(at) {
            None => cx.violate("a snapshot stands for a log", format!("nobody has an entry at {at}")),
            Some(expected) if *expected == state => {}
            Some(expected) => {
                let detail = format!("at {at}: {}", difference(expected, &state));
                cx.violate("a snapshot is the state at its index", detail);
            }
        }
    }
}

impl Image {
    fn of(recovered: &Recovered) -> Image {
        let meta = recovered.snapshot.as_ref().map(|snapshot| &snapshot.meta);
        Image {
            base: meta.map(|meta| Position { index: meta.index, term: meta.term }).unwrap_or_default(),
            terms: recovered.entries.iter().map(|entry| (entry.index, entry.term)).collect(),
            hard_state: recovered.hard_state,
        }
    }

    fn at(&self, index: u64) -> Option<Position> {
        if index == self.base.index {
            return Some(self.base);
        }
        self.terms.get(&index).map(|&term| Position { index, term })
    }

    fn last(&self) -> Position {
        self.terms.last_key_value().map_or(self.base, |(&index, &term)| Position { index, term })
    }

    fn write(&mut self, persist: &Persist) {
        if let Some(snapshot) = &persist.snapshot {
            self.base = Position { index: snapshot.meta.index, term: snapshot.meta.term };
            self.terms.clear();
        }
        if let Some(first) = persist.entries.first() {
            self.terms.split_off(&first.index);
        }
        self.terms.extend(persist.entries.iter().map(|entry| (entry.index, entry.term)));
        self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
    }

    fn check_vote(&self, cx: &mut Context, server: usize, next: Option<HardState>) {
        let (was, Some(is)) = (self.hard_state, next) else { return };
        if is.term < was.term || (is.term == was.term && was.vote != 0 && is.vote != was.vote) {
            let detail = format!("server {server} goes from {was:?} to {is:?}");
            cx.violate("a server votes once in a term, and terms only grow", detail);
        }
    }

    /// Whether a server with this on its disk may start with `found`: its own snapshots may have replaced entries, and one
    /// from a leader may have been written before the log knew of it.
    fn may_become(&self, found: &Image) -> bool {
        let rest = |image: &Image| -> Vec<(u64, u64)> {
            image.terms.range(found.base.index + 1..).map(|(index, term)| (*index, *term)).collect()
        };
        let is_covered = self.at(found.base.index) == Some(found.base);
        let entries_fit = if is_covered { rest(self) == rest(found) } else { found.terms.is_empty() };
        let (mine, its) = (self.hard_state, found.hard_state);
        let votes_fit = (mine.term, mine.vote) == (its.term, its.vote)
            || (mine.term < its.term && its.term == found.base.term && its.vote == 0);
        let goes_on = is_covered || found.base.index > self.base.index;
        entries_fit && votes_fit && goes_on
    }
}

pub(crate) fn difference(expected: &State, found: &State) -> String {
    let services: Vec<_> = expected.services().zip(found.services()).filter(|(a, b)| a != b).collect();
    let replicas: Vec<_> = expected.replicas().zip(found.replicas()).filter(|(a, b)| a != b).collect();
    let versions = (expected.version(), found.version());
    format!("versions {versions:?}, services {services:?}, replicas {replicas:?}, or events or nodes")
}
