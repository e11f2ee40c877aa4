//! What users ask for: made into commands, tried out, and answered once these are applied.

use model::{
    ReplicaTemplate, Revision, RevisionHash, RevisionNumber, RevisionStatus, ServiceKey, ServiceSpec,
    Timestamp,
};
use sha2::{Digest as _, Sha256};
use store::{Apply, Command, Rejected};

use crate::{
    Applied, Codec, Declaration, Effect, Manager, Reply, Request, RequestError, RequestId,
    proposals::{Origin, Tried},
    reads::Answer,
};

impl<C: Codec> Manager<C> {
    pub(crate) fn request(&mut self, now: Timestamp, id: RequestId, request: Request) {
        if !self.leader.leads() {
            return self.refuse(id, RequestError::NotLeader { leader: self.consensus.status().leader });
        }
        // A dry run promises nothing, so what it counts with need not be durable first.
        let is_dry_run = matches!(request, Request::Apply { dry_run: true, .. });
        let rests_on = if is_dry_run { 0 } else { self.next_index() - 1 };
        let result = match self.try_request(now, id, request) {
            Ok(None) => return,
            Ok(Some(reply)) => Ok(reply),
            Err(error) if !error.is_of_the_state() => return self.refuse(id, error),
            Err(error) => Err(error),
        };
        self.answer_as_leader(Answer::Request { id, result }, rests_on);
    }

    pub(crate) fn refuse(&mut self, id: RequestId, error: RequestError) {
        self.effects.push(Effect::Reply { id, result: Err(error) });
    }

    /// None where it is on its way through the log, and answered after that.
    fn try_request(
        &mut self,
        now: Timestamp,
        id: RequestId,
        request: Request,
    ) -> Result<Option<Reply>, RequestError> {
        match request {
            Request::Node { node, asked } => self.node_request(now, id, node, asked).map(|()| None),
            Request::Configure { node_lost_after } => {
                self.propose_for(id, Command::Configure { node_lost_after, at: now }).map(|()| None)
            }
            Request::Trust(change) => self.propose_for(id, Command::Trust(change)).map(|()| None),
            request => self.service_request(now, id, request),
        }
    }

    fn service_request(
        &mut self,
        now: Timestamp,
        id: RequestId,
        request: Request,
    ) -> Result<Option<Reply>, RequestError> {
        let is_dry_run = matches!(request, Request::Apply { dry_run: true, .. });
        let asked = self.commands(now, request)?;
        let (services, commands): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        let tried = self.try_out(commands)?;
        let applied = services.into_iter().zip(&tried).map(|(service, one)| applied(service, one));
        let reply = Reply { applied: applied.collect() };
        self.check_size(&tried)?;
        if is_dry_run || tried.is_empty() {
            return Ok(Some(reply));
        }
        self.propose(tried, Origin::User { id, reply }).map(|()| None)
    }

    /// The commands that a request comes to, each with its service.
    fn commands(&self, now: Timestamp, request: Request) -> Result<Vec<(ServiceKey, Command)>, RequestError> {
        let at = now;
        Ok(match request {
            Request::Apply { declarations, .. } => self.apply_commands(now, declarations)?,
            Request::Delete { services } => {
                let delete = |service: ServiceKey| (service.clone(), Command::Delete { service, at });
                services.into_iter().map(delete).collect()
            }
            Request::Scale { service, replicas } => {
                vec![(service.clone(), Command::Scale { service, replicas, at })]
            }
            Request::Undo { service, to } => {
                let to = to.map_or_else(|| self.newest_other_stable(&service), Ok)?;
                vec![(service.clone(), Command::Undo { service, to, at })]
            }
            Request::Restart { service } => vec![(service.clone(), self.restart_command(now, service)?)],
            Request::Node { .. } | Request::Configure { .. } | Request::Trust(_) => {
                unreachable!("it is of no service, and was handled before")
            }
        })
    }

    fn apply_commands(
        &self,
        now: Timestamp,
        declarations: Vec<Declaration>,
    ) -> Result<Vec<(ServiceKey, Command)>, RequestError> {
        let mut commands = Vec::with_capacity(declarations.len());
        let mut unresolved = Vec::new();
        let mut images = self.images(now);
        for Declaration { service, labels, annotations, mut spec, expects } in declarations {
            unresolved.extend(images.resolve(&service, &mut spec.template)?);
            // A manifest knows nothing of restarts that were asked for; applying it again must not undo them.
            let existing = self.ahead().service(&service);
            spec.template.restart_nonce = existing.map_or(0, |existing| existing.spec.template.restart_nonce);
            let hash = self.hash(&spec.template);
            let key = service.clone();
            let apply = Apply { service, labels, annotations, spec, hash, expects, at: now };
            commands.push((key, Command::Apply(apply)));
        }
        if unresolved.is_empty() { Ok(commands) } else { Err(RequestError::Images(unresolved)) }
    }

    fn restart_command(&self, now: Timestamp, key: ServiceKey) -> Result<Command, RequestError> {
        let state = self.ahead();
        let service = state.service(&key).ok_or_else(|| no_service(&key))?;
        let running = state.revision(&key, service.revision).map(|revision| &*revision.template);
        // Larger than any that is kept, so that it is never a revision that was there before.
        let kept = state.revisions(&key).map(|revision| revision.template.restart_nonce);
        let restart_nonce = kept.chain([service.spec.template.restart_nonce]).max().unwrap_or_default() + 1;
        let template = ReplicaTemplate { restart_nonce, ..running.unwrap_or(&service.spec.template).clone() };
        let hash = self.hash(&template);
        let spec = ServiceSpec { template, ..service.spec.clone() };
        let (labels, annotations) = (service.labels.clone(), service.annotations.clone());
        Ok(Command::Apply(Apply { service: key, labels, annotations, spec, hash, expects: None, at: now }))
    }

    fn newest_other_stable(&self, key: &ServiceKey) -> Result<RevisionNumber, RequestError> {
        let state = self.ahead();
        let service = state.service(key).ok_or_else(|| no_service(key))?;
        if service.deleting_since.is_some() {
            return Err(RequestError::Rejected(vec![Rejected::Deleting(key.clone())]));
        }
        let is_stable = |revision: &Revision| revision.status == RevisionStatus::Stable;
        let others = state.revisions(key).filter(|revision| revision.number != service.revision);
        let found = others.rev().find(|revision| is_stable(revision)).map(|revision| revision.number);
        found.ok_or_else(|| RequestError::NothingToUndo { service: key.clone() })
    }

    fn hash(&self, template: &ReplicaTemplate) -> RevisionHash {
        RevisionHash(Sha256::digest(self.codec.encode_template(template)).into())
    }
}

fn no_service(key: &ServiceKey) -> RequestError {
    RequestError::Rejected(vec![Rejected::NoService(key.clone())])
}

fn applied(service: ServiceKey, tried: &Tried) -> Applied {
    let previous = tried.before.service(&service).cloned();
    let current = tried.after.service(&service).cloned();
    let generation = current.as_ref().map(|service| service.generation).unwrap_or_default();
    Applied { service, outcome: tried.outcome.clone(), generation, previous, current }
}
