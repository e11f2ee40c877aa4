//! What the verbs that change something are told.

use std::{path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Subcommand};

use super::{Output, Stale, value::read_duration};
use crate::{
    connect::Freshness,
    target::{Target, read_service},
};

#[derive(Clone, Debug, ClapArgs)]
pub struct Waiting {
    /// Wait until the rollout has ended, and say by the exit code how
    #[arg(long)]
    pub wait: bool,
    /// Stop waiting after this long (exit code 5); what was begun goes on
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = read_duration)]
    pub timeout: Duration,
}

#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "Examples:
  wharf apply -f web.yaml --wait        deploy, and end with the rollout's exit code
  wharf apply -f manifests/ --dry-run   show what all the files of a folder would change
  generate | wharf apply -f -           read manifests from standard input

Exit codes:
  0  done, or with --wait: healthy      4  failed, and the rollout is paused
  1  usage, refusal or connection       5  the deadline passed
  2  invalid manifest                   6  no node can take a replica
  3  rolled back                        7  superseded by another apply
Ctrl-C ends the waiting (130), not the rollout.")]
pub struct Apply {
    /// Manifests: files, folders, or - for standard input
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
    /// Manifests: files, folders, or - for standard input
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// End with exit code 8 where something differs, instead of 0
    #[arg(long)]
    pub exit_code: bool,
}

#[derive(Clone, Debug, ClapArgs)]
pub struct Delete {
    /// Services
    #[arg(value_name = "SERVICE", required_unless_present = "files")]
    pub names: Vec<Target>,
    /// The services that these manifests declare
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Do not wait until they are gone
    #[arg(long)]
    pub no_wait: bool,
    /// Stop waiting after this long (exit code 5); they go on stopping
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = read_duration)]
    pub timeout: Duration,
}

#[derive(Clone, Debug, ClapArgs)]
#[command(override_usage = "wharf scale [OPTIONS] <SERVICE> <N>")]
pub struct Scale {
    /// The service
    #[arg(value_name = "SERVICE", value_parser = read_service)]
    pub service: Target,
    /// How many replicas
    #[arg(
        value_name = "N", required_unless_present = "replicas", conflicts_with = "replicas",
        value_parser = clap::value_parser!(u32).range(0..=10_000)
    )]
    count: Option<u32>,
    /// The same as N
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    replicas: Option<u32>,
    #[command(flatten)]
    pub waiting: Waiting,
}

impl Scale {
    /// The grammar sees to it that one of them is there.
    pub fn replicas(&self) -> u32 {
        self.count.or(self.replicas).unwrap_or_default()
    }
}

#[derive(Clone, Debug, Subcommand)]
pub enum Rollout {
    /// Show how far a rollout is; the exit code tells how it ended
    Status {
        /// The service
        #[arg(value_parser = read_service)]
        service: Target,
        #[command(flatten)]
        waiting: Waiting,
        #[command(flatten)]
        stale: Stale,
    },
    /// List the kept revisions and how each fared
    History {
        /// The service
        #[arg(value_parser = read_service)]
        service: Target,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
        output: Output,
        #[command(flatten)]
        stale: Stale,
    },
    /// Go back to a revision
    Undo {
        /// The service
        #[arg(value_parser = read_service)]
        service: Target,
        /// The number of the revision; without it, the last stable one before the one that is wanted now
        #[arg(long, value_name = "N")]
        to: Option<u64>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Replace every replica by a new one of the same spec
    Restart {
        /// The service
        #[arg(value_parser = read_service)]
        service: Target,
        #[command(flatten)]
        waiting: Waiting,
    },
}

impl Rollout {
    /// What changes something is never stale.
    pub fn freshness(&self) -> Freshness {
        match self {
            Rollout::Status { stale, .. } | Rollout::History { stale, .. } => stale.freshness(),
            Rollout::Undo { .. } | Rollout::Restart { .. } => Freshness::Now,
        }
    }
}
