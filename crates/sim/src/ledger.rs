//! An agent's ledger: what is saved is durable once a sync is over, and all of one save or nothing.

use std::collections::BTreeMap;

use agent::core::{Change, Record};
use model::ReplicaId;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    records: BTreeMap<ReplicaId, Record>,
    pending: Vec<Change>,
    /// As it was before the last save, for a deliberate bug.
    before: BTreeMap<ReplicaId, Record>,
}

impl Ledger {
    pub(crate) fn begin(&mut self, changes: Vec<Change>) {
        self.pending.extend(changes);
    }

    pub(crate) fn commit(&mut self) {
        self.before.clone_from(&self.records);
        for change in self.pending.drain(..) {
            match change {
                Change::Put(record) => self.records.insert(record.id(), *record),
                Change::Forget(id) => self.records.remove(&id),
            };
        }
    }

    /// What was being saved is lost.
    pub(crate) fn abandon(&mut self) {
        self.pending.clear();
    }

    pub(crate) fn lose_last(&mut self) {
        self.records.clone_from(&self.before);
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    pub(crate) fn get(&self, id: ReplicaId) -> Option<&Record> {
        self.records.get(&id)
    }
}
