//! The gRPC service for hosts that have a token and nothing else yet.

use std::sync::Arc;

use manager::{MemberRequest, Request as Asked, RequestError};
use model::{
    ClusterId, ClusterTrust, HostRole, JoinToken, Level, MemberId, MemberPart, Millis, NodeId, Timestamp,
};
use proto::{
    reason::refuse,
    trust::read_belief,
    v1::{self, Reason},
};
use store::{Rejected, State, TrustChange};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};
use trust::{
    authority::{Authority, AuthorityError},
    certificate::NodeCertificate,
    identity::Identity,
    key::CertificateRequest,
    token::join::{JoinTokenText, redeem},
};

use crate::{
    brain::Brain,
    caller::Caller,
    clock,
    control::refuse::{invalid, request_error, stopped, unread},
    forward::check_leads,
    members::{checked_address, refusal},
    random, rotation,
};

/// How often a token is looked at again that was withdrawn or redeemed meanwhile, at another server.
const ATTEMPTS: usize = 20;

#[derive(Clone, Debug)]
pub(crate) struct Joins {
    brain: Brain,
    cluster: ClusterId,
    /// This server, where it is one of several.
    own: Option<MemberId>,
    /// Of the certificates that it signs.
    lifetime: Millis,
    /// Hosts that come together redeem their token one after the other: each changes what the next one has to read.
    turn: Arc<Mutex<()>>,
}

impl Joins {
    pub(crate) fn new(brain: Brain, cluster: ClusterId, own: Option<MemberId>, lifetime: Millis) -> Joins {
        Joins { brain, cluster, own, lifetime, turn: Arc::default() }
    }

    /// Whether the program on the host knows what the servers use. Agents may be older: nothing is placed on them that they
    /// do not know.
    async fn check_level(&self, role: HostRole, level: Level) -> Result<(), Status> {
        let in_use = self.brain.read().await.map_err(unread)?.state.level();
        match role {
            HostRole::Server if level < in_use => Err(refuse(
                Reason::Conflict,
                format!(
                    "this host's wharf knows {level}, and the servers of this cluster use {in_use} already: install their \
                     build here, or a newer one"
                ),
            )),
            HostRole::Server | HostRole::Agent => Ok(()),
        }
    }

    /// Counts one use of the token. Returns the state that it was redeemed in.
    async fn redeem(
        &self,
        presented: &JoinTokenText,
        role: HostRole,
        now: Timestamp,
    ) -> Result<State, Status> {
        let _turn = self.turn.lock().await;
        for _ in 0..ATTEMPTS {
            let state = self.brain.read().await.map_err(unread)?.state;
            check_knows_servers(&state)?;
            let known = state.join_token(presented.id()).map(|token| JoinToken::clone(token));
            let redeemed = redeem(known.as_ref(), presented, role, now)
                .map_err(|error| Status::permission_denied(error.to_string()))?;
            if known.as_ref() == Some(&redeemed) {
                return Ok(state);
            }
            let put = TrustChange::PutJoinToken { token: redeemed, replaces: known };
            match self.brain.request(Asked::Trust(put)).await.map_err(stopped)? {
                Ok(_) => return Ok(state),
                Err(RequestError::Rejected(why)) if matches!(why[..], [Rejected::TokenChanged(_)]) => {}
                Err(error) => return Err(request_error(error)),
            }
        }
        Err(refuse(Reason::Overloaded, "too many hosts join with this token at once; try again shortly"))
    }
}

