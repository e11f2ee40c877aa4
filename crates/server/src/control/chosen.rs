//! Which replicas a user means.

use std::{cmp::Reverse, sync::Arc};

use manager::View;
use model::{Name, Observed, Phase, Replica, ReplicaId, ServiceKey, Slot};
use proto::v1::{self, replica_selector};
use tonic::Status;

use super::refuse::{invalid, not_found};

/// A service, or some of its replicas.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    service: ServiceKey,
    only: Option<Only>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    Slot(Slot),
    Replica(ReplicaId),
}

impl Chosen {
    pub(super) fn read(
        namespace: &str,
        service: &str,
        selector: Option<&v1::ReplicaSelector>,
    ) -> Result<Chosen, Status> {
        let namespace = if namespace.is_empty() { "default" } else { namespace };
        let service = ServiceKey {
            namespace: Name::new(namespace).map_err(invalid)?,
            name: Name::new(service).map_err(invalid)?,
        };
        let only = match selector.and_then(|selector| selector.replica) {
            None => None,
            Some(replica_selector::Replica::Slot(slot)) => {
                let slot = Slot::new(slot).ok_or_else(|| invalid("slots are counted from 1"))?;
                Some(Only::Slot(slot))
            }
            Some(replica_selector::Replica::Id(id)) => Some(Only::Replica(ReplicaId(id))),
        };
        Ok(Chosen { service, only })
    }

    /// Those that are there, in the order of their slots, and of each slot the newest first.
    pub(super) fn among<'a>(&self, view: &'a View) -> Vec<&'a Arc<Replica>> {
        let is_meant = |replica: &&Arc<Replica>| match self.only {
            None => true,
            Some(Only::Slot(slot)) => replica.slot == slot,
            Some(Only::Replica(id)) => replica.id == id,
        };
        let mut found: Vec<_> = view.state.replicas_of(&self.service).filter(is_meant).collect();
        found.sort_by_key(|replica| (replica.slot, Reverse(replica.created_at)));
        found
    }

    /// The same of those whose containers have been started; of one slot only the newest of them.
    pub(super) fn started<'a>(&self, view: &'a View) -> Vec<&'a Arc<Replica>> {
        let mut found = self.among(view);
        found.retain(|replica| has_started(view, replica));
        if let Some(Only::Slot(_)) = self.only {
            found.truncate(1);
        }
        found
    }

    /// Refuses what does not exist.
    pub(super) fn check(&self, view: &View) -> Result<(), Status> {
        let Chosen { service, only } = self;
        if view.state.service(service).is_none() {
            return Err(not_found(format!(
                "there is no service {service}; `wharf get services -A` lists all"
            )));
        }
        match only {
            Some(Only::Slot(slot)) if self.among(view).is_empty() => {
                Err(not_found(format!("service {service} has no replica in slot {slot}")))
            }
            Some(Only::Replica(id)) if self.among(view).is_empty() => {
                Err(not_found(format!("service {service} has no replica {id}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether others can come that are meant too.
    pub(super) fn may_grow(&self, view: &View) -> bool {
        view.state.service(&self.service).is_some() && !matches!(self.only, Some(Only::Replica(_)))
    }
}

/// Of what is not observed, its node knows more than this server.
fn has_started(view: &View, replica: &Replica) -> bool {
    replica.node.is_some() && view.observed.replica(replica.id).is_none_or(|seen| has_run(seen))
}

fn has_run(seen: &Observed) -> bool {
    seen.timeline.started.is_some()
        || match seen.phase {
            Phase::Assigned | Phase::Preparing | Phase::Prepared => false,
            Phase::Running | Phase::Stopping | Phase::Completed | Phase::Failed | Phase::Removed => true,
        }
}

impl std::fmt::Display for Chosen {
    /// `web`, `web.3`, or the replica's id.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.only {
            None => write!(f, "{}", self.service),
            Some(Only::Slot(slot)) => write!(f, "{}.{slot}", self.service),
            Some(Only::Replica(id)) => write!(f, "replica {id} of {}", self.service),
        }
    }
}
