//! What users change: apply, delete, scale, undo, restart.

use manager::{Applied, Declaration, Reply, Request};
use model::{RevisionNumber, ServiceKey, Version};
use proto::v1;
use store::Outcome;
use tonic::Status;

use super::{
    Control,
    refuse::{invalid, request_error, stopped},
};

impl Control {
    pub(super) async fn do_apply(&self, request: v1::ApplyRequest) -> Result<v1::ApplyResponse, Status> {
        let declarations =
            request.services.into_iter().map(read_declaration).collect::<Result<Vec<_>, _>>()?;
        let specs: Vec<_> = declarations.iter().map(|declared| declared.spec.clone()).collect();
        let reply = self.request(Request::Apply { declarations, dry_run: request.dry_run }).await?;
        let results = reply.applied.into_iter().zip(specs).map(|(applied, spec)| apply_result(applied, spec));
        Ok(v1::ApplyResponse { results: results.collect() })
    }

    pub(super) async fn do_delete(&self, request: v1::DeleteRequest) -> Result<v1::DeleteResponse, Status> {
        let services =
            request.services.into_iter().map(TryInto::try_into).collect::<Result<_, _>>().map_err(invalid)?;
        self.request(Request::Delete { services }).await?;
        Ok(v1::DeleteResponse {})
    }

    pub(super) async fn do_scale(&self, request: v1::ScaleRequest) -> Result<v1::ScaleResponse, Status> {
        let service = read_key(request.service)?;
        let applied = self.request_one(Request::Scale { service, replicas: request.replicas }).await?;
        Ok(v1::ScaleResponse {
            generation: applied.generation.0,
            revision: revision(&applied),
            previous_replicas: applied.previous.map_or(0, |service| service.spec.replicas),
        })
    }

    pub(super) async fn do_undo(&self, request: v1::UndoRequest) -> Result<v1::UndoResponse, Status> {
        let service = read_key(request.service)?;
        let to = request.to_revision.map(RevisionNumber);
        let applied = self.request_one(Request::Undo { service, to }).await?;
        Ok(v1::UndoResponse { generation: applied.generation.0, revision: revision(&applied) })
    }

    pub(super) async fn do_restart(
        &self,
        request: v1::RestartRequest,
    ) -> Result<v1::RestartResponse, Status> {
        let service = read_key(request.service)?;
        let applied = self.request_one(Request::Restart { service }).await?;
        Ok(v1::RestartResponse { generation: applied.generation.0, revision: revision(&applied) })
    }

    async fn request(&self, request: Request) -> Result<Reply, Status> {
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
    let spec = declared.spec.ok_or_else(|| invalid("a declaration has no spec"))?;
    let declaration = Declaration {
        service: read_key(declared.service)?,
        labels: declared.labels.into_iter().collect(),
        annotations: declared.annotations.into_iter().collect(),
        spec: spec.try_into().map_err(invalid)?,
        expects: declared.expects_version.map(Version),
    };
    let Declaration { service: key, labels, annotations, spec, .. } = &declaration;
    manifest::check(manifest::Declared { key, labels, annotations, spec }).map_err(invalid)?;
    Ok(declaration)
}

fn apply_result(applied: Applied, declared: model::ServiceSpec) -> v1::ApplyResult {
    use v1::apply_result::Outcome as Wire;
    let (outcome, rollout) = match applied.outcome {
        Outcome::Created { .. } => (Wire::Created, true),
        Outcome::Changed { rollout, .. } => (Wire::Changed, rollout),
        Outcome::Unchanged { .. } => (Wire::Unchanged, false),
        Outcome::Deleted | Outcome::Done => (Wire::Unspecified, false),
    };
    let resolved = applied.current.as_ref().map_or(&declared, |service| &service.spec);
    v1::ApplyResult {
        service: Some(v1::ServiceKey::from(&applied.service)),
        outcome: outcome.into(),
        generation: applied.generation.0,
        revision: revision(&applied),
        rollout,
        previous: applied.previous.as_deref().map(v1::Service::from),
        resolved: Some(v1::ServiceSpec::from(resolved)),
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
