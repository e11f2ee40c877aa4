//! What is to be told and has not been yet. Of each replica only the newest; exits all, up to a bound.

use std::collections::{BTreeMap, VecDeque};

use model::{Observed, ReplicaId, Timestamp};
use proto::session::{ContainerExit, Report};

/// Exits that are kept while no server listens. The oldest go first: what happens now explains more.
const EXITS_KEPT: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Pending {
    observed: BTreeMap<ReplicaId, Observed>,
    exits: VecDeque<ContainerExit>,
}

impl Pending {
    pub(super) fn add_reports(&mut self, observed: Vec<Observed>) {
        self.observed.extend(observed.into_iter().map(|one| (one.replica, one)));
    }

    pub(super) fn forget_reports(&mut self) {
        self.observed.clear();
    }

    pub(super) fn add_exits(&mut self, exits: Vec<ContainerExit>) {
        self.exits.extend(exits);
        let surplus = self.exits.len().saturating_sub(EXITS_KEPT);
        self.exits.drain(..surplus);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.observed.is_empty() && self.exits.is_empty()
    }

    pub(super) fn take(&mut self, now: Timestamp) -> Report {
        let observed = std::mem::take(&mut self.observed).into_values().collect();
        Report { observed, exits: std::mem::take(&mut self.exits).into(), said_at: Some(now) }
    }
}
