//! The grammar of the command line: this file has the verbs, the others what each is told.

mod access;
mod change;
mod cluster;
mod daemon;
mod look;
mod node;
mod rescue;
mod value;

use std::{ffi::OsString, path::PathBuf};

use clap::{
    ArgMatches, Args as ClapArgs, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    parser::ValueSource,
};
use model::Name;

pub use self::{
    access::{AccessToken, AddContext, Context, NewAccess},
    change::{Apply, Delete, Diff, Rollout, Scale, Waiting},
    cluster::{Authority, Cluster, ClusterSettings, Init, Join, NewToken, Reached, Token},
    daemon::{Agent, Dev, Server},
    look::{Describe, Doctor, Events, Exec, Get, Image, Kind, Logs, Output, Stale, What},
    node::{Drain, Node},
    rescue::{Backup, BackupKey, DataKeys, LockKeys, Recover, Restore},
};
use crate::{exit::Code, target::read_name};

/// Runs containers on a handful of hosts, and keeps them running.
#[derive(Debug, Parser)]
#[command(
    name = "wharf",
    bin_name = "wharf",
    version,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = Code::TABLE)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The namespace of services that are named without one
    #[arg(
        short, long, global = true, display_order = 900, env = "WHARF_NAMESPACE", hide_env_values = true,
        default_value = "default", value_name = "NAME", value_parser = read_name
    )]
    pub namespace: Name,
    /// The server's socket
    #[arg(
        long,
        global = true,
        display_order = 901,
        env = "WHARF_SOCKET",
        hide_env_values = true,
        default_value = "/run/wharf/wharf.sock",
        value_name = "PATH"
    )]
    pub socket: PathBuf,
    /// The cluster, by a context that `wharf context ls` lists
    #[arg(
        long,
        global = true,
        display_order = 902,
        env = "WHARF_CONTEXT",
        hide_env_values = true,
        value_name = "NAME"
    )]
    pub context: Option<String>,
    #[arg(skip)]
    pub said: Said,
}

/// Who said which cluster is meant: the command line outweighs the environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said {
    pub namespace: Option<By>,
    pub socket: Option<By>,
    pub context: Option<By>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    CommandLine,
    Environment,
}

impl Said {
    fn of(matches: &ArgMatches) -> Said {
        let by = |name| match matches.value_source(name)? {
            ValueSource::CommandLine => Some(By::CommandLine),
            ValueSource::EnvVariable => Some(By::Environment),
            _ => None,
        };
        Said { namespace: by("namespace"), socket: by("socket"), context: by("context") }
    }
}

impl Args {
    /// Of this process.
    pub fn read() -> Result<Args, clap::Error> {
        Args::read_from(std::env::args_os())
    }

    fn read_from(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Args, clap::Error> {
        let matches = Args::command().try_get_matches_from(line)?;
        let mut args = Args::from_arg_matches(&matches)?;
        args.global.said = Said::of(&matches);
        Ok(args)
    }
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
    /// Tell everything about a service, a slot of it or a node
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
    /// Look after nodes: drain, cordon, label and remove them
    #[command(subcommand)]
    Node(Node),
    /// Make, list and withdraw what people and CI jobs work with
    #[command(subcommand)]
    Token(AccessToken),
    /// Remember clusters, and say which one is meant
    #[command(subcommand, long_about = access::CONTEXT)]
    Context(Context),
    /// Make a cluster of several servers, and look after it
    #[command(subcommand)]
    Cluster(Cluster),
    /// Join a cluster, as a server or as an agent
    Join(Join),
    /// Check what this host can do
    Doctor(Doctor),
    /// Print the JSON schema of manifests
    Schema,
    /// Print a completion script for a shell
    #[command(after_help = "For bash: source <(wharf completion bash)")]
    Completion {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Print the versions of this program and of the server
    Version,
    /// Run a server of the control plane
    Server(Server),
    /// Run the agent of this host
    Agent(Agent),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_command_may_follow_a_target_with_or_without_dashes() {
        for line in [
            ["wharf", "exec", "-it", "web.1", "--", "ls", "-l"].as_slice(),
            &["wharf", "exec", "-it", "web.1", "ls", "-l"],
            &["wharf", "exec", "--interactive", "--tty", "web.1", "ls", "-l"],
        ] {
            let args = Args::try_parse_from(line).expect("these are allowed");
            let Verb::Exec(exec) = args.verb else { panic!("{line:?} is exec") };
            assert!(exec.interactive && exec.tty, "{line:?}");
            assert_eq!(exec.command, ["ls", "-l"], "{line:?}");
        }
    }

    #[test]
    fn a_cluster_of_this_machine_has_one_to_nine_hosts() {
        let nodes = |line: &[&str]| match Args::try_parse_from(line).map(|args| args.verb) {
            Ok(Verb::Dev(dev)) => Ok(dev.nodes),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(nodes(&["wharf", "dev"]), Ok(1));
        assert_eq!(nodes(&["wharf", "dev", "--nodes", "9"]), Ok(9));
        for wrong in ["0", "10", "three"] {
            let error = nodes(&["wharf", "dev", "--nodes", wrong]).expect_err("it is no such number");
            assert!(error.contains("--nodes <N>") && error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn who_said_which_cluster_is_meant_is_known_wherever_it_was_said() {
        let said = |line: &[&str]| Args::read_from(line).map(|args| args.global.said).expect("it is allowed");
        let by = said(&["wharf", "get", "services", "--socket", "/x", "--context=prod"]);
        assert_eq!((by.socket, by.context), (Some(By::CommandLine), Some(By::CommandLine)));
        let by = said(&["wharf", "--context", "prod", "node", "cordon", "a"]);
        assert_eq!(by.context, Some(By::CommandLine));
        assert_ne!(by.socket, Some(By::CommandLine));
    }

    #[test]
    fn a_token_is_for_the_namespaces_that_were_named_for_it_and_else_for_all() {
        let check = |more: &[&str], expected: &[&str]| {
            let line = [&["wharf", "token", "create", "ci", "--role", "viewer"], more].concat();
            let Args { global, verb } = Args::read_from(line).expect("it is allowed");
            let Verb::Token(AccessToken::Create(new)) = verb else { panic!("it is that") };
            let names: Vec<&str> = new.namespaces(global.said).iter().map(Name::as_str).collect();
            assert_eq!(names, expected, "{more:?}");
        };
        check(&[], &[]);
        check(&["-n", "shop"], &["shop"]);
        check(&["--namespace", "shop", "--namespace=web"], &["shop", "web"]);
    }

    #[test]
    fn a_number_of_replicas_is_given_once() {
        let scale = |line: &[&str]| match Args::try_parse_from(line).map(|args| args.verb) {
            Ok(Verb::Scale(scale)) => Some(scale.replicas()),
            Ok(_) | Err(_) => None,
        };
        assert_eq!(scale(&["wharf", "scale", "web", "3"]), Some(3));
        assert_eq!(scale(&["wharf", "scale", "web", "--replicas=3"]), Some(3));
        assert_eq!(scale(&["wharf", "scale", "web", "3", "--replicas=3"]), None);
        assert_eq!(scale(&["wharf", "scale", "web"]), None);
    }
}
