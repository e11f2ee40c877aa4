//! What `wharf node` is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use clap::{Args as ClapArgs, Subcommand};

use super::value::read_duration;

#[derive(Clone, Debug, Subcommand)]
pub enum Node {
    /// Let nothing new come to nodes; what runs there stays
    Cordon {
        /// The nodes
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// Why, for the others who look after the cluster; at most 1024 characters
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let replicas come to nodes again
    Uncordon {
        /// The nodes
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Replace everything on nodes by replicas on others, and let nothing new come
    Drain(Drain),
    /// Set labels of a node, and take labels away
    Label(Label),
    /// Forget nodes that are down or drained
    #[command(
        long_about = "Forget nodes that are down or drained, with the replicas that they had: this says that nothing \
                      runs there any more, so they are made elsewhere at once. Should the agent of one come back, it \
                      is told to stop what it runs."
    )]
    Rm {
        /// The nodes, by their ids where several have one name
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// Also a node that is neither down nor drained; its replicas stop at once
        #[arg(long)]
        force: bool,
        /// Where there is no such node, say so and go on: for scripts that are run again
        #[arg(long)]
        ignore_not_found: bool,
    },
}

#[derive(Clone, Debug, ClapArgs)]
#[command(
    long_about = "Replace everything on nodes by replicas on others, and let nothing new come.

This is done as in a rollout: by the service's own order, maxSurge and maxUnavailable, so that a replica stops once its \
                  replacement is ready. What finds no room elsewhere stays until the deadline, and without one for as \
                  long as it takes. A drained node stays closed until it is uncordoned or removed.",
    after_help = "Examples:
  wharf node drain host-1 --wait                  empty a node, and say when it is empty
  wharf node drain host-1 --deadline 10m --wait   stop what is still there after ten minutes"
)]
pub struct Drain {
    /// The nodes
    #[arg(required = true, value_name = "NODE")]
    pub nodes: Vec<String>,
    /// Stop what still runs after this long, whether or not it could be replaced
    #[arg(long, value_name = "DURATION", value_parser = read_duration)]
    pub deadline: Option<Duration>,
    /// Why, for the others who look after the cluster; at most 1024 characters
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Wait until nothing is left on them
    #[arg(long)]
    pub wait: bool,
    /// Stop waiting after this long (exit code 5); the drain goes on
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = read_duration)]
    pub timeout: Duration,
}

#[derive(Clone, Debug, ClapArgs)]
#[command(
    long_about = "Set labels of a node, and take labels away.

Manifests name labels to say where replicas may run. A node has at most 64. The name of one has at most 253 letters, \
                  digits, `.`, `_`, `-` and `/`, with a letter or digit at both ends, and does not begin with \
                  `wharf/`; its value is one line of at most 253 characters.",
    after_help = "Examples:
  wharf node label host-1 disk=ssd zone=a   set two labels
  wharf node label host-1 disk-             take one away"
)]
pub struct Label {
    /// The node
    #[arg(value_name = "NODE")]
    pub node: String,
    /// KEY=VALUE to set a label, KEY- to take it away
    #[arg(required = true, value_name = "LABEL", value_parser = Change::read)]
    pub changes: Vec<Change>,
}

/// What is to become of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Set(String, String),
    Unset(String),
}

impl Change {
    fn read(text: &str) -> Result<Change, String> {
        match (text.split_once('='), text.strip_suffix('-')) {
            (Some((key, value)), _) => Ok(Change::Set(key.to_owned(), value.to_owned())),
            (None, Some(key)) if !key.is_empty() => Ok(Change::Unset(key.to_owned())),
            (None, _) => Err("a label is set with KEY=VALUE and taken away with KEY-".to_owned()),
        }
    }
}

impl Label {
    /// What is set, and what is taken away.
    pub fn sorted(self) -> (BTreeMap<String, String>, BTreeSet<String>) {
        let (mut set, mut unset) = (BTreeMap::new(), BTreeSet::new());
        for change in self.changes {
            match change {
                Change::Set(key, value) => drop(set.insert(key, value)),
                Change::Unset(key) => drop(unset.insert(key)),
            }
        }
        (set, unset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_with_a_value_and_taken_away_with_a_dash() {
        let set = |key: &str, value: &str| Ok(Change::Set(key.to_owned(), value.to_owned()));
        assert_eq!(Change::read("disk=ssd"), set("disk", "ssd"));
        assert_eq!(Change::read("note=a-"), set("note", "a-"));
        assert_eq!(Change::read("disk="), set("disk", ""));
        assert_eq!(Change::read("disk-"), Ok(Change::Unset("disk".to_owned())));
        assert!(Change::read("disk").is_err() && Change::read("-").is_err());
    }
}
