//! When something is to be looked at again though nothing happened.

use std::collections::{BTreeMap, BTreeSet};

use model::Timestamp;

/// At most one alarm for each.
#[derive(Debug)]
pub(crate) struct Alarms<K> {
    by_time: BTreeSet<(Timestamp, K)>,
    by_key: BTreeMap<K, Timestamp>,
}

impl<K> Default for Alarms<K> {
    fn default() -> Alarms<K> {
        Alarms { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Alarms<K> {
    /// Replaces the alarm for `key`; `None` takes it away.
    pub(crate) fn set(&mut self, key: &K, at: Option<Timestamp>) {
        if let Some(old) = self.by_key.remove(key) {
            self.by_time.remove(&(old, key.clone()));
        }
        if let Some(at) = at {
            self.by_key.insert(key.clone(), at);
            self.by_time.insert((at, key.clone()));
        }
    }

    /// The same, by another reckoning of the time.
    pub(crate) fn translate(&mut self, to: impl Fn(Timestamp) -> Timestamp) {
        self.by_key.values_mut().for_each(|at| *at = to(*at));
        self.by_time = self.by_key.iter().map(|(key, at)| (*at, key.clone())).collect();
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out everything whose time has come.
    pub(crate) fn due(&mut self, now: Timestamp) -> Vec<K> {
        let mut due = Vec::new();
        while let Some((at, key)) = self.by_time.pop_first() {
            if at > now {
                self.by_time.insert((at, key));
                break;
            }
            self.by_key.remove(&key);
            due.push(key);
        }
        due
    }
}
