//! The agent's core: from what is desired, what is there and the time, to what is to be done. Pure.
//!
//! [`Core::handle`] takes one [`Event`] and returns [`Action`]s; [`Core::next_wake`] tells when it wants to be woken.
//! It reads no clock, does no I/O and draws no random number, so that the shell, the scripts in `tests/scripts` and the
//! simulator drive the same code.
//!
//! What always holds:
//! - What an action depends on is saved before it: see [`action`] for which order binds the shell.
//! - Before both `Restored` and `Adopted` were handled, nothing is started, stopped or removed.
//! - A container is started only after the exit of its attempt before was processed: two never run at once.
//! - A replica with published ports is reported ready once the balancer with it is in force: connections reach it then.
//! - A replica that stops, or of which a probe ends a container, is out of the balancer, and the balancer has said so,
//!   before its program is told.
//! - What is to stop when the node has lost the control plane runs only under a lease ([`lease`]).
//! - The desired state of a replica only moves forward, whatever order messages come in.
//!
//! Start reading at [`replica`]: `next_step` is the table that everything hangs on. Then [`container`] (starts and exits),
//! [`health`] (probes), [`stopping`], [`adoption`] (after a restart of the agent) and [`dispatch`] (what the control plane says).

mod adoption;
mod attempts;
mod balance;
mod container;
mod dispatch;
mod health;
mod intruders;
mod lease;
mod observe;
mod probes;
mod replica;
mod stopping;

mod action;
mod event;
mod id;
mod record;

use std::collections::{BTreeMap, BTreeSet};

use model::{Digest, Observed, Phase, ReplicaId, Timestamp};

pub use action::{Action, Change, ContainerExit, ProbeTarget, Published, StopSignal};
pub use event::{Event, Fault, Found, FoundState, ProbeKind, Setback};
pub use id::{ContainerId, ContainerIdError};
pub use record::{ContainerRecord, Record, Stage};

use balance::Balancer;
use intruders::Intruders;
use lease::Lease;
use replica::{Effects, Joining, Replica};

#[derive(Debug, Default)]
pub struct Core {
    life: Life,
    replicas: BTreeMap<ReplicaId, Replica>,
    intruders: Intruders,
    balancer: Balancer,
    sequence: Option<u64>,
    lease: Lease,
}

/// How far the core is in its own life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Life {
    /// The ledger or the host is not known yet: remember what is said, touch nothing.
    #[default]
    InDoubt,
    Active,
    /// Everything is to end; nothing is reported, since nothing of it was desired.
    Closing,
}

impl Core {
    pub fn new() -> Core {
        Core::default()
    }

