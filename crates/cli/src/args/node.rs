//! What `wharf node` is told.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args as ClapArgs, Subcommand};

#[derive(Clone, Debug, Subcommand)]
pub enum Node {
    /// Let nothing new come to nodes; what runs there stays
    Cordon {
        /// The nodes
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// Why, for the others who look after the cluster
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let replicas come to nodes again
    Uncordon {
        /// The nodes
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Set labels of a node, and take labels away
    Label(Label),
    /// Forget nodes that are down or drained
    #[command(
        long_about = "Forget nodes that are down or drained, with the replicas that they had. Should the agent of one \
                      come back, it is told to stop what it runs."
    )]
    Rm {
        /// The nodes, by their ids where several have one name
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// Also a node that is neither down nor drained; its replicas stop at once
        #[arg(long)]
        force: bool,
    },
}

#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "Examples:
  wharf node label host-1 disk=ssd zone=a   set two labels
  wharf node label host-1 disk-             take one away")]
pub struct Label {
    /// The node
    #[arg(value_name = "NODE")]
    pub node: String,
    /// KEY=VALUE to set a label, KEY- to take it away
    #[arg(required = true, value_name = "LABEL", value_parser = Change::read, allow_hyphen_values = true)]
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