#[tonic::async_trait]
impl v1::join_server::Join for Joins {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let role = request.get_ref().role().try_into().map_err(invalid)?;
        let v1::JoinRequest { token, certificate_request, level, .. } = request.into_inner();
        let presented = JoinTokenText::parse(&token).map_err(invalid)?;
        if presented.token.cluster != self.cluster {
            let theirs = presented.token.cluster;
            return Err(invalid(format!("the token is for cluster {theirs}, this is {}", self.cluster)));
        }
        let asked = CertificateRequest::from_der(&certificate_request).map_err(invalid)?;
        let now = clock::wall();
        self.check_level(role, Level::said(level)).await?;
        let state = self.redeem(&presented, role, now).await?;
        let node = NodeId(random().map_err(|error| Status::internal(error.to_string()))? | 1);
        let identity = Identity { cluster: self.cluster, role, node };
        let trust = state.trust().ok_or_else(nobody_joins)?;
        let certificate = sign(trust, &asked, identity, now, self.lifetime).map_err(cannot_sign)?;
        tracing::info!(%identity, token = %presented.id(), "a host joins");
        let members = state.members().filter(|member| member.part != MemberPart::Removed);
        Ok(Response::new(v1::JoinResponse {
            node: node.0,
            certificate: certificate.to_pem(),
            trust: trust.bundle.clone(),
            servers: members
                .map(|member| v1::join_response::Server { id: member.id.0, address: member.address.clone() })
                .collect(),
        }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let Caller::Node(identity) = Caller::of(request.extensions()) else {
            return Err(Status::unauthenticated("only hosts of this cluster have a certificate to renew"));
        };
        let asked =
            CertificateRequest::from_der(&request.into_inner().certificate_request).map_err(invalid)?;
        let state = self.brain.newest().state;
        check_belongs(&state, identity)?;
        let trust = state.trust().ok_or_else(|| {
            refuse(
                Reason::NoLeader,
                "the state has not arrived at this server yet; try again, or ask another",
            )
        })?;
        let certificate = sign(trust, &asked, identity, clock::wall(), self.lifetime).map_err(cannot_sign)?;
        tracing::info!(%identity, "a certificate is renewed");
        Ok(Response::new(v1::RenewResponse {
            certificate: certificate.to_pem(),
            trust: trust.bundle.clone(),
        }))
    }

    async fn announce(
        &self,
        request: Request<v1::AnnounceRequest>,
    ) -> Result<Response<v1::AnnounceResponse>, Status> {
        let id = MemberId(Caller::of(request.extensions()).member()?);
        check_leads(&self.brain, self.own)?;
        let v1::AnnounceRequest { name, address, believes, level } = request.into_inner();
        let (name, address) = (name.parse().map_err(invalid)?, checked_address(address)?);
        let known = self.brain.newest().state.member(id).cloned();
        if known.is_none_or(|known| known.name != name || known.address != address) {
            let level = Level::said(level);
            let asked = MemberRequest::Announce { id, name, address, level };
            self.brain.members(asked).await.map_err(stopped)?.map_err(refusal)?;
        }
        if let Some(belief) = believes {
            let (_, belief) = read_belief(belief).map_err(invalid)?;
            rotation::note(&self.brain, NodeId(id.0), belief).await?;
        }
        Ok(Response::new(v1::AnnounceResponse {}))
    }
}

/// Who joins is told where the servers are: a cluster that was founded a moment ago does not know that yet.
fn check_knows_servers(state: &State) -> Result<(), Status> {
    match state.members().next() {
        Some(_) => Ok(()),
        None => Err(refuse(
            Reason::NoLeader,
            "the first server has not taken its place in the cluster yet; try again",
        )),
    }
}

pub(crate) fn nobody_joins() -> Status {
    Status::failed_precondition(
        "this server is a cluster of its own host; `wharf cluster init` makes one that others can join",
    )
}

pub(crate) fn sign(
    trust: &ClusterTrust,
    request: &CertificateRequest,
    identity: Identity,
    now: Timestamp,
    lifetime: Millis,
) -> Result<NodeCertificate, AuthorityError> {
    Authority::decode(&trust.authority.0)?.sign(request, identity, now, lifetime)
}

fn cannot_sign(error: AuthorityError) -> Status {
    Status::internal(format!("the cluster's authority cannot sign: {error}"))
}

/// A certificate outlives the removal of its host; what it may still do is asked of the state.
fn check_belongs(state: &State, identity: Identity) -> Result<(), Status> {
    let was_removed = match identity.role {
        HostRole::Agent => state.node_removed_at(identity.node).is_some(),
        HostRole::Server => {
            let member = state.member(MemberId(identity.node.0));
            member.is_some_and(|member| member.part == MemberPart::Removed)
        }
    };
    match was_removed {
        false => Ok(()),
        true => Err(Status::permission_denied(format!("{identity} was removed from the cluster"))),
    }
}
