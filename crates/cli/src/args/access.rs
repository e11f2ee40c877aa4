//! What `wharf token` and `wharf context` are told: who may do what, and where which cluster is.

use std::{path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use model::{AccessRole, Name};

use super::{By, Output, Said, value::read_duration};
use crate::target::read_name;

#[derive(Clone, Debug, Subcommand)]
pub enum AccessToken {
    /// Make an access token, and print it: it is shown this once
    Create(NewAccess),
    /// List access tokens; what they are is shown only when they are made
    Ls {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
        output: Output,
    },
    /// Withdraw an access token: whoever has it is refused from now on
    Revoke {
        /// Its name or its id, as `wharf token ls` lists them
        #[arg(value_name = "NAME")]
        token: String,
    },
}

#[derive(Clone, Debug, ClapArgs)]
#[command(
    long_about = "Make an access token for a person or a CI job, and print it.

It is one word that holds all that is needed: where the servers are, whom to believe, and the secret. It is shown this \
                  once; the cluster keeps only what recognises it. Whoever gets it runs `wharf context add NAME` and \
                  pastes it, or sets WHARF_TOKEN to it, as in CI.

Roles: a viewer sees everything but secrets; a deployer changes services and runs commands in containers; an admin changes \
                  the cluster and who may do what. With --namespace the role holds there and nowhere else.

Hosts join with tokens of another kind: see `wharf cluster token`.",
    after_help = "Examples:
  wharf token create alice --role admin
  wharf token create shop-ci --role deployer --namespace shop --expires 90d
  wharf token create review --role viewer --address wharf.example.com:7400"
)]
pub struct NewAccess {
    /// Whom or what it is for; the audit calls it so
    #[arg(value_parser = read_name)]
    pub name: Name,
    /// What it allows
    #[arg(long)]
    pub role: Access,
    /// Only in this namespace; may be repeated, for at most 256. WHARF_NAMESPACE does not count here
    // In place of the global option, whose default comes here too: see `NewAccess::namespaces`.
    #[arg(short, long, value_name = "NAME", value_parser = read_name)]
    namespace: Vec<Name>,
    /// How long it is good; for ever, if this is not said
    #[arg(long, value_name = "DURATION", value_parser = read_duration)]
    pub expires: Option<Duration>,
    /// Where servers are reached from where it is used; may be repeated, for at most 16. Where they reach each other, if this
    /// is not said
    #[arg(long = "address", value_name = "HOST:PORT")]
    pub addresses: Vec<String>,
}

impl NewAccess {
    /// Those that were named for this token; none for everywhere.
    pub fn namespaces(&self, said: Said) -> &[Name] {
        match said.namespace {
            Some(By::CommandLine) => &self.namespace,
            Some(By::Environment) | None => &[],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Access {
    Viewer,
    Deployer,
    Admin,
}

impl From<Access> for AccessRole {
    fn from(role: Access) -> AccessRole {
        match role {
            Access::Viewer => AccessRole::Viewer,
            Access::Deployer => AccessRole::Deployer,
            Access::Admin => AccessRole::Admin,
        }
    }
}

/// What the help of `wharf context` begins with.
pub const CONTEXT: &str = "Remember clusters, and say which one is meant.

A context is where the servers of a cluster are, whom to believe there, and an access token. Contexts are kept in \
                               $WHARF_CONFIG, $XDG_CONFIG_HOME/wharf/config.yaml or ~/.config/wharf/config.yaml, which nobody else may \
                               read.

Which cluster a command means is said by the first of: --socket, --context, WHARF_SOCKET, WHARF_CONTEXT, WHARF_TOKEN (an \
                               access token, and nothing else is needed), the context in use, and last the socket of a server on this \
                               host.";

#[derive(Clone, Debug, Subcommand)]
pub enum Context {
    /// Remember a cluster; the first one is in use from then on
    Add(AddContext),
    /// Use a context from now on
    Use {
        /// The context
        name: String,
    },
    /// List the contexts
    Ls {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
        output: Output,
    },
    /// Tell what a context is made of, without its secret
    Show {
        /// The context; the one in use, if none is named
        name: Option<String>,
    },
    /// Forget a context; its token stays good until it is withdrawn
    Rm {
        /// The context
        name: String,
    },
}

#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "Examples:
  wharf context add prod                                       and paste what `wharf token create` printed
  ssh host-1 wharf token create alice --role admin | wharf context add prod
  wharf context add prod --token-file /run/secrets/wharf       read again at each command")]
pub struct AddContext {
    /// What to call it
    #[arg(value_parser = read_name)]
    pub name: Name,
    /// A file with the token, which is read at each command; - reads the token now, from standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub token_file: PathBuf,
    /// Where servers are, instead of where the token says; may be repeated. They are tried in this order
    #[arg(long = "address", value_name = "HOST:PORT")]
    pub addresses: Vec<String>,
    /// Whom to believe, instead of whom the token says: the authority's certificate in PEM, or 64 hex digits, the SHA-256 of
    /// its public key
    #[arg(long, value_name = "FILE|PIN")]
    pub ca: Option<String>,
    /// Replace a context of this name
    #[arg(long)]
    pub replace: bool,
}
