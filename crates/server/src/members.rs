//! The gRPC service about the servers themselves: who takes part, who leads, and changing that; what each of them
//! encrypts its disk with; and tokens, which are in `tokens`.

use std::sync::{Arc, Mutex, PoisonError};

use manager::{MemberError, MemberRequest, View};
use model::{ClusterId, Level, Member, MemberId};
use proto::{
    reason::refuse,
    v1::{self, Reason},
};
use tonic::{Request, Response, Status};

use crate::{
    access::{Gate, Passed},
    backups::{self, Parts},
    brain::Brain,
    chain::chain,
    control::refuse::{invalid, stopped},
    joins::nobody_joins,
    keys::Keys,
};

#[derive(Clone, Debug)]
pub(crate) struct Members {
    pub(crate) brain: Brain,
    pub(crate) cluster: ClusterId,
    /// This server, where it is one of several.
    pub(crate) own: Option<MemberId>,
    keys: Arc<Mutex<Keys>>,
    gate: Gate,
}

type Answer<T> = Result<Response<T>, Status>;

impl Members {
    pub(crate) fn new(
        brain: Brain,
        cluster: ClusterId,
        own: Option<MemberId>,
        keys: Keys,
        gate: Gate,
    ) -> Members {
        Members { brain, cluster, own, keys: Arc::new(Mutex::new(keys)), gate }
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

    async fn backup(&self, request: Request<v1::BackupRequest>) -> Answer<Parts> {
        let (_, write) = self.gate.write(request)?;
        write.begun(backups::backup(&self.brain, self.cluster).await)
    }

    async fn get_cluster(&self, request: Request<v1::GetClusterRequest>) -> Answer<v1::GetClusterResponse> {
        self.gate.read(request)?;
        Ok(Response::new(self.do_get_cluster()))
    }

    async fn add_member(&self, request: Request<v1::AddMemberRequest>) -> Answer<v1::AddMemberResponse> {
        let (asked, write) = self.gate.write(request)?;
        write.ended(self.do_add_member(asked).await)
    }

    async fn set_member_part(
        &self,
        request: Request<v1::SetMemberPartRequest>,
    ) -> Answer<v1::SetMemberPartResponse> {
        let (asked, write) = self.gate.write(request)?;
        write.ended(self.do_set_member_part(asked).await)
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Answer<v1::TransferLeaderResponse> {
        let (asked, write) = self.gate.write(request)?;
        let to = asked.to.map(MemberId);
        let changed = self.change(MemberRequest::Transfer { to }).await;
        write.ended(changed.map(|()| v1::TransferLeaderResponse {}))
    }

    async fn rotate_data_key(
        &self,
        request: Request<v1::RotateDataKeyRequest>,
    ) -> Answer<v1::RotateDataKeyResponse> {
        let (_, write) = self.gate.write(request)?;
        write.ended(self.do_rotate_data_key().await)
    }

    async fn get_settings(
        &self,
        request: Request<v1::GetSettingsRequest>,
    ) -> Answer<v1::GetSettingsResponse> {
        self.gate.read(request)?;
        self.do_get_settings().await.map(Response::new)
    }

    async fn change_settings(
        &self,
        request: Request<v1::ChangeSettingsRequest>,
    ) -> Answer<v1::ChangeSettingsResponse> {
        let (asked, write) = self.gate.write(request)?;
        write.ended(self.do_change_settings(asked).await)
    }

    async fn get_authority(
        &self,
        request: Request<v1::GetAuthorityRequest>,
    ) -> Answer<v1::GetAuthorityResponse> {
        self.gate.read(request)?;
        self.do_get_authority().await.map(Response::new)
    }

    async fn rotate_authority(
        &self,
        request: Request<v1::RotateAuthorityRequest>,
    ) -> Answer<v1::RotateAuthorityResponse> {
        let (_, write) = self.gate.write(request)?;
        write.ended(self.do_rotate_authority().await)
    }

    async fn abandon_rotation(
        &self,
        request: Request<v1::AbandonRotationRequest>,
    ) -> Answer<v1::AbandonRotationResponse> {
        let (_, write) = self.gate.write(request)?;
        write.ended(self.do_abandon_rotation().await)
    }

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Answer<v1::CreateJoinTokenResponse> {
        let (asked, write) = self.gate.write(request)?;
        write.ended(self.do_create_join_token(asked).await)
    }

    async fn list_join_tokens(
        &self,
        request: Request<v1::ListJoinTokensRequest>,
    ) -> Answer<v1::ListJoinTokensResponse> {
        self.gate.read(request)?;
        self.do_list_join_tokens().await.map(Response::new)
    }

    async fn revoke_join_token(
        &self,
        request: Request<v1::RevokeJoinTokenRequest>,
    ) -> Answer<v1::RevokeJoinTokenResponse> {
        let (asked, write) = self.gate.write(request)?;
        write.ended(self.do_revoke_join_token(asked).await)
    }

    async fn create_access_token(
        &self,
        request: Request<v1::CreateAccessTokenRequest>,
    ) -> Answer<v1::CreateAccessTokenResponse> {
        let (asked, write) = self.gate.write(request)?;
        write.ended(self.do_create_access_token(asked).await)
    }

    async fn list_access_tokens(
        &self,
        request: Request<v1::ListAccessTokensRequest>,
    ) -> Answer<v1::ListAccessTokensResponse> {
        self.gate.read(request)?;
        self.do_list_access_tokens().await.map(Response::new)
    }

    async fn revoke_access_token(
        &self,
        request: Request<v1::RevokeAccessTokenRequest>,
    ) -> Answer<v1::RevokeAccessTokenResponse> {
        let (asked, write) = self.gate.write(request)?;
        write.ended(self.do_revoke_access_token(asked).await)
    }
}

impl Members {
    fn do_get_cluster(&self) -> v1::GetClusterResponse {
        // What this server knows also tells why it knows no more: nobody is asked.
        let view = self.brain.newest();
        let members = view.state.members().map(|member| status(&view, member)).collect();
        v1::GetClusterResponse {
            cluster: self.cluster.0,
            server: self.own.map(|own| own.0),
            leader: view.leader,
            members,
            level: view.state.level().0,
        }
    }

    async fn do_add_member(
        &self,
        asked: Passed<v1::AddMemberRequest>,
    ) -> Result<v1::AddMemberResponse, Status> {
        let part = asked.part().try_into().map_err(invalid)?;
        let v1::AddMemberRequest { id, name, address, level, .. } = asked.into_inner();
        let name = name.parse().map_err(invalid)?;
        let (address, level) = (checked_address(address)?, Level::said(level));
        self.change(MemberRequest::Add { id: MemberId(id), name, address, part, level }).await?;
        Ok(v1::AddMemberResponse {})
    }

    async fn do_set_member_part(
        &self,
        asked: Passed<v1::SetMemberPartRequest>,
    ) -> Result<v1::SetMemberPartResponse, Status> {
        let part = asked.part().try_into().map_err(invalid)?;
        self.change(MemberRequest::SetPart { member: MemberId(asked.id), part }).await?;
        Ok(v1::SetMemberPartResponse {})
    }

    async fn do_rotate_data_key(&self) -> Result<v1::RotateDataKeyResponse, Status> {
        let keys = self.keys.clone();
        // It writes a file, and stretches a passphrase.
        let rotate = move || keys.lock().unwrap_or_else(PoisonError::into_inner).rotate();
        let rotated = tokio::task::spawn_blocking(rotate).await;
        let rotated = rotated.map_err(|error| Status::internal(error.to_string()))?;
        let key = rotated.map_err(|error| Status::internal(chain(&error)))?;
        Ok(v1::RotateDataKeyResponse { key: key.0 })
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
        level: view.levels.get(&member.id).map(|level| level.0),
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
        | MemberError::TooOld { .. }
        | MemberError::LastVoter { .. }
        | MemberError::WouldLoseQuorum { .. }
        | MemberError::NoVoter { .. }
        | MemberError::NoHeir
        | MemberError::HandoverUnderWay => Reason::Conflict,
    };
    refuse(reason, error.to_string())
}
