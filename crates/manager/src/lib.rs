//! One server's brain: events in, effects out.
//!
//! [`Manager::step`] takes a batch of [`Event`]s and the time, and returns the [`Effect`]s that the shell executes in
//! their order. It does no I/O, owns no thread and reads no clock, so the simulator runs this very code.
//!
//! Invariants:
//! - A user's request is answered only after its command was committed and applied.
//! - Every request is answered once. Of its commands all are proposed, or none; none of them is rejected later.
//! - At most one plan per service is in the log and not yet applied, and a plan names the version it was made for.
//! - Agents are only told what was committed.
//! - A server that does not lead has no sessions, no observations and no plans.
//!
//! Start reading at [`event`], then [`Manager::step`], then `requests` (what users ask), `proposals` (on the way
//! through the log), `leader` (the reconcile loop), `sessions`, `directory` and `leaving` (what agents hear), `members` (who
//! takes part), `view` (what readers see) and [`alone`] (one server goes on without the rest).

pub mod codec;
pub mod event;
mod view;

mod images;
mod requests;

mod log;
mod proposals;
mod reads;

mod alarms;
pub mod clock;
mod leader;
mod nodes;

mod directory;
mod leaving;
mod sessions;

mod members;

pub mod alone;

use std::collections::BTreeSet;

use consensus::{Consensus, MemberId, PeerMessage, Recovered, Status, StepError};
use model::{IdSource, Level, Millis, Name, Timestamp};
use store::{Observations, State};

pub use clock::Reckoning;
pub use codec::{Codec, CodecError};
pub use event::{
    Applied, Declaration, Effect, Event, Hello, ImageError, NodeRequest, ReadId, Reply, Report, Request,
    RequestError, RequestId, SessionId,
};

pub use members::{MemberError, MemberRequest, MemberWaiting, Standing, TooNew};
pub use view::View;

