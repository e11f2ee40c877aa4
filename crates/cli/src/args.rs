//! The grammar of the command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::target::Target;

/// Runs containers on a handful of hosts, and keeps them running.
#[derive(Debug, Parser)]
#[command(name = "wharf", version, propagate_version = true, disable_help_subcommand = true)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Global {
    /// The server's socket
    #[arg(
        long,
        global = true,
        env = "WHARF_SOCKET",
        default_value = "/run/wharf/wharf.sock",
        value_name = "PATH"
    )]
    pub socket: PathBuf,
    /// The namespace of services that are named without one
    #[arg(short, long, global = true, env = "WHARF_NAMESPACE", default_value = "default")]
    pub namespace: String,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a whole cluster on this machine until Ctrl-C
    Dev(Dev),
    /// Make services as manifests declare them
    Apply(Apply),
    /// Show what applying manifests would change
    Diff(Diff),
    /// List services, replicas, nodes or revisions
    Get(Get),
    /// Tell everything about a service or a node
    Describe(Describe),
    /// Stop services and forget them
    Delete(Delete),
    /// Change how many replicas a service has
    Scale(Scale),
    /// Print what containers wrote
    Logs(Logs),
    /// Run a command in a running container
    Exec(Exec),
    /// Look at and steer rollouts
    #[command(subcommand)]
    Rollout(Rollout),
    /// Tell what happened
    Events(Events),
    /// Load, list and remove images on nodes
    #[command(subcommand)]
    Image(Image),
    /// Check what this host can do
    Doctor(Doctor),
    /// Print the JSON schema of manifests
    Schema,
    /// Print a completion script for a shell
    Completion { shell: clap_complete::Shell },
    /// Print the versions of this program and of the server
    Version,
    /// Run a server of the control plane
    Server(Server),
    /// Run the agent of this host
    Agent(Agent),
    /// The program of the demo image
    #[command(hide = true)]
    Hello,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Dev {
    /// Manifests to apply: files, directories, or - for standard input
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where state, images and logs are kept
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wharf")]
    pub data: PathBuf,
    /// Forget everything of earlier runs first
    #[arg(long)]
    pub fresh: bool,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Waiting {
    /// Wait until the rollout has ended, and say by the exit code how
    #[arg(long)]
    pub wait: bool,
    /// Stop waiting after this long (exit code 5); what was begun goes on
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = read_duration)]
    pub timeout: std::time::Duration,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Apply {
    /// Manifests: files, directories, or - for standard input
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Change nothing, only show what would change
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Diff {
    /// Manifests: files, directories, or - for standard input
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    #[default]
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    #[value(aliases = ["service", "svc"])]
    Services,
    #[value(aliases = ["replica"])]
    Replicas,
    #[value(aliases = ["node"])]
    Nodes,
    #[value(aliases = ["revision"])]
    Revisions,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Get {
    pub kind: Kind,
    /// Only these services (or nodes)
    pub names: Vec<String>,
    /// The services of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Show it again whenever it changes
    #[arg(short, long)]
    pub watch: bool,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Describe {
    /// A service, such as web or service/web, a replica's slot, such as web.3, or node/NAME
    pub what: String,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Delete {
    /// Services
    #[arg(required_unless_present = "files")]
    pub names: Vec<Target>,
    /// The services that these manifests declare
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Return before they are gone
    #[arg(long)]
    pub no_wait: bool,
    /// Stop waiting after this long
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = read_duration)]
    pub timeout: std::time::Duration,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Scale {
    pub service: Target,
    /// How many
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub replicas: u32,
    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Logs {
    /// A service, or one slot of it, such as web.3
    pub target: Target,
    /// Only this container
    #[arg(short, long)]
    pub container: Option<String>,
    /// Go on as lines are written
    #[arg(short, long)]
    pub follow: bool,
    /// Only so many of the lines already written, per container
    #[arg(long, value_name = "N")]
    pub tail: Option<u64>,
    /// Only lines younger than this
    #[arg(long, value_name = "DURATION", value_parser = read_duration)]
    pub since: Option<std::time::Duration>,
    /// Print the time of each line
    #[arg(short, long)]
    pub timestamps: bool,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Exec {
    /// Pass standard input on
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    #[arg(short, long)]
    pub container: Option<String>,
    /// A service, or one slot of it, such as web.3
    pub target: Target,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Rollout {
    /// Show how far a rollout is; with --wait, until its end
    Status {
        service: Target,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// List the kept revisions and how each fared
    History {
        service: Target,
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Go back to a revision
    Undo {
        service: Target,
        /// The number of the revision; the newest stable one that is not running
        #[arg(long, value_name = "N")]
        to: Option<u64>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Replace every replica by a new one of the same spec
    Restart {
        service: Target,
        #[command(flatten)]
        waiting: Waiting,
    },
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Events {
    /// Only of this service
    pub service: Option<Target>,
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub tail: u32,
    /// Go on as things happen
    #[arg(short, long)]
    pub watch: bool,
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Image {
    /// Load an OCI layout folder, an oci-archive or a docker-archive onto the nodes
    Load {
        /// A folder, a file, or - for standard input
        path: PathBuf,
        /// What to call the image
        #[arg(long)]
        name: Option<String>,
    },
    /// List the images on the nodes
    Ls {
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Remove images from the nodes
    Rm {
        #[arg(required = true)]
        references: Vec<String>,
    },
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Doctor {
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Server {
    /// Where the log and the snapshots are kept
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wharf/server")]
    pub data: PathBuf,
    /// Where users and agents of this host connect
    #[arg(long, value_name = "PATH", default_value = "/run/wharf/wharf.sock")]
    pub listen: PathBuf,
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
    /// The server's socket
    #[arg(long, value_name = "PATH", default_value = "/run/wharf/wharf.sock")]
    pub server: PathBuf,
    /// The node's name; the host's name
    #[arg(long)]
    pub name: Option<String>,
    /// The addresses that replicas get
    #[arg(long, value_name = "CIDR", default_value = "10.201.0.0/16")]
    pub subnet: String,
    /// What bridge, firewall table and control groups are called after
    #[arg(long, default_value = "wharf")]
    pub prefix: String,
    /// Stop every container when the agent is told to stop, instead of leaving them to the next agent
    #[arg(long)]
    pub stop_on_exit: bool,
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    pub supervised: bool,
}

/// `90s`, `5m`, `1h30m`, `250ms`.
pub fn read_duration(text: &str) -> Result<std::time::Duration, String> {
    let bad = || format!("{text:?} is not a duration; write it like 90s, 5m, 1h30m or 250ms");
    let mut total_ms: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let amount: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        let (unit, ms) =
            units.into_iter().find(|(unit, _)| rest[digits..].starts_with(unit)).ok_or_else(bad)?;
        total_ms = amount.checked_mul(ms).and_then(|span| total_ms.checked_add(span)).ok_or_else(bad)?;
        rest = &rest[digits + unit.len()..];
    }
    if text.is_empty() { Err(bad()) } else { Ok(std::time::Duration::from_millis(total_ms)) }
}
