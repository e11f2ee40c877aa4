//! What the verbs that look at something are told, and those that reach into containers and image stores.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::value::Since;
use crate::{
    connect::Freshness,
    target::{Target, read_name, read_service},
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    #[default]
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ClapArgs)]
pub struct Stale {
    /// Take what the server that is asked knows by itself, without a leader; the answer says how old that may be
    #[arg(long)]
    stale: bool,
}

impl Stale {
    pub fn freshness(self) -> Freshness {
        if self.stale { Freshness::Stale } else { Freshness::Now }
    }
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
#[command(after_help = "Examples:
  wharf get services -A            those of all namespaces
  wharf get replicas web -o wide   where each runs, and how it last ended
  wharf get services web -o yaml   its manifest, and its status
  wharf get replicas --watch       again whenever something changes")]
pub struct Get {
    /// What to list
    pub kind: Kind,
    /// Only these services, or nodes; replicas also by their slot, such as web.3
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// Show it again whenever it changes
    #[arg(short, long)]
    pub watch: bool,
    #[command(flatten)]
    pub stale: Stale,
}

#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "Examples:
  wharf describe web       a service: its spec, its rollout, its replicas, what happened
  wharf describe web.3     one slot of it
  wharf describe node/vm   a node, and what runs there")]
pub struct Describe {
    /// A service, such as web or shop/web; a slot of it, such as web.3; or a node, such as node/vm
    #[arg(value_name = "WHAT", value_parser = What::read)]
    pub what: What,
    #[command(flatten)]
    pub stale: Stale,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Node(String),
    Service(Target),
}

impl What {
    fn read(text: &str) -> Result<What, String> {
        match text.strip_prefix("node/").or_else(|| text.strip_prefix("nodes/")) {
            Some(name) => read_name(name).map(|name| What::Node(name.to_string())),
            None => text.parse().map(What::Service),
        }
    }
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Logs {
    /// A service, or one slot of it, such as web.3
    pub target: Target,
    /// Only this container
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Go on as lines are written
    #[arg(short, long)]
    pub follow: bool,
    /// Only so many of the lines already written, per container
    #[arg(long, value_name = "N")]
    pub tail: Option<u64>,
    /// Only lines younger than this, such as 10m, or since a time, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = Since::read)]
    pub since: Option<Since>,
    /// Print the time of each line
    #[arg(short, long)]
    pub timestamps: bool,
}

#[derive(Clone, Debug, ClapArgs)]
#[command(
    after_help = "The exit code is that of the command, or 128 and the number of the signal that ended it.

Examples:
  wharf exec -it web -- sh              a shell in a replica of web
  wharf exec web.2 -- cat /etc/hosts    a command in the second
  wharf exec -i web -- wc < file        standard input passed on"
)]
pub struct Exec {
    /// Pass standard input on
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// The container; main without it
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// A service, or one slot of it, such as web.3
    pub target: Target,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub command: Vec<String>,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Events {
    /// Only of this service
    #[arg(value_parser = read_service)]
    pub service: Option<Target>,
    /// Of all namespaces, and of nodes
    #[arg(short = 'A', long, conflicts_with = "service")]
    pub all_namespaces: bool,
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub tail: u32,
    /// Go on as things happen
    #[arg(short, long)]
    pub watch: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    #[command(flatten)]
    pub stale: Stale,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Image {
    /// Load an image onto the nodes
    #[command(
        long_about = "Load an OCI layout folder, an oci-archive or a docker-archive (`docker save`) onto the nodes"
    )]
    Load {
        /// A folder, a file, or - for standard input
        path: PathBuf,
        /// What to call the image, such as app:1; without it, what the archive calls it
        #[arg(long)]
        name: Option<String>,
    },
    /// List the images on the nodes
    Ls {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
        output: Output,
    },
    /// Remove images from the nodes
    Rm {
        /// What they are called, such as app:1
        #[arg(required = true, value_name = "IMAGE")]
        references: Vec<String>,
    },
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Doctor {
    /// Where images are or will be kept: what its filesystem can do is tried there, or in the folder it would be made in
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wharf")]
    pub data: PathBuf,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}