/// How this server takes part.
#[derive(Clone, Debug)]
pub struct Config {
    pub consensus: consensus::Config,
    /// So many applied entries after the last snapshot, another is written.
    pub snapshot_every: u64,
    /// So long may what only notes how far a rollout has come wait for more of its service. A service that is written
    /// again and again is noted once in that time, and nobody's write waits for the disk behind the note on the last one.
    pub note_within: Millis,
    /// Where replica ids come from; must differ at every start.
    pub seed: u64,
    /// What this server is called and where others reach it: written down when it leads and it is not known yet.
    pub itself: Option<(Name, String)>,
    /// The members that this server was told of when it joined. It asks them what became of it while nobody sends it the
    /// state.
    pub contacts: BTreeSet<MemberId>,
    /// What this server knows: that of its build.
    pub level: Level,
}

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the consensus state on disk cannot be used")]
    Consensus(#[from] consensus::StartError),
    #[error("the snapshot on disk cannot be read")]
    Snapshot(#[from] CodecError),
    #[error(transparent)]
    TooNew(#[from] TooNew),
}

#[derive(Debug)]
pub struct Manager<C> {
    codec: C,
    consensus: Consensus,
    level: Level,
    /// As committed and applied.
    state: State,
    /// What agents said to this leader.
    observed: Observations,
    clock: clock::Clock,
    sessions: sessions::Sessions,
    directory: directory::Directory,
    leader: leader::Leader,
    /// What came while this server was elected, but did not know yet what it leads.
    held: Vec<Event>,
    members: members::Members,
    proposals: proposals::Proposals,
    reads: reads::Reads,
    snapshots: log::Snapshots,
    limits: proposals::Limits,
    note_within: Millis,
    read_patience_ticks: u32,
    ids: IdSource,
    effects: Vec<Effect>,
    /// Whether anything a reader could see has changed since the last `Effect::Publish`.
    view_changed: bool,
    /// Why this server cannot go on.
    fatal: Option<String>,
}

impl<C: Codec> Manager<C> {
    /// Goes on from what is on this server's disk: the newest snapshot and the log after it.
    pub fn restore(config: Config, codec: C, recovered: Recovered) -> Result<Manager<C>, RestoreError> {
        let snapshot = recovered.snapshot.as_ref();
        let newest = snapshot.map_or(0, |snapshot| snapshot.meta.index);
        let members = members::Members::new(&config.consensus, config.level, config.itself, config.contacts);
        let state = snapshot.map(|snapshot| log::decode_snapshot(&codec, snapshot)).transpose()?;
        let state = state.unwrap_or_default();
        TooNew::check(state.level(), config.level)?;
        Ok(Manager {
            codec,
            level: config.level,
            clock: clock::Clock::of(state.latest()),
            state,
            observed: Observations::default(),
            sessions: sessions::Sessions::default(),
            directory: directory::Directory::default(),
            leader: leader::Leader::default(),
            held: Vec::new(),
            members,
            proposals: proposals::Proposals::default(),
            reads: reads::Reads::default(),
            snapshots: log::Snapshots { every: config.snapshot_every, in_flight: None, newest },
            limits: proposals::Limits {
                command_bytes: config.consensus.max_command_bytes,
                uncommitted_bytes: config.consensus.max_uncommitted_bytes,
            },
            note_within: config.note_within,
            // For as long a leader may be silent before another is elected.
            read_patience_ticks: config.consensus.election_ticks,
            consensus: Consensus::new(config.consensus, recovered)?,
            ids: IdSource::new(config.seed),
            effects: Vec::new(),
            view_changed: true,
            fatal: None,
        })
    }

    /// Takes what happened and says what to do. The effects are to be executed in their order. `own` is what this server's
    /// clock shows, which must be steady; see [`clock`].
    pub fn step(&mut self, own: Timestamp, events: impl IntoIterator<Item = Event>) -> Vec<Effect> {
        self.clock.set(own);
        for event in events {
            self.handle(self.clock.now(), event);
        }
        // Applying can allow new plans, and with one voter a proposal is in the next Ready already: go on until
        // nothing more comes. Each round proposes at most one plan per service, so this ends.
        while self.ask_to_read() | self.advance_log() | self.lead(self.clock.now()) {}
        self.answer_reads();
        self.dispatch(self.clock.now());
        self.maybe_snapshot();
        if std::mem::take(&mut self.view_changed) {
            let view = self.view();
            self.members.said_hears_leader = view.hears_leader;
            self.effects.insert(0, Effect::Publish(view));
        }
        let effects = std::mem::take(&mut self.effects);
        match (&self.fatal, &self.members.removed) {
            (None, None) => effects,
            (Some(reason), _) => vec![Effect::Fatal { reason: reason.clone() }],
            (None, Some(reason)) => vec![Effect::Removed { reason: reason.clone() }],
        }
    }

    /// When `step` must be called again though nothing happened, by this server's own clock.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let wakes = self.leader.next_wake().into_iter().chain(self.directory.leaving.next_wake());
        wakes.min().map(|at| self.clock.reckoning().own(at))
    }

    /// What people's watches say, as far as this host knows; it may jump. The time is set to it when nobody counts on that.
    pub fn look_at_the_wall(&mut self, wall: Timestamp) {
        self.clock.look_at_the_wall(wall);
    }

    /// How this server takes part: its role and term, and how far its log is.
    pub fn status(&self) -> Status {
        self.consensus.status()
    }

    fn handle(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::Request { .. }
            | Event::Members { .. }
            | Event::SessionOpened { .. }
            | Event::NodeIntroduced { .. }
            | Event::SessionReport { .. }
            | Event::SessionHeartbeat { .. }
            | Event::SessionInForce { .. }
            | Event::SessionClosed { .. }
                if self.is_elected() =>
            {
                self.held.push(event);
            }
            Event::Tick => {
                self.consensus.tick();
                self.reads.tick(self.read_patience_ticks);
                self.retry_placing();
                self.set_the_time();
                self.tell_the_time();
                self.tick_members(now);
            }
            Event::Request { id, request } => self.request(now, id, request),
            Event::Members { id, request } => self.members_request(now, id, request),
            Event::Read { id } => self.reads.add(id),
            Event::SessionOpened { session, hello } => self.open_session(now, session, hello),
            Event::NodeIntroduced { session, info } => self.introduce_node(now, session, info),
            Event::SessionReport { session, report } => self.report(now, session, report),
            Event::SessionHeartbeat { session, number, usage } => {
                self.heartbeat(now, session, number, usage);
            }
            Event::SessionInForce { session, version } => self.goes_by(now, session, version),
            Event::SessionClosed { session } => self.close_session(now, session),
            Event::Peer { message, level } => self.hear_peer(message, level),
            Event::PeerEnded { peer } => self.forget_level(peer),
            Event::Unreachable { peer } => {
                self.forget_level(peer);
                self.consensus.report_unreachable(peer);
            }
            Event::SnapshotSent { peer, delivery } => self.consensus.report_snapshot(peer, delivery),
            Event::Persisted { number } => self.consensus.persisted(number),
            Event::SnapshotWritten(snapshot) => self.snapshot_written(snapshot),
        }
    }

    fn hear_peer(&mut self, message: PeerMessage, level: Option<Level>) {
        let is_for_consensus = self.note_peer(&message);
        let is_member = self.standing(message.from) == Standing::Member;
        if is_member && let Some(level) = level {
            self.hear_level(message.from, level);
        }
        if !is_for_consensus {
            return;
        }
        match self.consensus.step(message) {
            Ok(()) => {}
            // Nobody else is believed what would end this server.
            Err(error @ StepError::LostLog { .. }) if is_member => self.give_up(error.to_string()),
            Err(error) => tracing::warn!(%error, "a message of a peer was refused"),
        }
    }
}
