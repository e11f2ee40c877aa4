//! What hosts join with, and what people and CI jobs work with: made, listed, withdrawn.
//!
//! The token itself is in the answer to whoever makes it and nowhere else; the state keeps what recognises it.

use std::sync::Arc;

use bytes::Bytes;
use model::{AccessToken, Grant, JoinToken, MemberPart, Millis, Name, Scope, Timestamp, TokenId, Uses};
use proto::{
    reason::refuse,
    v1::{self, Reason},
};
use store::{State, TrustChange};
use tonic::Status;
use trust::{
    bundle::Trust,
    certificate::Pin,
    token::{
        access::{self, Wanted},
        join,
    },
};

use crate::{
    access::Passed,
    clock,
    control::refuse::{invalid, not_found, request_error, stopped, unread},
    joins::nobody_joins,
    members::{Members, checked_address},
};

/// More would not help whoever has the token, and it is one word.
const MAX_ADDRESSES: usize = 16;
/// Each is looked at with every request that the token is shown with.
const MAX_NAMESPACES: usize = 256;

impl Members {
    pub(crate) async fn change_trust(&self, change: TrustChange) -> Result<(), Status> {
        let asked = self.brain.request(manager::Request::Trust(change)).await.map_err(stopped)?;
        asked.map(|_| ()).map_err(request_error)
    }

    pub(crate) async fn state(&self) -> Result<State, Status> {
        Ok(self.brain.read().await.map_err(unread)?.state)
    }

    /// Whom those believe who have the token. A cluster that was founded a moment ago does not know it yet.
    fn signer(&self, state: &State) -> Result<Pin, Status> {
        let unknown = || match self.own {
            Some(_) => refuse(Reason::NoLeader, "the cluster's authority is not in its state yet; try again"),
            None => nobody_joins(),
        };
        let trust = state.trust().ok_or_else(unknown)?;
        let bundle = Trust::from_pem(&trust.bundle).map_err(|error| Status::internal(error.to_string()))?;
        Ok(bundle.signer().pin())
    }

    pub(crate) async fn do_create_join_token(
        &self,
        asked: Passed<v1::CreateJoinTokenRequest>,
    ) -> Result<v1::CreateJoinTokenResponse, Status> {
        let role = asked.role().try_into().map_err(invalid)?;
        let v1::CreateJoinTokenRequest { expires_after_ms, uses, replaces_others, .. } = asked.into_inner();
        let state = self.state().await?;
        let pin = self.signer(&state)?;
        let expires_at = expires_after_ms.map(|after| later(clock::wall(), after));
        let uses = uses.map_or(Uses::Unlimited, Uses::Left);
        let made = join::make(self.cluster, pin, role, expires_at, uses);
        let (text, token) = made.map_err(|error| Status::internal(error.to_string()))?;
        self.change_trust(TrustChange::PutJoinToken { token, replaces: None }).await?;
        if replaces_others {
            let others = state.join_tokens().filter(|token| token.role == role);
            for id in others.map(|token| token.id).collect::<Vec<_>>() {
                self.change_trust(TrustChange::RemoveJoinToken { id }).await?;
            }
        }
        Ok(v1::CreateJoinTokenResponse { id: text.id().0, token: text.reveal().to_string() })
    }

    pub(crate) async fn do_list_join_tokens(&self) -> Result<v1::ListJoinTokensResponse, Status> {
        let state = self.state().await?;
        let shown = |token: &Arc<JoinToken>| v1::JoinToken {
            secret_hash: Bytes::new(),
            ..v1::JoinToken::from(&**token)
        };
        Ok(v1::ListJoinTokensResponse { tokens: state.join_tokens().map(shown).collect() })
    }

    pub(crate) async fn do_revoke_join_token(
        &self,
        asked: Passed<v1::RevokeJoinTokenRequest>,
    ) -> Result<v1::RevokeJoinTokenResponse, Status> {
        let id = TokenId(asked.id);
        if self.state().await?.join_token(id).is_none() {
            return Err(not_found(format!(
                "there is no join token {id}; `wharf cluster token ls` lists them"
            )));
        }
        self.change_trust(TrustChange::RemoveJoinToken { id }).await?;
        Ok(v1::RevokeJoinTokenResponse {})
    }

