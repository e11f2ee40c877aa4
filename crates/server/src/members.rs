//! The gRPC service about the servers themselves: who takes part, who leads, and changing that; and what each of them
//! encrypts its disk with.

use std::sync::{Arc, Mutex, PoisonError};

use manager::{MemberError, MemberRequest, View};
use model::{ClusterId, Member, MemberId};
use proto::{
    reason::refuse,
    v1::{self, Reason},
};
use tonic::{Request, Response, Status};

use crate::{
    brain::Brain,
    chain::chain,
    control::refuse::{invalid, stopped},
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

    async fn change(&self, request: MemberRequest) -> Result<(), Status> {
        if self.own.is_none() {
            return Err(Status::failed_precondition(
                "this server is a cluster of its own host; `wharf cluster init` makes one that others can join",
            ));
        }
        self.brain.members(request).await.map_err(stopped)?.map_err(refusal)
    }
}

#[tonic::async_trait]
impl v1::cluster_server::Cluster for Members {
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
        if !is_address(&address) {
            return Err(invalid(format!("{address:?} is no address: expected one such as 10.0.0.1:7400")));
        }
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
}

/// A host, by its name or number, and a port.
fn is_address(text: &str) -> bool {
    let split = text.rsplit_once(':');
    split.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
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

fn refusal(error: MemberError) -> Status {
    let reason = match &error {
        MemberError::NotLeader { .. } | MemberError::LeadershipLost | MemberError::NotHandedOver { .. } => {
            Reason::NoLeader
        }
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
