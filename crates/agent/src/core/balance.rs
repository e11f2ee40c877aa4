//! Which published ports this node has, and which ready replicas stand behind each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddrV4,
};

use model::{Phase, Protocol, Timestamp};

use super::{
    Action, Published,
    replica::{Joining, Leaving, Replica},
    stopping::BALANCER_PATIENCE,
};

#[derive(Debug, Default)]
pub(super) struct Balancer {
    /// What was ordered last; none before the first time, when whatever an earlier agent left is to be replaced.
    ordered: Option<Vec<Published>>,
    serial: u64,
    /// The last one that is in force.
    confirmed: u64,
}

impl Balancer {
    /// Orders the present set if it differs from what was ordered last.
    pub(super) fn update<'a>(&mut self, replicas: impl Iterator<Item = &'a Replica>) -> Option<Action> {
        let wanted = published(replicas);
        if self.ordered.as_ref() == Some(&wanted) {
            return None;
        }
        self.serial += 1;
        self.ordered = Some(wanted.clone());
        Some(Action::Balance { serial: self.serial, ports: wanted })
    }

    pub(super) fn was_ordered(&self) -> bool {
        self.ordered.is_some()
    }

    pub(super) fn confirmed(&mut self, serial: u64) {
        self.confirmed = self.confirmed.max(serial);
    }

    /// To a replica: whether the set ordered last is with it.
    pub(super) fn let_in(&self, replica: &mut Replica) {
        let standing = replica.standing();
        match replica.joining {
            _ if !standing.serves => replica.joining = Joining::Out,
            Joining::Out => {
                replica.joining = Joining::Ordered { serial: self.serial };
                replica.joined(self.confirmed);
            }
            Joining::Ordered { .. } | Joining::In => {}
        }
    }

    /// To a replica that asked to leave: the set ordered last is without it.
    pub(super) fn let_go(&self, replica: &mut Replica, now: Timestamp) {
        if replica.leaving == Leaving::Asked {
            replica.leaving = Leaving::Ordered { serial: self.serial, patience: now + BALANCER_PATIENCE };
            replica.balanced(now, self.confirmed);
        }
    }
}

fn published<'a>(replicas: impl Iterator<Item = &'a Replica>) -> Vec<Published> {
    let mut ports: BTreeMap<(u16, Protocol), BTreeSet<SocketAddrV4>> = BTreeMap::new();
    for replica in replicas.filter(|replica| replica.record.phase < Phase::Removed) {
        let backend = replica.address().filter(|_| replica.record.ready_since.is_some());
        for port in &replica.record.assignment.template.ports {
            let Some(publish) = port.publish else { continue };
            let backends = ports.entry((publish, port.protocol)).or_default();
            backends.extend(backend.map(|address| SocketAddrV4::new(address, port.port)));
        }
    }
    let published = |((port, protocol), backends): (_, BTreeSet<_>)| Published {
        port,
        protocol,
        backends: backends.into_iter().collect(),
    };
    ports.into_iter().map(published).collect()
}

/// What of a replica the balancer depends on: where this did not change, nothing has to be computed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    publishes: bool,
    serves: bool,
    asks_to_leave: bool,
}

impl Replica {
    pub(super) fn standing(&self) -> Standing {
        Standing {
            publishes: self.record.phase < Phase::Removed,
            serves: self.record.ready_since.is_some() && self.address().is_some(),
            asks_to_leave: self.leaving == Leaving::Asked,
        }
    }

    /// The set of this serial number is in force. Whether that brought connections to this replica.
    pub(super) fn joined(&mut self, serial: u64) -> bool {
        let joins = matches!(self.joining, Joining::Ordered { serial: wanted } if wanted <= serial);
        if joins {
            self.joining = Joining::In;
        }
        joins
    }

    /// Whether its published ports, if it has any, lead to it.
    pub(super) fn is_reached(&self) -> bool {
        self.joining == Joining::In || !self.publishes_ports()
    }

    pub(super) fn publishes_ports(&self) -> bool {
        self.record.assignment.template.ports.iter().any(|port| port.publish.is_some())
    }
}