    pub(crate) async fn do_create_access_token(
        &self,
        asked: Passed<v1::CreateAccessTokenRequest>,
    ) -> Result<v1::CreateAccessTokenResponse, Status> {
        let role = asked.role().try_into().map_err(invalid)?;
        let v1::CreateAccessTokenRequest { name, namespaces, expires_after_ms, addresses, .. } =
            asked.into_inner();
        let name = Name::new(&name).map_err(|error| invalid(format!("the token's name: {error}")))?;
        let scope = proto::trust::scope(namespaces).map_err(invalid)?;
        if matches!(&scope, Scope::Namespaces(names) if names.is_empty()) {
            return Err(invalid("a token for no namespace is for nothing; name some, or leave them out"));
        }
        if let Scope::Namespaces(names) = &scope
            && names.len() > MAX_NAMESPACES
        {
            let count = names.len();
            return Err(invalid(format!(
                "a token for {count} namespaces names more than the {MAX_NAMESPACES} that it may: make several, or one \
                 for all namespaces"
            )));
        }
        let addresses = addresses.into_iter().map(checked_address).collect::<Result<Vec<_>, _>>()?;
        if addresses.len() > MAX_ADDRESSES {
            return Err(invalid(format!("a token has at most {MAX_ADDRESSES} addresses")));
        }
        let state = self.state().await?;
        let pin = self.signer(&state)?;
        let created_at = clock::wall();
        let wanted = Wanted {
            name,
            grant: Grant { role, scope },
            created_at,
            expires_at: expires_after_ms.map(|after| later(created_at, after)),
            addresses: if addresses.is_empty() { known_addresses(&state) } else { addresses },
        };
        let made = access::make(self.cluster, pin, wanted);
        let (text, token) = made.map_err(|error| Status::internal(error.to_string()))?;
        self.change_trust(TrustChange::PutAccessToken { token }).await?;
        Ok(v1::CreateAccessTokenResponse { id: text.id().0, token: text.reveal().to_string() })
    }

    pub(crate) async fn do_list_access_tokens(&self) -> Result<v1::ListAccessTokensResponse, Status> {
        let state = self.state().await?;
        let mut tokens: Vec<&Arc<AccessToken>> = state.access_tokens().collect();
        tokens.sort_by_key(|token| (&token.name, token.id));
        let shown = |token: &Arc<AccessToken>| v1::AccessToken {
            secret_hash: Bytes::new(),
            ..v1::AccessToken::from(&**token)
        };
        Ok(v1::ListAccessTokensResponse { tokens: tokens.into_iter().map(shown).collect() })
    }

    pub(crate) async fn do_revoke_access_token(
        &self,
        asked: Passed<v1::RevokeAccessTokenRequest>,
    ) -> Result<v1::RevokeAccessTokenResponse, Status> {
        let state = self.state().await?;
        let named = asked.token.as_str();
        // An id has the form of a name, too; names go first, since nobody types ids.
        let by_name = state.access_tokens().find(|token| token.name.as_str() == named);
        let found = by_name.or_else(|| state.access_token(named.parse().ok()?));
        // What was typed may be the token itself: it is not said again.
        let missing =
            || not_found("there is no access token of this name or id; `wharf token ls` lists them");
        let AccessToken { id, name, .. } = &**found.ok_or_else(missing)?;
        self.change_trust(TrustChange::RemoveAccessToken { id: *id }).await?;
        Ok(v1::RevokeAccessTokenResponse { id: id.0, name: name.to_string() })
    }
}

fn later(now: Timestamp, after_ms: u64) -> Timestamp {
    Timestamp(now.0.saturating_add(Millis(after_ms).0))
}

/// Where the servers reach each other.
fn known_addresses(state: &State) -> Vec<String> {
    let members = state.members().filter(|member| member.part != MemberPart::Removed);
    members.map(|member| member.address.clone()).take(MAX_ADDRESSES).collect()
}
