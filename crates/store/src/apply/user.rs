//! What users and CI say: apply, scale, undo, delete.

use std::sync::Arc;

use model::{
    EventKind, Generation, Revision, RevisionHash, RevisionNumber, RevisionStatus, Rollout, RolloutPhase,
    Service, ServiceKey, ServiceSpec, Timestamp,
};

use super::{Changes, Outcome, Rejected};
use crate::{Apply, State};

impl State {
    pub(super) fn apply_service(&mut self, apply: Apply) -> Result<(Outcome, Changes), Rejected> {
        let existing = self.services.get(&apply.service).cloned();
        self.check_expected(&apply, existing.as_deref())?;
        self.check_ports(&apply.service, &apply.spec)?;
        let Some(service) = existing else {
            return Ok(self.create_service(apply));
        };
        if service.deleting_since.is_some() {
            return Err(Rejected::Deleting(apply.service));
        }
        let runs = self.revision(&service.key, service.revision).map(|revision| revision.hash);
        let same_template = runs == Some(apply.hash);
        let same_spec = same_template
            && service.spec.replicas == apply.spec.replicas
            && service.spec.update == apply.spec.update
            && service.spec.placement == apply.spec.placement
            && service.spec.node_loss == apply.spec.node_loss
            && service.spec.template == apply.spec.template;
        if same_spec && service.labels == apply.labels && service.annotations == apply.annotations {
            return Ok((Outcome::Unchanged { revision: service.revision }, Changes::default()));
        }
        let change = describe_change(&service.spec, &apply.spec, same_template);
        let key = apply.service;
        let generation = service.generation.next();
        let template = Arc::new(apply.spec.template.clone());
        let revision = self.find_or_add_revision(&key, apply.hash, template, generation, apply.at);
        self.tell(apply.at, &key, EventKind::Applied { change });
        let mut next = Service::clone(&service);
        next.labels = apply.labels;
        next.annotations = apply.annotations;
        next.spec = apply.spec;
        next.generation = generation;
        self.go_to_revision(next, revision, apply.at);
        let rollout = revision != service.revision;
        Ok((Outcome::Changed { revision, rollout }, Changes::of_service(&key)))
    }

