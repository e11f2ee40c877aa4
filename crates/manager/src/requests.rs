//! What users ask for: checked against the state, made into commands, answered once these are applied.

use std::sync::Arc;

use model::{
    Digest, ReplicaTemplate, RevisionHash, RevisionNumber, RevisionStatus, Service, ServiceKey, ServiceSpec,
    Timestamp, Version,
};
use sha2::{Digest as _, Sha256};
use store::{Apply, Command, Outcome, Rejected};

use crate::{
    Applied, Codec, Declaration, Effect, Manager, Reply, Request, RequestError, RequestId, log::Origin,
};

/// Names one command of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(crate) request: RequestId,
    pub(crate) index: usize,
}

/// A request whose commands are on their way.
#[derive(Debug)]
pub(crate) struct Batch {
    asked: Vec<Asked>,
    outcomes: Vec<Option<Result<Outcome, Rejected>>>,
}

#[derive(Debug)]
struct Asked {
    service: ServiceKey,
    previous: Option<Arc<Service>>,
}

impl<C: Codec> Manager<C> {
    pub(crate) fn request(&mut self, now: Timestamp, id: RequestId, request: Request) {
        let result = if self.leader.leading {
            self.commands(now, request)
        } else {
            Err(RequestError::NotLeader { leader: self.consensus.status().leader })
        };
        let commands = match result {
            Ok(Prepared::Write(commands)) => commands,
            Ok(Prepared::Answer(reply)) => return self.effects.push(Effect::Reply { id, result: Ok(reply) }),
            Err(error) => return self.effects.push(Effect::Reply { id, result: Err(error) }),
        };
        let asked = commands.iter().map(|(service, _)| self.asked(service)).collect::<Vec<_>>();
        let outcomes = vec![None; asked.len()];
        self.leader.batches.insert(id, Batch { asked, outcomes });
        for (index, (_, command)) in commands.into_iter().enumerate() {
            if let Err(error) = self.propose(command, Origin::User(Ticket { request: id, index })) {
                return self.fail(id, error);
            }
        }
    }

    /// The commands that a request comes to, tried out on a copy of the state: all of them hold, or none is proposed.
    fn commands(&mut self, now: Timestamp, request: Request) -> Result<Prepared, RequestError> {
        let (commands, dry_run) = match request {
            Request::Apply { declarations, dry_run } => {
                let commands = declarations.into_iter().map(|declared| self.apply_command(now, declared));
                (commands.collect::<Result<Vec<_>, _>>()?, dry_run)
            }
            Request::Delete { services } => {
                (services.into_iter().map(|service| Command::Delete { service, at: now }).collect(), false)
            }
            Request::Scale { service, replicas } => {
                (vec![Command::Scale { service, replicas, at: now }], false)
            }
            Request::Undo { service, to } => {
                let to = to.map_or_else(|| self.newest_other_stable(&service), Ok)?;
                (vec![Command::Undo { service, to, at: now }], false)
            }
            Request::Restart { service } => (vec![self.restart_command(now, service)?], false),
        };
        let reply = self.try_out(&commands)?;
        if dry_run || commands.is_empty() {
            return Ok(Prepared::Answer(reply));
        }
        let named = reply.applied.into_iter().map(|applied| applied.service);
        Ok(Prepared::Write(named.zip(commands).collect()))
    }

    fn try_out(&self, commands: &[Command]) -> Result<Reply, RequestError> {
        let mut state = self.state.clone();
        let mut applied = Vec::new();
        let mut rejected = Vec::new();
        for command in commands {
            let service = target(command).clone();
            let previous = state.service(&service).cloned();
            let version = Version(state.version().0 + 1);
            match state.apply(version, command.clone()) {
                Ok((outcome, _)) => applied.push(applied_as(&state, service, outcome, previous)),
                Err(reason) => rejected.push(reason),
            }
        }
        if rejected.is_empty() { Ok(Reply { applied }) } else { Err(RequestError::Rejected(rejected)) }
    }

    fn apply_command(&self, now: Timestamp, declared: Declaration) -> Result<Command, RequestError> {
        let Declaration { service, labels, annotations, mut spec, expects } = declared;
        self.resolve_images(&service, &mut spec)?;
        if let Some(existing) = self.state.service(&service) {
            // A manifest knows nothing of restarts that were asked for; applying it again must not undo them.
            spec.template.restart_nonce = existing.spec.template.restart_nonce;
        }
        let hash = self.hash(&spec.template);
        Ok(Command::Apply(Apply { service, labels, annotations, spec, hash, expects, at: now }))
    }

