//! When services are to be looked at again though nothing happened.

use std::collections::{BTreeMap, BTreeSet};

use model::{ServiceKey, Timestamp};

/// At most one alarm per service.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    by_time: BTreeSet<(Timestamp, ServiceKey)>,
    by_service: BTreeMap<ServiceKey, Timestamp>,
}

impl Alarms {
    /// Replaces the service's alarm; `None` takes it away.
    pub(crate) fn set(&mut self, service: &ServiceKey, at: Option<Timestamp>) {
        if let Some(old) = self.by_service.remove(service) {
            self.by_time.remove(&(old, service.clone()));
        }
        if let Some(at) = at {
            self.by_service.insert(service.clone(), at);
            self.by_time.insert((at, service.clone()));
        }
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out every service whose time has come.
    pub(crate) fn due(&mut self, now: Timestamp) -> Vec<ServiceKey> {
        let mut due = Vec::new();
        while let Some((at, service)) = self.by_time.pop_first() {
            if at > now {
                self.by_time.insert((at, service));
                break;
            }
            self.by_service.remove(&service);
            due.push(service);
        }
        due
    }
}
