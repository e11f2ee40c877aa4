//! The gRPC service about the servers themselves: who takes part, who leads, and changing that; and what each of them
//! encrypts its disk with.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use manager::{MemberError, MemberRequest, View};
use model::{ClusterId, JoinToken, Member, MemberId, Millis, TokenId, Uses};
use proto::{
    reason::refuse,
    v1::{self, Reason},
};
use store::TrustChange;
use tonic::{Request, Response, Status};
use trust::{bundle::Trust, token::join};

use crate::{
    backups::{self, Parts},
    brain::Brain,
    chain::chain,
    clock,
    control::refuse::{invalid, not_found, request_error, stopped},
    joins::nobody_joins,
    keys::Keys,
};

#[derive(Clone, Debug)]
pub(crate) struct Members {
    brain: Brain,
    cluster: ClusterId,
    /// This server, where it is one of several.
    own: Option<MemberId>,
    keys: Arc<Mutex<Keys>>,
}

impl Members {
    pub(crate) fn new(brain: Brain, cluster: ClusterId, own: Option<MemberId>, keys: Keys) -> Members {
        Members { brain, cluster, own, keys: Arc::new(Mutex::new(keys)) }
    }

    async fn change_trust(&self, change: TrustChange) -> Result<(), Status> {
        let asked = self.brain.request(manager::Request::Trust(change)).await.map_err(stopped)?;
        asked.map(|_| ()).map_err(request_error)
    }

    async fn change(&self, request: MemberRequest) -> Result<(), Status> {
        if self.own.is_none() {
            return Err(nobody_joins());
        }
        self.brain.members(request).await.map_err(stopped)?.map_err(refusal)
    }
}

#[tonic::async_trait]
impl v1::cluster_server::Cluster for Members {
    type BackupStream = Parts;

    async fn backup(&self, _: Request<v1::BackupRequest>) -> Result<Response<Parts>, Status> {
        backups::backup(&self.brain, self.cluster).await.map(Response::new)
    }