    fn restart_command(&self, now: Timestamp, key: ServiceKey) -> Result<Command, RequestError> {
        let no_service = || RequestError::Rejected(vec![Rejected::NoService(key.clone())]);
        let service = self.state.service(&key).ok_or_else(no_service)?;
        let running = self.state.revision(&key, service.revision).map(|revision| &revision.template);
        let template = running.map_or_else(|| service.spec.template.clone(), |template| (**template).clone());
        let nonce = service.spec.template.restart_nonce.max(template.restart_nonce) + 1;
        let template = ReplicaTemplate { restart_nonce: nonce, ..template };
        let hash = self.hash(&template);
        let spec = ServiceSpec { template, ..service.spec.clone() };
        let (labels, annotations) = (service.labels.clone(), service.annotations.clone());
        Ok(Command::Apply(Apply { service: key, labels, annotations, spec, hash, expects: None, at: now }))
    }

    fn newest_other_stable(&self, key: &ServiceKey) -> Result<RevisionNumber, RequestError> {
        let running = self.state.service(key).map(|service| service.revision);
        let stable = |status: &RevisionStatus| *status == RevisionStatus::Stable;
        let found = self.state.revisions(key).rfind(|r| stable(&r.status) && Some(r.number) != running);
        match (running, found) {
            (None, _) => Err(RequestError::Rejected(vec![Rejected::NoService(key.clone())])),
            (Some(_), Some(revision)) => Ok(revision.number),
            (Some(_), None) => Err(RequestError::NothingToUndo { service: key.clone() }),
        }
    }

    fn hash(&self, template: &ReplicaTemplate) -> RevisionHash {
        RevisionHash(Sha256::digest(self.codec.encode_template(template)).into())
    }

    /// Every image becomes the digest that it means now, so that all replicas of a revision run the same bytes.
    fn resolve_images(&self, service: &ServiceKey, spec: &mut ServiceSpec) -> Result<(), RequestError> {
        for container in spec.template.containers_mut() {
            let reference = container.image.reference.clone();
            let found = self.find_image(&reference);
            if found.is_none() && !self.observed.nodes().any(|(id, _)| self.observed.is_ready(*id)) {
                return Err(RequestError::NoNodes { reference });
            }
            let (service, container_name) = (service.clone(), container.name.clone());
            container.image.digest = Some(found.ok_or(RequestError::UnknownImage {
                service,
                container: container_name,
                reference,
            })?);
        }
        Ok(())
    }

    fn find_image(&self, reference: &str) -> Option<Digest> {
        let images = || self.observed.nodes().flat_map(|(_, report)| report.images.iter());
        if let Some((_, pinned)) = reference.rsplit_once('@') {
            let digest: Digest = pinned.parse().ok()?;
            return images().any(|(_, known)| *known == digest).then_some(digest);
        }
        let normal = model::container::normal_reference(reference);
        images()
            .find(|(name, _)| model::container::normal_reference(name) == normal)
            .map(|(_, digest)| digest.clone())
    }

    fn asked(&self, service: &ServiceKey) -> Asked {
        Asked { service: service.clone(), previous: self.state.service(service).cloned() }
    }

    /// One command of a request was applied.
    pub(crate) fn answer(&mut self, ticket: Ticket, outcome: Result<Outcome, Rejected>) {
        let Some(batch) = self.leader.batches.get_mut(&ticket.request) else { return };
        batch.outcomes[ticket.index] = Some(outcome);
        if batch.outcomes.iter().any(Option::is_none) {
            return;
        }
        let Some(batch) = self.leader.batches.remove(&ticket.request) else { return };
        let mut applied = Vec::new();
        let mut rejected = Vec::new();
        for (asked, outcome) in batch.asked.into_iter().zip(batch.outcomes.into_iter().flatten()) {
            match outcome {
                Ok(outcome) => applied.push(applied_as(&self.state, asked.service, outcome, asked.previous)),
                Err(reason) => rejected.push(reason),
            }
        }
        let result =
            if rejected.is_empty() { Ok(Reply { applied }) } else { Err(RequestError::Rejected(rejected)) };
        self.effects.push(Effect::Reply { id: ticket.request, result });
    }
}

enum Prepared {
    Write(Vec<(ServiceKey, Command)>),
    /// Nothing to write: the answer is known.
    Answer(Reply),
}

fn applied_as(
    state: &store::State,
    service: ServiceKey,
    outcome: Outcome,
    previous: Option<Arc<Service>>,
) -> Applied {
    let current = state.service(&service).cloned();
    let generation = current.as_ref().map(|service| service.generation).unwrap_or_default();
    Applied { service, outcome, generation, previous, current }
}

/// The service that a user's command is about.
fn target(command: &Command) -> &ServiceKey {
    match command {
        Command::Apply(apply) => &apply.service,
        Command::Delete { service, .. } | Command::Scale { service, .. } | Command::Undo { service, .. } => {
            service
        }
        Command::Progress { service, .. } => service,
        Command::Register { .. } | Command::Place { .. } | Command::Record { .. } => {
            unreachable!("not a user's command")
        }
    }
}
