//! Which published ports this node has, and which ready replicas stand behind each.
//!
//! Of its own replicas it knows itself who is ready, at once. Of those on other nodes it believes the directory, which it
//! keeps: without any leader, ports go on leading where they led.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddrV4,
    sync::Arc,
};

use model::{Directory, DirectoryNews, Phase, Protocol, Timestamp};

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
    /// Of the other nodes.
    directory: Arc<Directory>,
    /// Whether it changed since the last order.
    has_news: bool,
    /// The version of the directory that is told to be in force with an order.
    listed: Option<Listed>,
}

#[derive(Clone, Copy, Debug)]
struct Listed {
    version: u64,
    serial: u64,
}

impl Balancer {
    /// Orders the present set if it differs from what was ordered last.
    pub(super) fn update<'a>(&mut self, replicas: impl Iterator<Item = &'a Replica>) -> Option<Action> {
        let wanted = published(replicas, &self.directory);
        if self.ordered.as_ref() == Some(&wanted) && !self.has_news {
            return None;
        }
        self.serial += 1;
        if std::mem::take(&mut self.has_news) {
            self.listed = self.directory.version().map(|version| Listed { version, serial: self.serial });
        }
        self.ordered = Some(wanted.clone());
        let directory = Arc::clone(&self.directory);
        Some(Action::Balance { serial: self.serial, ports: wanted, directory })
    }

    /// Whether what was ordered last is all that is known.
    pub(super) fn is_current(&self) -> bool {
        self.ordered.is_some() && !self.has_news
    }

    pub(super) fn remember(&mut self, directory: Directory) {
        self.directory = Arc::new(directory);
        self.has_news = true;
    }

    /// Whether the news could be followed; what could not be followed before is not said again.
    pub(super) fn take(&mut self, news: DirectoryNews) -> bool {
        let could_follow = self.directory.version().is_some();
        let follows = Arc::make_mut(&mut self.directory).take(news);
        self.has_news |= follows;
        follows || !could_follow
    }

    /// Also returns the version of the directory that came into force with it, if one did.
    pub(super) fn confirmed(&mut self, serial: u64) -> Option<u64> {
        self.confirmed = self.confirmed.max(serial);
        self.listed.take_if(|listed| listed.serial <= serial).map(|listed| listed.version)
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

fn published<'a>(replicas: impl Iterator<Item = &'a Replica>, directory: &Directory) -> Vec<Published> {
    let mut ports: BTreeMap<(u16, Protocol), BTreeSet<SocketAddrV4>> = BTreeMap::new();
    let elsewhere = directory.nodes().values().filter(|listing| listing.subnet.is_some());
    for endpoint in elsewhere.flat_map(|listing| listing.endpoints.iter().flatten()) {
        ports.entry((endpoint.published, endpoint.protocol)).or_default().insert(endpoint.backend);
    }
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