    async fn get_cluster(
        &self,
        _: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::GetClusterResponse>, Status> {
        // What this server knows also tells why it knows no more: nobody is asked.
        let view = self.brain.newest();
        let members = view.state.members().map(|member| status(&view, member)).collect();
        Ok(Response::new(v1::GetClusterResponse {
            cluster: self.cluster.0,
            server: self.own.map(|own| own.0),
            leader: view.leader,
            members,
        }))
    }

    async fn add_member(
        &self,
        request: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::AddMemberResponse>, Status> {
        let part = request.get_ref().part().try_into().map_err(invalid)?;
        let v1::AddMemberRequest { id, name, address, .. } = request.into_inner();
        let name = name.parse().map_err(invalid)?;
        let address = checked_address(address)?;
        self.change(MemberRequest::Add { id: MemberId(id), name, address, part }).await?;
        Ok(Response::new(v1::AddMemberResponse {}))
    }

    async fn set_member_part(
        &self,
        request: Request<v1::SetMemberPartRequest>,
    ) -> Result<Response<v1::SetMemberPartResponse>, Status> {
        let part = request.get_ref().part().try_into().map_err(invalid)?;
        let member = MemberId(request.into_inner().id);
        self.change(MemberRequest::SetPart { member, part }).await?;
        Ok(Response::new(v1::SetMemberPartResponse {}))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        let to = request.into_inner().to.map(MemberId);
        self.change(MemberRequest::Transfer { to }).await?;
        Ok(Response::new(v1::TransferLeaderResponse {}))
    }

    async fn rotate_data_key(
        &self,
        _: Request<v1::RotateDataKeyRequest>,
    ) -> Result<Response<v1::RotateDataKeyResponse>, Status> {
        let keys = self.keys.clone();
        // It writes a file, and stretches a passphrase.
        let rotate = move || keys.lock().unwrap_or_else(PoisonError::into_inner).rotate();
        let rotated = tokio::task::spawn_blocking(rotate).await;
        let rotated = rotated.map_err(|error| Status::internal(error.to_string()))?;
        let key = rotated.map_err(|error| Status::internal(chain(&error)))?;
        Ok(Response::new(v1::RotateDataKeyResponse { key: key.0 }))
    }

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
        let role = request.get_ref().role().try_into().map_err(invalid)?;
        let v1::CreateJoinTokenRequest { expires_after_ms, uses, replaces_others, .. } = request.into_inner();
        let state = self.brain.read().await.map_err(stopped)?.state;
        let trust = state.trust().ok_or_else(nobody_joins)?;
        let bundle = Trust::from_pem(&trust.bundle).map_err(|error| Status::internal(error.to_string()))?;
        let expires_at = expires_after_ms.map(|after| clock::now() + Millis(after));
        let uses = uses.map_or(Uses::Unlimited, Uses::Left);
        let made = join::make(self.cluster, bundle.signer().pin(), role, expires_at, uses);
        let (text, token) = made.map_err(|error| Status::internal(error.to_string()))?;
        self.change_trust(TrustChange::PutJoinToken { token, replaces: None }).await?;
        if replaces_others {
            let others = state.join_tokens().filter(|token| token.role == role);
            for id in others.map(|token| token.id).collect::<Vec<_>>() {
                self.change_trust(TrustChange::RemoveJoinToken { id }).await?;
            }
        }
        Ok(Response::new(v1::CreateJoinTokenResponse { id: text.id().0, token: text.reveal().to_string() }))
    }

    async fn list_join_tokens(
        &self,
        _: Request<v1::ListJoinTokensRequest>,
    ) -> Result<Response<v1::ListJoinTokensResponse>, Status> {
        let state = self.brain.read().await.map_err(stopped)?.state;
        let shown = |token: &Arc<JoinToken>| v1::JoinToken {
            secret_hash: Bytes::new(),
            ..v1::JoinToken::from(&**token)
        };
        Ok(Response::new(v1::ListJoinTokensResponse { tokens: state.join_tokens().map(shown).collect() }))
    }

    async fn revoke_join_token(
        &self,
        request: Request<v1::RevokeJoinTokenRequest>,
    ) -> Result<Response<v1::RevokeJoinTokenResponse>, Status> {
        let id = TokenId(request.into_inner().id);
        let state = self.brain.read().await.map_err(stopped)?.state;
        if state.join_token(id).is_none() {
            return Err(not_found(format!(
                "there is no join token {id}; `wharf cluster token ls` lists them"
            )));
        }
        self.change_trust(TrustChange::RemoveJoinToken { id }).await?;
        Ok(Response::new(v1::RevokeJoinTokenResponse {}))
    }
}

pub(crate) fn checked_address(text: String) -> Result<String, Status> {
    match dial::is_address(&text) {
        true => Ok(text),
        false => Err(invalid(format!("{text:?} is no address: expected one such as 10.0.0.1:7400"))),
    }
}

fn status(view: &View, member: &Member) -> v1::MemberStatus {
    let is_in = |members: &[u64]| members.contains(&member.id.0);
    let membership = &view.membership;
    let now = if is_in(&membership.voters) || is_in(&membership.voters_outgoing) {
        Some(v1::MemberPart::Voter)
    } else if is_in(&membership.learners) || is_in(&membership.learners_next) {
        Some(v1::MemberPart::Learner)
    } else {
        None
    };
    v1::MemberStatus {
        member: Some(member.into()),
        now: now.map(Into::into),
        waiting: view.members_waiting.get(&member.id).map(ToString::to_string),
    }
}

pub(crate) fn refusal(error: MemberError) -> Status {
    let reason = match &error {
        MemberError::NotLeader { .. } => Reason::NoLeader,
        MemberError::LeadershipLost | MemberError::NotHandedOver { .. } => Reason::OutcomeUnknown,
        MemberError::Unknown { .. } => Reason::NotFound,
        MemberError::Overloaded => Reason::Overloaded,
        MemberError::WasRemoved { .. }
        | MemberError::IdTaken { .. }
        | MemberError::NameTaken { .. }
        | MemberError::AddressTaken { .. }
        | MemberError::LastVoter { .. }
        | MemberError::WouldLoseQuorum { .. }
        | MemberError::NoVoter { .. }
        | MemberError::NoHeir
        | MemberError::HandoverUnderWay => Reason::Conflict,
    };
    refuse(reason, error.to_string())
}
