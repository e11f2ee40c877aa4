//! The replica template: everything that one replica of a revision is made from.

use crate::{ContainerSpec, Level, Millis, Name, OnPartition};

/// What one replica is: its containers, which share a network namespace, its ports and its restart rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaTemplate {
    /// The container that the replica is there for; always named `main`.
    pub main: ContainerSpec,
    /// Run beside `main`, started before it in this order, stopped after it in reverse.
    pub sidecars: Vec<ContainerSpec>,
    /// Run to completion one after the other before anything else starts.
    pub init: Vec<ContainerSpec>,
    pub ports: Vec<Port>,
    pub restart: RestartPolicy,
    /// From the stop signal to SIGKILL.
    pub stop_grace: Millis,
    pub on_partition: OnPartition,
    /// Grows with each `rollout restart`, so that the same spec becomes a new revision.
    pub restart_nonce: u64,
}

impl ReplicaTemplate {
    /// The level that a node must know to run this as it is meant: an older one would overlook the rest.
    pub fn needs(&self) -> Level {
        // Every field by its name: whoever adds one decides here what it needs.
        let ReplicaTemplate {
            main: _,
            sidecars: _,
            init: _,
            ports: _,
            restart: _,
            stop_grace: _,
            on_partition: _,
            restart_nonce: _,
        } = self;
        self.containers().map(ContainerSpec::needs).max().unwrap_or_default()
    }

    /// All containers: init containers, then sidecars, then the main one: the order in which they start.
    pub fn containers(&self) -> impl Iterator<Item = &ContainerSpec> {
        self.init.iter().chain(&self.sidecars).chain([&self.main])
    }

    /// The same, to change them before the template becomes a revision.
    pub fn containers_mut(&mut self) -> impl Iterator<Item = &mut ContainerSpec> {
        self.init.iter_mut().chain(&mut self.sidecars).chain([&mut self.main])
    }
}

/// A port that the replica listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: Name,
    /// Inside the replica, 1 to 65535.
    pub port: u16,
    pub protocol: Protocol,
    /// The port of every node that is balanced over the service's ready replicas.
    pub publish: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// When the node starts a container again, and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    pub when: RestartWhen,
    pub backoff: Backoff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartWhen {
    Always,
    /// Only after a non-zero exit or a signal.
    OnFailure,
    Never,
}

/// The pause before a restart: none before the first, then `base`, doubling up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub base: Millis,
    pub max: Millis,
    /// A container that ran healthy for this long starts again from the first restart.
    pub reset_after: Millis,
}

impl Backoff {
    /// The pause before restart number `restart`, counted from 1 since the last reset.
    pub fn delay(&self, restart: u32) -> Millis {
        match restart {
            0 | 1 => Millis::ZERO,
            n => {
                let doublings = (n - 2).min(63);
                Millis(self.base.0.saturating_mul(1 << doublings).min(self.max.0))
            }
        }
    }
}

impl Default for RestartPolicy {
    fn default() -> RestartPolicy {
        let backoff = Backoff {
            base: Millis::from_secs(10),
            max: Millis::from_secs(300),
            reset_after: Millis::from_secs(600),
        };
        RestartPolicy { when: RestartWhen::Always, backoff }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_the_pause_doubles_to_its_limit() {
        let backoff = RestartPolicy::default().backoff;
        let secs = |n| backoff.delay(n).0 / 1_000;
        assert_eq!([1, 2, 3, 4, 5, 6, 7, 8, 200].map(secs), [0, 10, 20, 40, 80, 160, 300, 300, 300]);
    }
}
