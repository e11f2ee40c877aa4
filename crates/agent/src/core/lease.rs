//! The lease: until when this node may run replicas that ask to be stopped when it has lost the control plane.
//!
//! A leader gives it with each answer to a heartbeat, and counts on it: once it is over for certain, such a replica
//! (`onPartition: stop`) is replaced elsewhere, so that at most one runs. So without a lease none is started, and what
//! runs is told to stop and killed a short while later, whatever grace it asks for and whatever the balancer says. Once
//! a leader is heard again, what is still desired begins anew.
//!
//! The time is that of the shell's clock, which must go on while the host sleeps. Should this agent be dead or hang, the
//! keepers of the containers kill them by themselves at [`Lease::kills_at`]: the shell writes that down for them before
//! it tells of a lease.

use model::{OnPartition, Settings, Timestamp};

use super::replica::Replica;

/// As it was given last; at the beginning of time, and so over, if never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lease {
    until: Timestamp,
}

impl Lease {
    /// An answer that was long on its way takes nothing back.
    pub(super) fn renew(&mut self, until: Timestamp) {
        self.until = self.until.max(until);
    }

    fn is_held(self, now: Timestamp) -> bool {
        now < self.until
    }

    /// When what still runs then is killed.
    fn kills_at(self) -> Timestamp {
        self.until + Settings::LEASE_GRACE
    }
}

/// Whether a replica may go on, whatever is desired of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Footing {
    Firm,
    /// The agent ends, and leaves nothing behind.
    Closing,
    /// The lease is over: it stops, and what still runs at this time is killed.
    LeaseOver {
        kill_at: Timestamp,
    },
}

impl Footing {
    pub(super) fn ends(self) -> bool {
        match self {
            Footing::Firm => false,
            Footing::Closing | Footing::LeaseOver { .. } => true,
        }
    }

    pub(super) fn kill_at(self) -> Option<Timestamp> {
        match self {
            Footing::Firm | Footing::Closing => None,
            Footing::LeaseOver { kill_at } => Some(kill_at),
        }
    }
}

impl Replica {
    pub(super) fn needs_lease(&self) -> bool {
        self.record.assignment.template.on_partition == OnPartition::Stop
    }

    pub(super) fn footing(&self, now: Timestamp, closing: bool, lease: Lease) -> Footing {
        match self.needs_lease() && !lease.is_held(now) {
            true => Footing::LeaseOver { kill_at: lease.kills_at() },
            false if closing => Footing::Closing,
            false => Footing::Firm,
        }
    }

    /// When the lease means something else for it.
    pub(super) fn lease_wake(&self, now: Timestamp, lease: Lease) -> Option<Timestamp> {
        let changes = [lease.until, lease.kills_at()];
        changes.into_iter().find(|at| self.needs_lease() && now < *at)
    }
}
