//! What hosts know each other by, as the log and snapshots hold it.

use model::{
    AccessToken, Belief, ClusterTrust, Grant, JoinToken, Name, NodeId, Pin, Scope, SecretHash, SecretText,
    Timestamp, TokenId, Uses,
};
use prost::bytes::Bytes;
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
        v1::ClusterTrust {
            bundle: trust.bundle.clone(),
            authority: trust.authority.0.clone(),
            next_authority: trust.next_authority.as_ref().map(|next| next.0.clone()),
            beliefs: trust.beliefs.iter().map(|(host, belief)| belief_of(*host, *belief)).collect(),
        }
    }
}

impl TryFrom<v1::ClusterTrust> for ClusterTrust {
    type Error = DecodeError;
    fn try_from(wire: v1::ClusterTrust) -> Result<Self, DecodeError> {
        let beliefs: Result<_, DecodeError> = wire.beliefs.into_iter().map(read_belief).collect();
        Ok(ClusterTrust {
            bundle: wire.bundle,
            authority: SecretText(wire.authority),
            next_authority: wire.next_authority.map(SecretText),
            beliefs: beliefs.within("beliefs")?,
        })
    }
}

/// A host and how far it is.
pub fn belief_of(host: NodeId, belief: Belief) -> v1::Belief {
    let signed_by = belief.signed_by.map(|pin| pin.0.to_vec().into());
    v1::Belief { host: host.0, generation: belief.generation, signed_by }
}

pub fn read_belief(wire: v1::Belief) -> Result<(NodeId, Belief), DecodeError> {
    let pin = |bytes: Bytes| bytes.as_ref().try_into().map(Pin).map_err(|_| Problem::Missing);
    let signed_by = wire.signed_by.map(pin).transpose().within("signed_by")?;
    Ok((NodeId(wire.host), Belief { generation: wire.generation, signed_by }))
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
            Found, Kind, PutAccessToken, PutJoinToken, RemoveAccessToken, RemoveJoinToken, Rotate,
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
            TrustChange::Rotate { trust, replaces } => {
                Kind::Rotate(Rotate { trust: Some(trust.into()), replaces: replaces.clone() })
            }
            TrustChange::Believe { host, belief } => Kind::Believe(belief_of(*host, *belief)),
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
                trust: field::required(found.trust, "found.trust")?,
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
            Kind::Rotate(rotate) => TrustChange::Rotate {
                trust: field::required(rotate.trust, "rotate.trust")?,
                replaces: rotate.replaces,
            },
            Kind::Believe(belief) => {
                let (host, belief) = read_belief(belief).within("believe")?;
                TrustChange::Believe { host, belief }
            }
        })
    }
}
