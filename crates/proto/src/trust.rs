//! What hosts know each other by, as the log and snapshots hold it.

use model::{ClusterTrust, JoinToken, SecretHash, SecretText, Timestamp, TokenId, Uses};
use store::TrustChange;

use crate::{
    error::{DecodeError, Problem, Within},
    field::{self, same_variants},
    v1,
};

same_variants! {
    HostRole { Server, Agent }
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
        let secret: Result<[u8; 32], _> = wire.secret_hash.as_ref().try_into();
        Ok(JoinToken {
            id: TokenId(wire.id),
            secret: SecretHash(secret.map_err(|_| Problem::Missing).within("secret_hash")?),
            role: field::value::<v1::HostRole, _>(wire.role, "role")?,
            expires_at: wire.expires_at_unix_ms.map(Timestamp),
            uses: wire.uses_left.map_or(Uses::Unlimited, Uses::Left),
        })
    }
}

impl From<&TrustChange> for v1::TrustChange {
    fn from(change: &TrustChange) -> Self {
        use v1::trust_change::{Found, Kind, PutJoinToken, RemoveJoinToken};
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
        })
    }
}
