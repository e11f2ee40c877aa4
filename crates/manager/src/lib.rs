//! One server's brain: events in, effects out.
//!
//! [`Manager::step`] takes a batch of [`Event`]s and the time, and returns the [`Effect`]s that the shell executes in
//! their order. It does no I/O, owns no thread and reads no clock, so the simulator runs this very code.
//!
//! Invariants:
//! - A user's request is answered only after its command was committed and applied.
//! - At most one plan per service is in the log and not yet applied, and a plan names the version it was made for.
//! - Agents are only told what was committed.
//!
//! Start reading at [`event`], then [`Manager::step`], then `requests` (what users ask), `leader` (the reconcile loop)
//! and `sessions` (what agents hear).

pub mod codec;
pub mod event;
mod leader;
mod log;
mod requests;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use consensus::{Consensus, Recovered, Role};
use imbl::OrdMap;
use model::{IdSource, ServiceKey, Timestamp, WaitingOn};
use store::{Observations, State};

pub use codec::{Codec, CodecError};
pub use event::{
    Applied, Declaration, Effect, Event, Hello, ReadId, Reply, Report, Request, RequestError, RequestId,
    SessionId, View,
};

/// How this server takes part.
#[derive(Clone, Debug)]
pub struct Config {
    pub consensus: consensus::Config,
    /// So many applied entries after the last snapshot, another is written.
    pub snapshot_every: u64,
    /// Where replica ids come from; must differ at every start.
    pub seed: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the consensus state on disk cannot be used")]
    Consensus(#[from] consensus::StartError),
    #[error("the snapshot on disk cannot be read")]
    Snapshot(#[from] CodecError),
}

#[derive(Debug)]
pub struct Manager<C> {
    codec: C,
    consensus: Consensus,
    state: State,
    observed: Observations,
    sessions: sessions::Sessions,
    log: log::Pending,
    leader: leader::Leader,
    waiting_on: OrdMap<ServiceKey, Arc<[WaitingOn]>>,
    snapshot_every: u64,
    snapshot_in_flight: Option<u64>,
    snapshotted: u64,
    ids: IdSource,
    effects: Vec<Effect>,
    /// Whether anything a reader could see has changed since the last `Effect::Publish`.
    view_changed: bool,
}

impl<C: Codec> Manager<C> {
    /// Goes on from what is on this server's disk: the newest snapshot and the log after it.
    pub fn restore(config: Config, codec: C, recovered: Recovered) -> Result<Manager<C>, RestoreError> {
        let snapshotted = recovered.snapshot.as_ref().map_or(0, |snapshot| snapshot.meta.index);
        let state = match &recovered.snapshot {
            Some(snapshot) if !snapshot.data.is_empty() => codec.decode_snapshot(&snapshot.data)?,
            Some(_) | None => State::default(),
        };
        Ok(Manager {
            codec,
            consensus: Consensus::new(config.consensus, recovered)?,
            state,
            observed: Observations::default(),
            sessions: sessions::Sessions::default(),
            log: log::Pending::default(),
            leader: leader::Leader::default(),
            waiting_on: OrdMap::new(),
            snapshot_every: config.snapshot_every,
            snapshot_in_flight: None,
            snapshotted,
            ids: IdSource::new(config.seed),
            effects: Vec::new(),
            view_changed: true,
        })
    }

    /// Takes what happened and says what to do. The effects are to be executed in their order.
    pub fn step(&mut self, now: Timestamp, events: impl IntoIterator<Item = Event>) -> Vec<Effect> {
        for event in events {
            self.handle(now, event);
        }
        // Applying can allow new plans, and with one voter a proposal is in the next Ready already: go on until
        // nothing more comes. Each round proposes at most one plan per service, so this ends.
        loop {
            let advanced = self.advance_log();
            let proposed = self.lead(now);
            if !advanced && !proposed {
                break;
            }
        }
        self.dispatch();
        self.maybe_snapshot();
        if std::mem::take(&mut self.view_changed) {
            let view = self.view();
            self.effects.push(Effect::Publish(view));
        }
        std::mem::take(&mut self.effects)
    }

    /// When `step` must be called again though nothing happened.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.leader.next_wake()
    }

    /// What a reader sees now. Costs a few reference counts.
    pub fn view(&self) -> View {
        View {
            state: self.state.clone(),
            observed: self.observed.clone(),
            waiting_on: self.waiting_on.clone(),
            is_leader: self.is_leader(),
            leader: self.consensus.status().leader,
        }
    }

    fn handle(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::Tick => {
                self.consensus.tick();
                self.retry_reads();
            }
            Event::Request { id, request } => self.request(now, id, request),
            Event::Read { id } => self.read(id),
            Event::SessionOpened { session, hello } => self.open_session(now, session, hello),
            Event::SessionReport { session, report } => self.report(session, report),
            Event::SessionClosed { session } => self.close_session(now, session),
            Event::Peer(message) => {
                if let Err(error) = self.consensus.step(message) {
                    tracing::warn!(%error, "a message of a peer was refused");
                }
            }
            Event::Persisted { number } => self.consensus.persisted(number),
            Event::SnapshotWritten(snapshot) => self.snapshot_written(snapshot),
        }
    }

    fn is_leader(&self) -> bool {
        self.consensus.status().role == Role::Leader
    }

    fn mark_dirty(&mut self, services: impl IntoIterator<Item = ServiceKey>) {
        self.leader.dirty.extend(services);
    }

    fn all_services(&self) -> BTreeSet<ServiceKey> {
        self.state.services().map(|service| service.key.clone()).collect()
    }
}

/// A map from a time to what should be looked at then.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    by_time: BTreeSet<(Timestamp, ServiceKey)>,
    by_service: BTreeMap<ServiceKey, Timestamp>,
}

impl Alarms {
    /// Replaces the service's alarm; `None` takes it away.
    fn set(&mut self, service: &ServiceKey, at: Option<Timestamp>) {
        if let Some(old) = self.by_service.remove(service) {
            self.by_time.remove(&(old, service.clone()));
        }
        if let Some(at) = at {
            self.by_service.insert(service.clone(), at);
            self.by_time.insert((at, service.clone()));
        }
    }

    fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out every service whose time has come.
    fn due(&mut self, now: Timestamp) -> Vec<ServiceKey> {
        let mut due = Vec::new();
        while let Some((at, service)) = self.by_time.first().cloned() {
            if at > now {
                break;
            }
            self.set(&service, None);
            due.push(service);
        }
        due
    }
}
