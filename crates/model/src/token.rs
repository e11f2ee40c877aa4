//! Tokens as the cluster keeps them: what a token allows, and a hash that its secret is recognised by.
//!
//! The secrets themselves are nowhere but with their holders. How a token is written, and how one is recognised in what
//! somebody presents, is in the crate `trust`.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::{Name, Timestamp, TokenId};

/// What a host is in the cluster. One host may be both, with a certificate for each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostRole {
    /// Has a Raft member, and answers users and agents.
    Server,
    /// Runs containers.
    Agent,
}

impl HostRole {
    pub const fn as_str(self) -> &'static str {
        match self {
            HostRole::Server => "server",
            HostRole::Agent => "agent",
        }
    }
}

/// SHA-256 over a token's secret, as `trust` computes it. Telling it to anybody gives nothing away: the secret has 256
/// bits of its own, so that guessing is hopeless without a slow hash, too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretHash(pub [u8; 32]);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}..", self.0[0], self.0[1])
    }
}

/// How many more hosts may join with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uses {
    Unlimited,
    Left(u32),
}

/// What lets a host join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    pub id: TokenId,
    pub secret: SecretHash,
    /// As which a host joins with it.
    pub role: HostRole,
    /// From when on it is refused; `None` for never.
    pub expires_at: Option<Timestamp>,
    pub uses: Uses,
}

/// What a person or a CI job may do; ordered, each may do what the one before may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessRole {
    /// Sees everything but secrets.
    Viewer,
    /// Changes services.
    Deployer,
    /// Changes the cluster and who may do what in it.
    Admin,
}

impl AccessRole {
    pub const ALL: [AccessRole; 3] = [AccessRole::Viewer, AccessRole::Deployer, AccessRole::Admin];

    pub const fn as_str(self) -> &'static str {
        match self {
            AccessRole::Viewer => "viewer",
            AccessRole::Deployer => "deployer",
            AccessRole::Admin => "admin",
        }
    }
}

/// Where a role holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In every namespace, also those to come, and over the cluster itself.
    Everywhere,
    /// In these and nowhere else.
    Namespaces(BTreeSet<Name>),
}

/// A role and where it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub role: AccessRole,
    pub scope: Scope,
}

/// What lets a person or a CI job in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    pub id: TokenId,
    pub secret: SecretHash,
    /// Whom or what it is for; no two tokens have the same. The audit names it.
    pub name: Name,
    pub grant: Grant,
    pub created_at: Timestamp,
    /// From when on it is refused; `None` for never.
    pub expires_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role: {1}")]
pub struct RoleError(pub String, pub &'static str);

macro_rules! written_as_word {
    ($($name:ident: $words:literal = $($variant:ident),+;)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl FromStr for $name {
            type Err = RoleError;
            fn from_str(text: &str) -> Result<$name, RoleError> {
                let all = [$($name::$variant),+];
                let found = all.into_iter().find(|role| role.as_str() == text);
                found.ok_or_else(|| RoleError(text.to_owned(), $words))
            }
        }
    )*};
}
written_as_word! {
    HostRole: "a host is a server or an agent" = Server, Agent;
    AccessRole: "there are viewer, deployer and admin" = Viewer, Deployer, Admin;
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Everywhere => f.write_str("everywhere"),
            Scope::Namespaces(names) => {
                let names: Vec<&str> = names.iter().map(Name::as_str).collect();
                match names.as_slice() {
                    [] => f.write_str("in no namespace"),
                    [name] => write!(f, "in namespace {name}"),
                    names => write!(f, "in namespaces {}", names.join(", ")),
                }
            }
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.scope)
    }
}
