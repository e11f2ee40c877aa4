//! What users change: apply, delete, scale, undo, restart.

use std::{collections::BTreeSet, sync::Arc};

use manager::{Applied, Declaration, Reply, Request};
use model::{RevisionNumber, Service, ServiceKey, Version};
use proto::v1;
use store::Outcome;
use tonic::Status;

use super::{
    Control,
    refuse::{invalid, request_error, stopped},
};
use crate::access::Passed;

/// What a manifest can say, too.
const MAX_REPLICAS: u32 = 10_000;

impl Control {
    pub(super) async fn do_apply(
        &self,
        asked: Passed<v1::ApplyRequest>,
    ) -> Result<v1::ApplyResponse, Status> {
        let request = asked.into_inner();
        let declarations =
            request.services.into_iter().map(read_declaration).collect::<Result<Vec<_>, _>>()?;
        let mut named = BTreeSet::new();
        if let Some(twice) = declarations.iter().find(|declared| !named.insert(&declared.service)) {
            return Err(invalid(format!("service {} is declared twice", twice.service)));
        }
        let reply = self.request(Request::Apply { declarations, dry_run: request.dry_run }).await?;
        let answer =
            |applied| apply_result(applied, if request.brief { Answer::Brief } else { Answer::Full });
        Ok(v1::ApplyResponse { results: reply.applied.into_iter().map(answer).collect() })
    }

    pub(super) async fn do_delete(
        &self,
        asked: Passed<v1::DeleteRequest>,
    ) -> Result<v1::DeleteResponse, Status> {
        let request = asked.into_inner();
        let services =
            request.services.into_iter().map(TryInto::try_into).collect::<Result<_, _>>().map_err(invalid)?;
        self.request(Request::Delete { services }).await?;
        Ok(v1::DeleteResponse {})
    }

    pub(super) async fn do_scale(
        &self,
        asked: Passed<v1::ScaleRequest>,
    ) -> Result<v1::ScaleResponse, Status> {
        let request = asked.into_inner();
        let service = read_key(request.service)?;
        let replicas = request.replicas;
        if replicas > MAX_REPLICAS {
            let message = format!("service {service}: {replicas} replicas are more than {MAX_REPLICAS}");
            return Err(invalid(message));
        }
        let applied = self.request_one(Request::Scale { service, replicas }).await?;
        Ok(v1::ScaleResponse {
            generation: applied.generation.0,
            revision: revision(&applied),
            previous_replicas: applied.previous.map_or(0, |service| service.spec.replicas),
        })
    }

    pub(super) async fn do_undo(&self, asked: Passed<v1::UndoRequest>) -> Result<v1::UndoResponse, Status> {
        let request = asked.into_inner();
        let service = read_key(request.service)?;
        let to = request.to_revision.map(RevisionNumber);
        let applied = self.request_one(Request::Undo { service, to }).await?;
        Ok(v1::UndoResponse { generation: applied.generation.0, revision: revision(&applied) })
    }

    pub(super) async fn do_restart(
        &self,
        asked: Passed<v1::RestartRequest>,
    ) -> Result<v1::RestartResponse, Status> {
        let service = read_key(asked.into_inner().service)?;
        let applied = self.request_one(Request::Restart { service }).await?;
        Ok(v1::RestartResponse { generation: applied.generation.0, revision: revision(&applied) })
    }

    pub(super) async fn request(&self, request: Request) -> Result<Reply, Status> {
        self.brain.request(request).await.map_err(stopped)?.map_err(request_error)
    }

    async fn request_one(&self, request: Request) -> Result<Applied, Status> {
        let reply = self.request(request).await?;
        reply
            .applied
            .into_iter()
            .next()
            .ok_or_else(|| Status::internal("the request was answered with nothing"))
    }
}

pub(super) fn read_key(key: Option<v1::ServiceKey>) -> Result<ServiceKey, Status> {
    key.ok_or_else(|| invalid("no service is named"))?.try_into().map_err(invalid)
}

/// A declaration holds what a manifest can say: a client that makes its own specs is held to the same rules.
fn read_declaration(declared: v1::ServiceDeclaration) -> Result<Declaration, Status> {
    let service = read_key(declared.service)?;
    let of_service = |error: &dyn std::fmt::Display| invalid(format!("service {service}: {error}"));
    let spec = declared.spec.ok_or_else(|| of_service(&"the declaration has no spec"))?;
    let spec = spec.try_into().map_err(|error: proto::DecodeError| of_service(&error))?;
    let declaration = Declaration {
        service: service.clone(),
        labels: declared.labels.into_iter().collect(),
        annotations: declared.annotations.into_iter().collect(),
        spec,
        expects: declared.expects_version.map(Version),
    };
    let Declaration { service: key, labels, annotations, spec, .. } = &declaration;
    manifest::check(manifest::Declared { key, labels, annotations, spec }).map_err(invalid)?;
    Ok(declaration)
}

/// How much is told of what was applied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Full,
    /// Not the service itself, neither as it was nor as it is.
    Brief,
}

fn apply_result(applied: Applied, answer: Answer) -> v1::ApplyResult {
    use v1::apply_result::Outcome as Wire;
    let (outcome, rollout) = match applied.outcome {
        Outcome::Created { .. } => (Wire::Created, true),
        Outcome::Changed { rollout, .. } => (Wire::Changed, rollout),
        Outcome::Unchanged { .. } => (Wire::Unchanged, false),
        Outcome::Deleted | Outcome::Done => (Wire::Unspecified, false),
    };
    let told = |service: &Option<Arc<Service>>| service.clone().filter(|_| answer == Answer::Full);
    v1::ApplyResult {
        service: Some(v1::ServiceKey::from(&applied.service)),
        outcome: outcome.into(),
        generation: applied.generation.0,
        revision: revision(&applied),
        rollout,
        previous: told(&applied.previous).as_deref().map(v1::Service::from),
        resolved: told(&applied.current).map(|service| v1::ServiceSpec::from(&service.spec)),
    }
}

fn revision(applied: &Applied) -> u64 {
    match applied.outcome {
        Outcome::Created { revision }
        | Outcome::Changed { revision, .. }
        | Outcome::Unchanged { revision } => revision.0,
        Outcome::Deleted | Outcome::Done => 0,
    }
}