    fn check_expected(&self, apply: &Apply, existing: Option<&Service>) -> Result<(), Rejected> {
        let is = existing.map(|service| service.version).unwrap_or_default();
        match apply.expects {
            Some(expected) if expected != is => {
                Err(Rejected::Conflict { service: apply.service.clone(), is, expected })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_ports(&self, key: &ServiceKey, spec: &ServiceSpec) -> Result<(), Rejected> {
        for port in &spec.template.ports {
            let Some(publish) = port.publish else { continue };
            match self.published_by(port.protocol, publish) {
                Some(by) if by != key => {
                    return Err(Rejected::PortTaken {
                        service: key.clone(),
                        protocol: port.protocol,
                        port: publish,
                        by: by.clone(),
                    });
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    fn create_service(&mut self, apply: Apply) -> (Outcome, Changes) {
        let key = apply.service;
        let generation = Generation(1);
        let template = Arc::new(apply.spec.template.clone());
        let revision = self.find_or_add_revision(&key, apply.hash, template, generation, apply.at);
        self.tell(apply.at, &key, EventKind::Applied { change: "created".to_owned() });
        self.tell(apply.at, &key, EventKind::RolloutStarted { from: None, to: revision });
        self.put_service(Service {
            key: key.clone(),
            labels: apply.labels,
            annotations: apply.annotations,
            spec: apply.spec,
            generation,
            version: self.version,
            created_at: apply.at,
            revision,
            rollout: new_rollout(generation, None, revision, apply.at),
            deleting_since: None,
        });
        (Outcome::Created { revision }, Changes::of_service(&key))
    }

    /// Unlike an apply, scaling says nothing of the template: after a rollback it scales what was gone back to, and
    /// in the middle of a rollout it leaves the rollout its way.
    pub(super) fn scale(
        &mut self,
        key: ServiceKey,
        replicas: u32,
        at: Timestamp,
    ) -> Result<(Outcome, Changes), Rejected> {
        let service = self.services.get(&key).cloned().ok_or_else(|| Rejected::NoService(key.clone()))?;
        if service.deleting_since.is_some() {
            return Err(Rejected::Deleting(key));
        }
        let revision = service.revision;
        if service.spec.replicas == replicas {
            return Ok((Outcome::Unchanged { revision }, Changes::default()));
        }
        let change = format!("scaled from {} to {replicas}", service.spec.replicas);
        self.tell(at, &key, EventKind::Applied { change });
        let mut next = Service::clone(&service);
        next.spec.replicas = replicas;
        next.generation = service.generation.next();
        if service.rollout.phase.is_over() {
            self.go_to_revision(next, revision, at);
        } else {
            self.go_on(next, at);
        }
        Ok((Outcome::Changed { revision, rollout: false }, Changes::of_service(&key)))
    }

    pub(super) fn undo(
        &mut self,
        key: ServiceKey,
        to: RevisionNumber,
        at: Timestamp,
    ) -> Result<(Outcome, Changes), Rejected> {
        let service = self.services.get(&key).cloned().ok_or_else(|| Rejected::NoService(key.clone()))?;
        if service.deleting_since.is_some() {
            return Err(Rejected::Deleting(key));
        }
        let Some(revision) = self.revision(&key, to).cloned() else {
            return Err(Rejected::NoRevision { service: key, revision: to });
        };
        let mut next = Service::clone(&service);
        next.spec.template = (*revision.template).clone();
        self.check_ports(&key, &next.spec)?;
        if service.revision == to && service.spec.template == next.spec.template {
            return Ok((Outcome::Unchanged { revision: to }, Changes::default()));
        }
        next.generation = service.generation.next();
        self.tell(at, &key, EventKind::Applied { change: format!("undone to revision {to}") });
        self.go_to_revision(next, to, at);
        Ok((Outcome::Changed { revision: to, rollout: service.revision != to }, Changes::of_service(&key)))
    }

    pub(super) fn delete_service(
        &mut self,
        key: ServiceKey,
        at: Timestamp,
    ) -> Result<(Outcome, Changes), Rejected> {
        let service = self.services.get(&key).cloned().ok_or_else(|| Rejected::NoService(key.clone()))?;
        if service.deleting_since.is_none() {
            let version = self.version;
            self.tell(at, &key, EventKind::Deleted);
            self.put_service(Service { deleting_since: Some(at), version, ..Service::clone(&service) });
        }
        Ok((Outcome::Deleted, Changes::of_service(&key)))
    }

    /// Stores `next`, the changed service, with a rollout from the revision it ran so far; a rollout that already
    /// goes there goes on.
    fn go_to_revision(&mut self, mut next: Service, to: RevisionNumber, at: Timestamp) {
        let from = next.revision;
        if from == to && next.rollout.to == to && !next.rollout.phase.is_over() {
            return self.go_on(next, at);
        }
        if from != to {
            self.tell(at, &next.key, EventKind::RolloutStarted { from: Some(from), to });
        }
        // One that was paused and is tried again can still go back to where it came from.
        let is_paused = matches!(next.rollout.phase, RolloutPhase::Paused { .. });
        let from =
            if from == to && next.rollout.to == to && is_paused { next.rollout.from } else { Some(from) };
        next.revision = to;
        next.rollout = new_rollout(next.generation, from, to, at);
        next.version = self.version;
        self.put_service(next);
    }

    /// Stores `next`, whose rollout goes on under another generation. What was available of it is counted anew: there
    /// may be fewer slots now.
    fn go_on(&mut self, mut next: Service, at: Timestamp) {
        next.rollout.generation = next.generation;
        next.rollout.progressed_at = at;
        next.rollout.available = 0;
        next.version = self.version;
        self.put_service(next);
    }

    fn find_or_add_revision(
        &mut self,
        key: &ServiceKey,
        hash: RevisionHash,
        template: Arc<model::ReplicaTemplate>,
        generation: Generation,
        at: Timestamp,
    ) -> RevisionNumber {
        if let Some(known) = self.revisions(key).find(|revision| revision.hash == hash) {
            return known.number;
        }
        let number = RevisionNumber(self.revisions(key).next_back().map_or(1, |last| last.number.0 + 1));
        let status = RevisionStatus::Untried;
        let revision = Revision { number, hash, template, generation, created_at: at, status };
        self.revisions.insert((key.clone(), number), Arc::new(revision));
        self.prune_revisions(key, number);
        number
    }

    /// Keeps the newest ten, and whatever still has replicas, is the service's own, is the newest stable one or is
    /// where the service comes from.
    fn prune_revisions(&mut self, key: &ServiceKey, newest: RevisionNumber) {
        let in_use = |state: &State, number| {
            state.replicas_of(key).any(|replica| replica.revision == number)
                || state
                    .service(key)
                    .is_some_and(|service| service.revision == number || service.rollout.from == Some(number))
        };
        let is_stable = |revision: &Revision| revision.status == RevisionStatus::Stable;
        let last_stable =
            self.revisions(key).rfind(|revision| is_stable(revision)).map(|revision| revision.number);
        let mut excess = self.revisions(key).count().saturating_sub(Revision::KEPT);
        let numbers: Vec<RevisionNumber> = self.revisions(key).map(|revision| revision.number).collect();
        for number in numbers {
            if excess == 0 {
                return;
            }
            if number != newest && Some(number) != last_stable && !in_use(self, number) {
                self.revisions.remove(&(key.clone(), number));
                excess -= 1;
            }
        }
    }
}

fn new_rollout(
    generation: Generation,
    from: Option<RevisionNumber>,
    to: RevisionNumber,
    at: Timestamp,
) -> Rollout {
    Rollout {
        generation,
        from,
        to,
        started_at: at,
        progressed_at: at,
        available: 0,
        phase: RolloutPhase::Progressing,
    }
}

fn describe_change(old: &ServiceSpec, new: &ServiceSpec, same_template: bool) -> String {
    let mut words = Vec::new();
    if old.replicas != new.replicas {
        words.push(format!("scaled from {} to {}", old.replicas, new.replicas));
    }
    if !same_template {
        words.push("new revision".to_owned());
    }
    if old.update != new.update {
        words.push("update policy changed".to_owned());
    }
    if old.placement != new.placement {
        words.push("placement changed".to_owned());
    }
    if old.node_loss != new.node_loss {
        words.push("node loss policy changed".to_owned());
    }
    if words.is_empty() { "metadata changed".to_owned() } else { words.join(", ") }
}
