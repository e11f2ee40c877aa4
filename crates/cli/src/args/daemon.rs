//! What the verbs that run until they are stopped are told.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use clap::Args as ClapArgs;

use super::{DataKeys, value::read_duration};

#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "Examples:
  wharf dev -f manifests/hello.yaml
  wharf dev --nodes 3 -f manifests/hello.yaml

With --nodes, each host is a network namespace with an address and a name of its own, and an agent. The \
first three have servers that vote, of which one can be lost; two hosts have one server, because of two servers none \
can be. Each has a folder below DIR/hosts as its disk; `nsenter --net=DIR/hosts/host-2/netns COMMAND` does something \
on one.

What is desired is kept in DIR and runs again at the next start. Ctrl-C stops all containers, each within its stopGrace.")]
pub struct Dev {
    /// Manifests to apply: files, folders, or - for standard input
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where state, images and logs are kept
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wharf")]
    pub data: PathBuf,
    /// How many hosts: this machine, or so many made in it, from 2 to 9
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: u8,
    /// Forget everything of earlier runs first
    #[arg(long)]
    pub fresh: bool,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Server {
    /// Where `wharf cluster init` or `wharf join` put what it needs, and where the log and the snapshots are kept
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wharf/server")]
    pub data: PathBuf,
    /// Where users and agents of this host connect
    #[arg(long, value_name = "PATH", default_value = "/run/wharf/wharf.sock")]
    pub listen: PathBuf,
    #[command(flatten)]
    pub data_keys: DataKeys,
    /// Where a line of JSON is written for everything that was changed or refused; `audit.log` in the data folder. Four
    /// files of at most 64 MiB are kept
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
    /// What the certificates live that this server signs; hosts renew theirs after two thirds of that
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = read_duration)]
    pub certificate_lifetime: Duration,
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    pub supervised: bool,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Agent {
    /// Where images, logs and the ledger are kept
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wharf/agent")]
    pub data: PathBuf,
    /// Where sockets and pins are kept until the next boot
    #[arg(long, value_name = "DIR", default_value = "/run/wharf/agent")]
    pub run: PathBuf,
    /// The socket of the server on this host; for a host that did not join a cluster
    #[arg(long, value_name = "PATH", default_value = "/run/wharf/wharf.sock")]
    pub server: PathBuf,
    /// The node's name; the host's name
    #[arg(long)]
    pub name: Option<String>,
    /// The addresses that replicas get, in place of those that the cluster gives the node
    #[arg(long, value_name = "CIDR")]
    pub subnet: Option<model::Subnet>,
    /// Where other hosts reach this one; the address from which it reaches the servers
    #[arg(long, value_name = "IP")]
    pub address: Option<Ipv4Addr>,
    /// What bridge, firewall table and control groups are called after
    #[arg(long, default_value = Agent::PREFIX)]
    pub prefix: String,
    /// Give each replica users of its own, so that root in it is nobody on the host
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub user_namespaces: bool,
    /// Stop every container when the agent is told to stop, instead of leaving them to the next agent
    #[arg(long)]
    pub stop_on_exit: bool,
    /// Take over what runs only to stop it, and end
    #[arg(long, hide = true, requires = "stop_on_exit")]
    pub stop_now: bool,
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    pub supervised: bool,
}

impl Agent {
    pub const PREFIX: &str = "wharf";
}
