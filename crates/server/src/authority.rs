//! What users ask of how the cluster is run: its settings, its authority, and another one in its place.

use manager::Request;
use model::{ClusterTrust, MemberId, Millis, NodeId, Settings};
use proto::{
    reason::refuse,
    v1::{self, Reason},
};
use store::{State, TrustChange};
use tonic::Status;
use trust::{
    bundle::{Stage, Trust},
    certificate::AuthorityCertificate,
};

use crate::{
    access::Passed,
    chain::chain,
    clock,
    control::refuse::{invalid, request_error, stopped},
    joins::nobody_joins,
    members::Members,
    rotation::{self, StepError},
};

impl Members {
    pub(crate) async fn do_get_settings(&self) -> Result<v1::GetSettingsResponse, Status> {
        Ok(v1::GetSettingsResponse { settings: Some(self.state().await?.settings().into()) })
    }

    pub(crate) async fn do_change_settings(
        &self,
        asked: Passed<v1::ChangeSettingsRequest>,
    ) -> Result<v1::ChangeSettingsResponse, Status> {
        if let Some(after) = asked.node_lost_after_ms.map(Millis) {
            let allowed = Settings::SHORTEST_LOSS..=Settings::LONGEST_LOSS;
            if !allowed.contains(&after) {
                let (shortest, longest) = allowed.into_inner();
                return Err(invalid(format!(
                    "a node cannot be lost after {after}: it has to be between {shortest} and {longest}"
                )));
            }
            let asked = Request::Configure { node_lost_after: after };
            self.brain.request(asked).await.map_err(stopped)?.map_err(request_error)?;
        }
        Ok(v1::ChangeSettingsResponse {})
    }

    pub(crate) async fn do_get_authority(&self) -> Result<v1::GetAuthorityResponse, Status> {
        let state = self.state().await?;
        let known = state.trust().ok_or_else(nobody_joins)?;
        let bundle = Trust::from_pem(&known.bundle).map_err(|error| Status::internal(chain(&error)))?;
        let rotation = |new_one_signs, other: &AuthorityCertificate| v1::AuthorityRotation {
            new_one_signs,
            other_pin: other.pin().to_string(),
            waits_for: rotation::waits_for(&state, known, &bundle)
                .into_iter()
                .map(|id| host(&state, id))
                .collect(),
        };
        Ok(v1::GetAuthorityResponse {
            pin: bundle.signer().pin().to_string(),
            expires_at_unix_ms: bundle.signer().validity().not_after.0,
            generation: bundle.generation(),
            rotation: match bundle.stage() {
                Stage::Settled { .. } => None,
                Stage::Introduced { next, .. } => Some(rotation(false, next)),
                Stage::Switched { old, .. } => Some(rotation(true, old)),
            },
        })
    }

    pub(crate) async fn do_rotate_authority(&self) -> Result<v1::RotateAuthorityResponse, Status> {
        self.rotate(|known| rotation::begin(known, self.cluster, clock::wall())).await?;
        Ok(v1::RotateAuthorityResponse {})
    }

    pub(crate) async fn do_abandon_rotation(&self) -> Result<v1::AbandonRotationResponse, Status> {
        self.rotate(rotation::abandon).await?;
        Ok(v1::AbandonRotationResponse {})
    }

    async fn rotate(
        &self,
        step: impl FnOnce(&ClusterTrust) -> Result<TrustChange, StepError>,
    ) -> Result<(), Status> {
        let state = self.state().await?;
        let step = step(state.trust().ok_or_else(nobody_joins)?);
        let step = step.map_err(|error| match error {
            StepError::Rotation(error) => refuse(Reason::Conflict, error.to_string()),
            error => Status::internal(chain(&error)),
        })?;
        self.change_trust(step).await
    }
}

/// A server or a node, as people call it.
fn host(state: &State, id: NodeId) -> String {
    match (state.member(MemberId(id.0)), state.node(id)) {
        (Some(member), _) => format!("server {}", member.name),
        (None, Some(node)) if node.down.is_some() => format!("node {} (down)", node.info.name),
        (None, Some(node)) => format!("node {}", node.info.name),
        (None, None) => id.to_string(),
    }
}
