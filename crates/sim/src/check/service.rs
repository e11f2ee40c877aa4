//! What a user can see of one service, and what each wish may make of it: the sequential story that histories are held
//! against.
//!
//! Every change of a service counts its generation up by one. So a write that was lost, done twice or seen too early
//! shows in the numbers, also where nobody was told whether a wish came true.

use manager::Applied;
use model::{Service, ServiceKey};
use store::{Outcome, State};

use super::linear::Acts;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Life {
    Absent,
    Present(Seen),
    /// Being deleted. It is gone at a moment that no user decides.
    Leaving(Seen),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    generation: u64,
    /// Who applied it, in an annotation.
    note: String,
    replicas: u32,
}

/// The annotation that tells wishes apart.
pub(crate) const NOTE: &str = "note";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Apply {
        note: String,
        replicas: u32,
        /// Only where there is no such service.
        creates: bool,
        told: Option<Told>,
    },
    Scale {
        replicas: u32,
        told: Option<Told>,
    },
    /// Another template, the rest as it was: undo and restart.
    Retemplate {
        told: Option<Told>,
    },
    Delete,
    Read {
        saw: Life,
    },
    /// A user was told that there is no such service.
    Missed,
    /// It did not happen, for a reason that says nothing of the service.
    Refused,
}

/// What the answer to a wish said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    kind: Kind,
    generation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Created,
    Changed,
    Unchanged,
}

impl Told {
    /// None of a deletion, which says nothing more.
    pub(crate) fn of(applied: &Applied) -> Option<Told> {
        let kind = match applied.outcome {
            Outcome::Created { .. } => Kind::Created,
            Outcome::Changed { .. } => Kind::Changed,
            Outcome::Unchanged { .. } => Kind::Unchanged,
            Outcome::Deleted | Outcome::Done => return None,
        };
        Some(Told { kind, generation: applied.generation.0 })
    }
}

impl Action {
    pub(crate) fn read(state: &State, key: &ServiceKey) -> Action {
        Action::Read { saw: state.service(key).map_or(Life::Absent, |service| Life::of(service)) }
    }

    /// The same with its answer.
    pub(crate) fn answered(self, answer: Option<Told>) -> Action {
        match self {
            Action::Apply { note, replicas, creates, .. } => {
                Action::Apply { note, replicas, creates, told: answer }
            }
            Action::Scale { replicas, .. } => Action::Scale { replicas, told: answer },
            Action::Retemplate { .. } => Action::Retemplate { told: answer },
            Action::Delete | Action::Read { .. } | Action::Missed | Action::Refused => self,
        }
    }
}

impl Acts<Life> for Action {
    fn after(&self, life: &Life) -> Vec<Life> {
        let mut after = life.at_once(self);
        if matches!(life, Life::Leaving(_)) {
            after.extend(Life::Absent.at_once(self));
        }
        after
    }

    fn only_looks(&self) -> bool {
        let same = |told: &Option<Told>| told.is_some_and(|told| told.kind == Kind::Unchanged);
        match self {
            Action::Read { .. } | Action::Missed => true,
            Action::Apply { told, .. } | Action::Scale { told, .. } | Action::Retemplate { told } => {
                same(told)
            }
            // One whose service is leaving already changes nothing; one that comes after another apply does.
            Action::Delete | Action::Refused => false,
        }
    }
}

impl Life {
    fn of(service: &Service) -> Life {
        let note = service.annotations.get(NOTE).map(|note| note_of(note)).unwrap_or_default();
        let (generation, replicas) = (service.generation.0, service.spec.replicas);
        let seen = Seen { generation, note, replicas };
        if service.deleting_since.is_some() { Life::Leaving(seen) } else { Life::Present(seen) }
    }

    fn at_once(&self, action: &Action) -> Vec<Life> {
        match (action, self) {
            (Action::Read { saw }, now) => {
                if saw == now {
                    vec![now.clone()]
                } else {
                    Vec::new()
                }
            }
            (Action::Missed, Life::Absent) => vec![Life::Absent],
            (Action::Missed, Life::Present(_) | Life::Leaving(_)) | (Action::Refused, _) => Vec::new(),
            (Action::Apply { note, replicas, told, .. }, Life::Absent) => {
                let seen = Seen { generation: 1, note: note.clone(), replicas: *replicas };
                fits(*told, Kind::Created, &seen).then_some(Life::Present(seen)).into_iter().collect()
            }
            (Action::Apply { creates: true, .. }, Life::Present(_)) => Vec::new(),
            (Action::Apply { note, replicas, told, .. }, Life::Present(was)) => {
                let next = Seen { generation: was.generation + 1, note: note.clone(), replicas: *replicas };
                let may_be_same = was.note == *note && was.replicas == *replicas;
                changed_or_same(was, next, may_be_same, *told)
            }
            (Action::Scale { replicas, told }, Life::Present(was)) => {
                let next = Seen { generation: was.generation + 1, replicas: *replicas, ..was.clone() };
                if was.replicas == *replicas {
                    let same = fits(*told, Kind::Unchanged, was);
                    return same.then(|| Life::Present(was.clone())).into_iter().collect();
                }
                changed_or_same(was, next, false, *told)
            }
            (Action::Retemplate { told }, Life::Present(was)) => {
                let next = Seen { generation: was.generation + 1, ..was.clone() };
                changed_or_same(was, next, true, *told)
            }
            (Action::Delete, Life::Present(was) | Life::Leaving(was)) => vec![Life::Leaving(was.clone())],
            (Action::Scale { .. } | Action::Retemplate { .. } | Action::Delete, Life::Absent) => Vec::new(),
            (Action::Apply { .. } | Action::Scale { .. } | Action::Retemplate { .. }, Life::Leaving(_)) => {
                Vec::new()
            }
        }
    }
}

/// What matters of an annotation: behind a colon it is only long.
pub(crate) fn note_of(annotation: &str) -> String {
    annotation.split(':').next().unwrap_or_default().to_owned()
}

fn changed_or_same(was: &Seen, next: Seen, may_be_same: bool, told: Option<Told>) -> Vec<Life> {
    let mut after = Vec::new();
    if may_be_same && fits(told, Kind::Unchanged, was) {
        after.push(Life::Present(was.clone()));
    }
    if fits(told, Kind::Changed, &next) {
        after.push(Life::Present(next));
    }
    after
}

/// Where nobody was told anything, everything fits.
fn fits(told: Option<Told>, kind: Kind, seen: &Seen) -> bool {
    told.is_none_or(|told| told.kind == kind && told.generation == seen.generation)
}
