//! What people and CI may do: one table, right by role, and one question, [`authorize`].
//!
//! A right is asked for in a [`Place`]: in one namespace, or everywhere. Rights over the cluster itself exist only
//! everywhere. There is no rule that says no: what no line of the table allows is refused, and a refusal says which right
//! was missing and who can grant it.
//!
//! Hosts are not in this table. A certificate speaks for its node and nothing else ([`crate::identity`]).

use std::fmt;

use model::{AccessRole, Grant, Name, Scope};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Services, replicas, revisions, events and logs.
    Read,
    /// Nodes with their capacity, servers, status. Of no workload, so every role has it whatever its scope: without it
    /// nobody could see why a replica has no place.
    ReadCluster,
    /// Apply, scale, roll out, undo, restart, delete.
    WriteServices,
    /// Run a command in a container. Who may change a service could do as much with another command in its manifest.
    Exec,
    /// Set and remove secrets, without seeing what is in them.
    WriteSecrets,
    /// See what is in secrets.
    ReadSecrets,
    /// Load and remove images on nodes. They are of no namespace: whoever loads one decides what its name means to all.
    ManageImages,
    /// Drain, cordon, label, remove nodes.
    ManageNodes,
    /// Servers, authority, keys, backups.
    ManageCluster,
    /// Join and access tokens: with it, one can give oneself every other right.
    ManageTokens,
}

/// Where something is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    Namespace(&'a Name),
    /// In all namespaces, or of the cluster itself.
    Everywhere,
}

/// Whether a right is over something that lies in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Namespace,
    Cluster,
    /// Over the cluster, and harmless: no scope narrows it.
    Open,
}

impl Right {
    pub const ALL: [Right; 10] = [
        Right::Read,
        Right::ReadCluster,
        Right::WriteServices,
        Right::Exec,
        Right::WriteSecrets,
        Right::ReadSecrets,
        Right::ManageImages,
        Right::ManageNodes,
        Right::ManageCluster,
        Right::ManageTokens,
    ];

    /// The table: the least role that has the right. Roles are ordered, and a higher one has all of a lower one.
    pub const fn least_role(self) -> AccessRole {
        match self {
            Right::Read | Right::ReadCluster => AccessRole::Viewer,
            Right::WriteServices | Right::Exec | Right::WriteSecrets | Right::ManageImages => {
                AccessRole::Deployer
            }
            Right::ReadSecrets | Right::ManageNodes | Right::ManageCluster | Right::ManageTokens => {
                AccessRole::Admin
            }
        }
    }

    const fn reach(self) -> Reach {
        match self {
            Right::Read | Right::WriteServices | Right::Exec | Right::WriteSecrets | Right::ReadSecrets => {
                Reach::Namespace
            }
            Right::ReadCluster => Reach::Open,
            Right::ManageImages | Right::ManageNodes | Right::ManageCluster | Right::ManageTokens => {
                Reach::Cluster
            }
        }
    }
}

/// What was missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "you may not {right}{}: your token is {held}, and this needs at least {needs}; someone with a token for admin \
     everywhere can make you one", shown(.place)
)]
pub struct Refusal {
    pub right: Right,
    /// The namespace; `None` for everywhere.
    pub place: Option<Name>,
    pub held: Grant,
    pub needs: Grant,
}

fn shown(place: &Option<Name>) -> String {
    place.as_ref().map(|name| format!(" in namespace {name}")).unwrap_or_default()
}

/// Whether a grant has a right in a place.
pub fn authorize(held: &Grant, right: Right, place: Place<'_>) -> Result<(), Refusal> {
    // A right over the cluster is everywhere, whatever namespace the request happened to name.
    let place = match right.reach() {
        Reach::Namespace => place,
        Reach::Cluster | Reach::Open => Place::Everywhere,
    };
    let in_scope = match (&held.scope, place) {
        (Scope::Everywhere, _) => true,
        (Scope::Namespaces(names), Place::Namespace(name)) => names.contains(name),
        (Scope::Namespaces(_), Place::Everywhere) => right.reach() == Reach::Open,
    };
    if in_scope && held.role >= right.least_role() {
        return Ok(());
    }
    let (place, scope) = match place {
        Place::Namespace(name) => (Some(name.clone()), Scope::Namespaces([name.clone()].into())),
        Place::Everywhere => (None, Scope::Everywhere),
    };
    Err(Refusal { right, place, held: held.clone(), needs: Grant { role: right.least_role(), scope } })
}

impl fmt::Display for Right {
    /// Fits after "you may not".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Right::Read => "read services",
            Right::ReadCluster => "see nodes and servers",
            Right::WriteServices => "change services",
            Right::Exec => "run commands in containers",
            Right::WriteSecrets => "set secrets",
            Right::ReadSecrets => "read secrets",
            Right::ManageImages => "load and remove images",
            Right::ManageNodes => "manage nodes",
            Right::ManageCluster => "manage the cluster",
            Right::ManageTokens => "manage tokens",
        })
    }
}
