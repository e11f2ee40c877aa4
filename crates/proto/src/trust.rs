//! What hosts know each other by, as the log and snapshots hold it.

use model::{
    AccessToken, ClusterTrust, Grant, JoinToken, Name, Scope, SecretHash, SecretText, Timestamp, TokenId,
    Uses,
};
use store::TrustChange;

use crate::{
    error::{DecodeError, Problem, Within},
    field::{self, same_variants},
    v1,
};

same_variants! {
    HostRole { Server, Agent }
    AccessRole { Viewer, Deployer, Admin }
}

impl From<&ClusterTrust> for v1::ClusterTrust {
    fn from(trust: &ClusterTrust) -> Self {
        v1::ClusterTrust { bundle: trust.bundle.clone(), authority: trust.authority.0.clone() }
    }
}

impl From<v1::ClusterTrust> for ClusterTrust {
    fn from(wire: v1::ClusterTrust) -> Self {
        ClusterTrust { bundle: wire.bundle, authority: SecretText(wire.authority) }
    }
}

impl From<&JoinToken> for v1::JoinToken {
    fn from(token: &JoinToken) -> Self {
        v1::JoinToken {
            id: token.id.0,
            secret_hash: token.secret.0.to_vec().into(),
            role: v1::HostRole::from(token.role).into(),
            expires_at_unix_ms: token.expires_at.map(|at| at.0),
            uses_left: match token.uses {
                Uses::Unlimited => None,
                Uses::Left(left) => Some(left),
            },
        }
    }
}

impl TryFrom<v1::JoinToken> for JoinToken {
    type Error = DecodeError;
    fn try_from(wire: v1::JoinToken) -> Result<Self, DecodeError> {
        Ok(JoinToken {
            id: TokenId(wire.id),
            secret: secret_hash(&wire.secret_hash)?,
            role: field::value::<v1::HostRole, _>(wire.role, "role")?,
            expires_at: wire.expires_at_unix_ms.map(Timestamp),
            uses: wire.uses_left.map_or(Uses::Unlimited, Uses::Left),
        })
    }
}

fn secret_hash(bytes: &[u8]) -> Result<SecretHash, DecodeError> {
    let length = |_| Problem::Length { found: bytes.len(), expected: 32 };
    bytes.try_into().map(SecretHash).map_err(length).within("secret_hash")
}

impl From<&AccessToken> for v1::AccessToken {
    fn from(token: &AccessToken) -> Self {
        v1::AccessToken {
            id: token.id.0,
            secret_hash: token.secret.0.to_vec().into(),
            name: token.name.to_string(),
            role: v1::AccessRole::from(token.grant.role).into(),
            namespaces: namespaces(&token.grant.scope),
            expires_at_unix_ms: token.expires_at.map(|at| at.0),
            created_at_unix_ms: token.created_at.0,
        }
    }
}

impl TryFrom<v1::AccessToken> for AccessToken {
    type Error = DecodeError;
    fn try_from(wire: v1::AccessToken) -> Result<Self, DecodeError> {
        Ok(AccessToken {
            id: TokenId(wire.id),
            secret: secret_hash(&wire.secret_hash)?,
            name: field::parsed(&wire.name, "name")?,
            grant: Grant {
                role: field::value::<v1::AccessRole, _>(wire.role, "role")?,
                scope: scope(wire.namespaces).within("namespaces")?,
            },
            expires_at: wire.expires_at_unix_ms.map(Timestamp),
            created_at: Timestamp(wire.created_at_unix_ms),
        })
    }
}

/// Absent for everywhere.
pub fn namespaces(scope: &Scope) -> Option<v1::access_token::Namespaces> {
    match scope {
        Scope::Everywhere => None,
        Scope::Namespaces(names) => {
            Some(v1::access_token::Namespaces { names: names.iter().map(Name::to_string).collect() })
        }
    }
}

pub fn scope(wire: Option<v1::access_token::Namespaces>) -> Result<Scope, DecodeError> {
    let Some(wire) = wire else { return Ok(Scope::Everywhere) };
    let names = wire.names.iter().map(|name| field::parsed(name, "names"));
    names.collect::<Result<_, _>>().map(Scope::Namespaces)
}

impl From<&TrustChange> for v1::TrustChange {
    fn from(change: &TrustChange) -> Self {
        use v1::trust_change::{
            Found, Kind, PutAccessToken, PutJoinToken, RemoveAccessToken, RemoveJoinToken,
        };
        let kind = match change {
            TrustChange::Found { trust, tokens } => Kind::Found(Found {
                trust: Some(trust.into()),
                tokens: tokens.iter().map(Into::into).collect(),
            }),
            TrustChange::PutJoinToken { token, replaces } => Kind::PutJoinToken(PutJoinToken {
                token: Some(token.into()),
                replaces: replaces.as_ref().map(Into::into),
            }),
            TrustChange::RemoveJoinToken { id } => Kind::RemoveJoinToken(RemoveJoinToken { id: id.0 }),
            TrustChange::PutAccessToken { token } => {
                Kind::PutAccessToken(PutAccessToken { token: Some(token.into()) })
            }
            TrustChange::RemoveAccessToken { id } => Kind::RemoveAccessToken(RemoveAccessToken { id: id.0 }),
        };
        v1::TrustChange { kind: Some(kind) }
    }
}

impl TryFrom<v1::TrustChange> for TrustChange {
    type Error = DecodeError;
    fn try_from(wire: v1::TrustChange) -> Result<Self, DecodeError> {
        use v1::trust_change::Kind;
        Ok(match field::kind(wire.kind, "kind")? {
            Kind::Found(found) => TrustChange::Found {
                trust: field::kind(found.trust, "found.trust")?.into(),
                tokens: field::list(found.tokens, "found.tokens")?,
            },
            Kind::PutJoinToken(put) => TrustChange::PutJoinToken {
                token: field::required(put.token, "put_join_token.token")?,
                replaces: put
                    .replaces
                    .map(TryInto::try_into)
                    .transpose()
                    .within("put_join_token.replaces")?,
            },
            Kind::RemoveJoinToken(remove) => TrustChange::RemoveJoinToken { id: TokenId(remove.id) },
            Kind::PutAccessToken(put) => {
                TrustChange::PutAccessToken { token: field::required(put.token, "put_access_token.token")? }
            }
            Kind::RemoveAccessToken(remove) => TrustChange::RemoveAccessToken { id: TokenId(remove.id) },
        })
    }
}
