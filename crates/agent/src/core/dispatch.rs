//! What the control plane says: full sets and increments become what each replica should be.

use std::collections::BTreeSet;

use model::{Assignment, Desired, Dispatch, ReplicaId, Timestamp};

use super::{
    Action, Core, Record,
    replica::{Effects, Replica},
};

impl Core {
    /// Returns the replicas that are to be looked at.
    pub(super) fn assigned(
        &mut self,
        now: Timestamp,
        dispatch: Dispatch,
        out: &mut Effects,
    ) -> BTreeSet<ReplicaId> {
        match dispatch {
            Dispatch::Full { sequence, assignments } => {
                self.sequence = Some(sequence);
                let assigned: BTreeSet<ReplicaId> = assignments.iter().map(|a| a.replica).collect();
                let known = self.replicas.keys().copied();
                let dropped: Vec<ReplicaId> = known.filter(|id| !assigned.contains(id)).collect();
                self.take_assignments(now, assignments, &dropped)
            }
            Dispatch::Increment { follows, sequence, changed, removed } if self.sequence == Some(follows) => {
                self.sequence = Some(sequence);
                self.take_assignments(now, changed, &removed)
            }
            Dispatch::Increment { .. } => {
                // Said once: until the next full set, all increments of this session are part of the same gap.
                if self.sequence.take().is_some() {
                    out.actions.push(Action::ReopenSession);
                }
                BTreeSet::new()
            }
        }
    }

    fn take_assignments(
        &mut self,
        now: Timestamp,
        changed: Vec<Assignment>,
        removed: &[ReplicaId],
    ) -> BTreeSet<ReplicaId> {
        let mut touched = BTreeSet::new();
        for assignment in changed {
            touched.insert(assignment.replica);
            match self.replicas.get_mut(&assignment.replica) {
                // A replica's template never changes: another desired state is all that can be new.
                Some(replica) => {
                    replica.record.dropped = false;
                    replica.record.desire(assignment.desired);
                }
                None => {
                    let replica = Replica::new(Record::new(assignment, now));
                    self.replicas.insert(replica.id(), replica);
                }
            }
        }
        for id in removed {
            if let Some(replica) = self.replicas.get_mut(id) {
                touched.insert(*id);
                replica.record.dropped = true;
                replica.record.desire(Desired::Stopped);
            }
        }
        touched
    }
}
