//! What `wharf cluster` and `wharf join` are told.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use model::{HostRole, TokenId};

use super::{Backup, LockKeys, Recover, Restore, value::read_duration};

#[derive(Clone, Debug, Subcommand)]
pub enum Cluster {
    /// Make this host the first server of a new cluster
    Init(Init),
    /// Tell how the cluster stands: who leads, who takes part, and how many servers it can lose
    Status,
    /// List the servers
    Members,
    /// Give a server a vote
    Promote {
        /// The server, by name or id
        server: String,
    },
    /// Take a server's vote; it goes on answering
    Demote {
        /// The server, by name or id
        server: String,
    },
    /// Remove a server for good; it stops by itself
    Remove {
        /// The server, by name or id
        server: String,
    },
    /// Let another server lead
    TransferLeader {
        /// The server, by name or id; the one that is furthest, if none is named
        server: Option<String>,
    },
    /// Write everything that the cluster agrees on to a file, while it runs
    Backup(Backup),
    /// Begin again from a backup, with this host as the only server
    Restore(Restore),
    /// Let the one server that is left go on without the rest
    Recover(Recover),
    /// Encrypt what the server on this host writes with a new key from now on
    RotateDataKey,
    /// Change what opens a server's data keys: another key file, or a passphrase
    Lock(LockKeys),
    /// Tell how the cluster is run, and change it
    Settings(ClusterSettings),
    /// Tell what signs the certificates of hosts, and replace it
    #[command(subcommand)]
    Authority(Authority),
    /// Make, list and withdraw what hosts join with
    #[command(subcommand)]
    Token(Token),
}

#[derive(Clone, Debug, ClapArgs)]
pub struct ClusterSettings {
    /// How long a node may be silent before its replicas are replaced elsewhere; from 5s to 1h
    #[arg(long, value_name = "DURATION", value_parser = read_duration)]
    pub node_lost_after: Option<Duration>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Authority {
    /// Tell which authority signs, until when it holds, and how far a rotation is
    Status,
    /// Replace the authority by a new one, while everything goes on
    #[command(
        after_help = "Hosts are told of the new authority first; once all of them believe it, it signs their certificates; once all
have such certificates, the old one is believed no more. A host that is away is waited for: bring it back, or remove it.

Join tokens and access tokens of before pin the old authority, and are good for nothing in the end: make new ones."
    )]
    Rotate {
        /// Return at once; `wharf cluster authority status` tells how far it is
        #[arg(long)]
        no_wait: bool,
    },
    /// Give a rotation up, as long as the new authority has signed nothing
    Abandon,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Token {
    /// Make a join token, and print it
    Create(NewToken),
    /// List join tokens; what they are is shown only when they are made
    Ls,
    /// Make a join token, and withdraw all others of its role
    Rotate(NewToken),
    /// Withdraw a join token; who joined with it stays
    Revoke {
        /// As `wharf cluster token ls` lists it
        id: TokenId,
    },
}

#[derive(Clone, Debug, ClapArgs)]
pub struct NewToken {
    /// As what a host joins with it
    #[arg(long)]
    pub role: Role,
    /// How long it is good
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = read_duration)]
    pub expires: Duration,
    /// How many hosts may join with it; any number, if this is not said
    #[arg(long, value_name = "N")]
    pub uses: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    Server,
    Agent,
}

impl From<Role> for HostRole {
    fn from(role: Role) -> HostRole {
        match role {
            Role::Server => HostRole::Server,
            Role::Agent => HostRole::Agent,
        }
    }
}

/// How a server is reached by other hosts.
#[derive(Clone, Debug, ClapArgs)]
pub struct Reached {
    /// Where others reach this server, host and port; the address that leads to other hosts, and port 7400
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Where it listens
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:7400")]
    pub listen: SocketAddr,
    /// What people call the server; the host's name
    #[arg(long)]
    pub name: Option<String>,
}

#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "Example:
  wharf cluster init --advertise 10.0.0.1:7400
  wharf server                                   and leave it running, best under systemd
  wharf cluster token create --role server       and `wharf join` with it on the other hosts")]
pub struct Init {
    /// Where the server keeps its log and its keys
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wharf/server")]
    pub data: PathBuf,
    #[command(flatten)]
    pub reached: Reached,
}

#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "Examples:
  wharf join --token wharf_join_server_... 10.0.0.1:7400   then run `wharf server`
  wharf join --token wharf_join_agent_... 10.0.0.1:7400    then run `wharf agent`")]
pub struct Join {
    /// What `wharf cluster token create` printed; it says as what this host joins
    #[arg(long, value_name = "TOKEN", env = "WHARF_JOIN_TOKEN", hide_env_values = true)]
    pub token: String,
    /// Servers of the cluster; one that answers is enough
    #[arg(required = true, value_name = "HOST:PORT")]
    pub addresses: Vec<String>,
    /// Where the host keeps its keys: the --data of `wharf server` or `wharf agent`
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub reached: Reached,
}
