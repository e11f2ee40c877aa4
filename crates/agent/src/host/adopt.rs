//! What an earlier agent left here.

use std::{collections::BTreeSet, net::Ipv4Addr};

use model::{ReplicaId, Timestamp};
use runtime::Status;

use super::{Host, HostError, exit_of, unknown_exit};
use crate::core::{ContainerId, Found, FoundState, Record};

impl Host {
    /// Looks, and holds the addresses that are in use, so that nobody else gets them.
    pub(crate) fn find(&self, records: &[Record]) -> Result<Found, HostError> {
        let now = self.clock.now();
        let mut found = Found { containers: self.find_containers(now)?, sandboxes: BTreeSet::new() };
        for (name, address) in self.network.sandboxes().map_err(HostError::Network)? {
            let Ok(id) = name.parse::<ReplicaId>() else { continue };
            found.sandboxes.insert(id);
            self.hold(&name, address);
        }
        for record in records {
            self.known().live.insert(record.id());
            if let Some(address) = record.address {
                self.hold(&record.id().to_string(), address);
                if found.sandboxes.contains(&record.id()) {
                    self.make_startable(record, address);
                }
            }
        }
        // A snapshot or a folder is enough to need cleaning, if nobody knows the replica.
        let known: BTreeSet<ReplicaId> = records.iter().map(Record::id).collect();
        let snapshots = self.images.snapshots().map_err(HostError::Snapshots)?;
        let ids = snapshots.iter().filter_map(|name| name.parse::<ContainerId>().ok());
        found.sandboxes.extend(ids.map(|id| id.replica).filter(|id| !known.contains(id)));
        Ok(found)
    }

    /// In place of an address of a subnet that the node had before, the one with the same last two numbers is held: a
    /// replica's users follow from these.
    pub(super) fn hold(&self, id: &str, address: Ipv4Addr) {
        const LAST_TWO: u32 = 0xffff;
        let (network, host) = (self.subnet.network().to_bits(), address.to_bits());
        let (address, is_former) = match self.subnet.contains(address) {
            true => (address, false),
            false => (Ipv4Addr::from_bits(network & !LAST_TWO | host & LAST_TWO), true),
        };
        if is_former && !self.subnet.is_usable(address) {
            return;
        }
        if let Err(error) = self.known().addresses.reserve(id, address) {
            // It gets another one when it is prepared again.
            tracing::warn!(%id, %error, "an address from before cannot be held");
        }
    }

    /// So that its images are not collected, and probes and stop signals know what they must.
    fn make_startable(&self, record: &Record, address: std::net::Ipv4Addr) {
        if let Err(setback) = self.startable(&record.assignment, address) {
            tracing::warn!(replica = %record.id(), reason = setback.reason, "a replica from before cannot be started again now");
        }
    }

    pub(super) fn find_containers(
        &self,
        now: Timestamp,
    ) -> Result<Vec<(ContainerId, FoundState)>, HostError> {
        let mut containers = Vec::new();
        for container in self.runtime.list().map_err(HostError::List)? {
            let Ok(id) = container.id.as_str().parse::<ContainerId>() else {
                tracing::warn!(id = %container.id, "a container that is not ours is left alone");
                continue;
            };
            let state = match container.status {
                Status::Running { pid } => {
                    let pid = u32::try_from(pid).unwrap_or_default();
                    FoundState::Running { pid, since: self.clock.at_wall(Timestamp(container.created_ms)) }
                }
                Status::Exited(record) => FoundState::Exited(exit_of(&record, &self.clock)),
                Status::Broken => FoundState::Exited(self.end_of_broken(&container.id, now)),
            };
            containers.push((id, state));
        }
        Ok(containers)
    }

    /// Its keeper died; asking for its end also ends what may be left of it.
    fn end_of_broken(&self, id: &runtime::ContainerId, now: Timestamp) -> model::Exit {
        match self.runtime.exit_record(id) {
            Ok(Some(record)) => exit_of(&record, &self.clock),
            Ok(None) | Err(_) => unknown_exit(now),
        }
    }
}