    /// Everything that follows from `event`. See [`Action`] for the order in which it must be executed.
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        let mut out = Effects::default();
        let touched = self.take_in(now, event, &mut out);
        let mut standing_changed = false;
        if self.life != Life::InDoubt {
            self.intruders.step(now, &mut out);
            for id in &touched {
                standing_changed |= self.step(now, *id, &mut out);
            }
        }
        self.finish(now, &touched, standing_changed, out)
    }

    /// When to send [`Event::Wake`] at the latest.
    pub fn next_wake(&self) -> Option<Timestamp> {
        match self.life {
            Life::InDoubt => None,
            Life::Active | Life::Closing => self.wakes().map(|(_, at)| at).chain(self.intruders.wake()).min(),
        }
    }

    /// All that is known, for a session that has just been opened. In doubt that is nothing: what the ledger remembers
    /// was seen by an earlier agent, and may have ended since. It is reported once it was looked at.
    pub fn observed(&self) -> Vec<Observed> {
        match self.life {
            Life::InDoubt => Vec::new(),
            Life::Active | Life::Closing => self.replicas.values().map(Replica::observed).collect(),
        }
    }

    pub fn observed_of(&self, replica: ReplicaId) -> Option<Observed> {
        let known = self.replicas.get(&replica).filter(|_| self.life != Life::InDoubt);
        known.map(Replica::observed)
    }

    /// Of the last dispatch that was taken; none while increments cannot be followed.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// What the containers of all replicas are made from.
    pub fn images(&self) -> BTreeSet<Digest> {
        let templates = self.replicas.values().map(|replica| &replica.record.assignment.template);
        templates.flat_map(|t| t.containers().filter_map(|c| c.image.digest.clone())).collect()
    }

    /// Whether, after [`Event::Shutdown`], nothing is left on the host that could be cleaned up.
    pub fn is_closed(&self) -> bool {
        let is_gone = |replica: &Replica| match replica.record.phase {
            Phase::Assigned | Phase::Removed => true,
            Phase::Completed | Phase::Failed => replica.is_clean(),
            Phase::Preparing | Phase::Prepared | Phase::Running | Phase::Stopping => false,
        };
        self.life == Life::Closing && self.intruders.is_empty() && self.replicas.values().all(is_gone)
    }

    fn wakes(&self) -> impl Iterator<Item = (ReplicaId, Timestamp)> {
        let unblocked = self.replicas.iter().filter(|(id, _)| !self.intruders.block(**id));
        unblocked.filter_map(|(id, replica)| Some((*id, replica.wake()?)))
    }

    /// Notes what happened. Returns the replicas for which something may follow from it.
    fn take_in(&mut self, now: Timestamp, event: Event, out: &mut Effects) -> BTreeSet<ReplicaId> {
        match event {
            Event::Restored(records) => {
                for record in records {
                    let saved = Some(record.clone());
                    // What an earlier agent published stands until the first order of this one is in force.
                    let joining = record.ready_since.map_or(Joining::Out, |_| Joining::In);
                    let replica = Replica { saved, joining, ..Replica::new(record) };
                    self.replicas.insert(replica.id(), replica);
                }
                BTreeSet::new()
            }
            Event::Adopted(found) => {
                self.life = Life::Active;
                self.adopt(now, found, out)
            }
            Event::Assigned(dispatch) => self.assigned(now, dispatch, out),
            Event::Remembered(directory) => {
                self.balancer.remember(directory);
                BTreeSet::new()
            }
            Event::Listed(news) => {
                if !self.balancer.take(news) {
                    out.actions.push(Action::ReopenSession);
                }
                BTreeSet::new()
            }
            Event::Leased { until } => {
                self.lease.renew(until);
                let needing = self.replicas.values().filter(|replica| replica.needs_lease());
                needing.map(Replica::id).collect()
            }
            Event::Prepared { replica, result } => self.tell(replica, |r| r.prepared(now, result)),
            Event::Started { id, result } => {
                self.tell_container(&id, out, |r, index, out| r.started(now, index, result, out))
            }
            Event::Exited { id, exit } => {
                if self.intruders.exited(&id, out) {
                    return BTreeSet::from([id.replica]);
                }
                self.tell_container(&id, out, |r, index, out| r.exited(now, index, exit, out))
            }
            Event::Probed { id, kind, result } => {
                self.tell_container(&id, out, |r, index, _| r.probed(now, index, kind, result))
            }
            Event::Balanced { serial } => {
                if let Some(version) = self.balancer.confirmed(serial) {
                    out.actions.push(Action::GoBy { version });
                }
                // The pauses that begin now are waited for by the wake.
                self.replicas.values_mut().for_each(|replica| replica.balanced(now, serial));
                let joined = self.replicas.values_mut().filter_map(|r| r.joined(serial).then_some(r.id()));
                joined.collect()
            }
            Event::Cleaned { replica, result } if self.intruders.block(replica) => {
                self.intruders.cleaned(now, replica, result);
                BTreeSet::from([replica])
            }
            Event::Cleaned { replica, result } => self.tell(replica, |r| r.cleaned(now, result)),
            Event::Wake => self.wakes().filter(|(_, at)| *at <= now).map(|(id, _)| id).collect(),
            Event::Shutdown => {
                self.life = Life::Closing;
                self.replicas.keys().copied().collect()
            }
        }
    }

    fn tell(&mut self, id: ReplicaId, what: impl FnOnce(&mut Replica)) -> BTreeSet<ReplicaId> {
        self.replicas.get_mut(&id).map(what).map(|()| id).into_iter().collect()
    }

    /// News of an attempt that is not the present one changes nothing.
    fn tell_container(
        &mut self,
        id: &ContainerId,
        out: &mut Effects,
        what: impl FnOnce(&mut Replica, usize, &mut Effects),
    ) -> BTreeSet<ReplicaId> {
        let Some(replica) = self.replicas.get_mut(&id.replica) else { return BTreeSet::new() };
        let Some(index) = replica.index_of(id) else { return BTreeSet::new() };
        what(replica, index, out);
        BTreeSet::from([id.replica])
    }

    /// Whether the balancer has to be looked at.
    fn step(&mut self, now: Timestamp, id: ReplicaId, out: &mut Effects) -> bool {
        if self.intruders.block(id) {
            return false;
        }
        let closing = self.life == Life::Closing;
        let Some(replica) = self.replicas.get_mut(&id) else { return false };
        replica.step(now, closing, self.lease, out);
        replica.weighed != Some(replica.standing())
    }

    /// Puts what is to be saved first, then the balancer, then what the replicas asked for.
    fn finish(
        &mut self,
        now: Timestamp,
        touched: &BTreeSet<ReplicaId>,
        weigh: bool,
        out: Effects,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.life != Life::InDoubt && (weigh || !self.balancer.is_current()) {
            self.weigh(now, &mut actions);
        }
        actions.extend(out.actions);
        let (changes, reports) = self.account(touched);
        if !reports.is_empty() {
            actions.push(Action::Report(reports));
        }
        if !out.exits.is_empty() && self.life == Life::Active {
            actions.push(Action::Exits(out.exits));
        }
        if !changes.is_empty() {
            actions.insert(0, Action::Save(changes));
        }
        actions
    }

    fn weigh(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        actions.extend(self.balancer.update(self.replicas.values()));
        for replica in self.replicas.values_mut() {
            self.balancer.let_in(replica);
            self.balancer.let_go(replica, now);
            replica.weighed = Some(replica.standing());
        }
    }

    /// What the ledger and the control plane do not know yet. Forgets what was dropped and is gone.
    fn account(&mut self, touched: &BTreeSet<ReplicaId>) -> (Vec<Change>, Vec<Observed>) {
        let (mut changes, mut reports) = (Vec::new(), Vec::new());
        for id in touched {
            let Some(replica) = self.replicas.get_mut(id) else { continue };
            if self.life == Life::Active {
                reports.extend(replica.news());
            }
            if replica.record.dropped && replica.record.phase == Phase::Removed {
                self.replicas.remove(id);
                changes.push(Change::Forget(*id));
            } else if replica.saved.as_ref() != Some(&replica.record) {
                replica.saved = Some(replica.record.clone());
                changes.push(Change::Put(Box::new(replica.record.clone())));
            }
        }
        (changes, reports)
    }
}
