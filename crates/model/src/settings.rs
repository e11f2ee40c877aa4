//! How the cluster is run: what every server must go by alike.

use crate::{Millis, ReplicaRange};

/// What a leader answers to a heartbeat of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Of the heartbeat.
    pub number: u64,
    /// For so long, counted from when the heartbeat was *sent*, the node may run what it has to stop without a leader.
    pub lease: Millis,
    /// How long after this heartbeat the next one is due.
    pub next: Millis,
    /// Over how long the agents scatter themselves when they all look for a leader again.
    pub scatter: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A node that was not heard for so long counts as down. It is also how long a lease lasts.
    pub node_lost_after: Millis,
    /// The longest lease that was ever given: one of it may still be held.
    pub longest_lease: Millis,
    /// Of which nodes are given their subnets.
    pub replica_range: ReplicaRange,
}

impl Default for Settings {
    fn default() -> Settings {
        let fifteen = Millis::from_secs(15);
        Settings { node_lost_after: fifteen, longest_lease: fifteen, replica_range: ReplicaRange::default() }
    }
}

impl Settings {
    pub const SHORTEST_LOSS: Millis = Millis::from_secs(5);
    pub const LONGEST_LOSS: Millis = Millis::from_secs(3_600);
    /// From the end of a lease to SIGKILL for what was told to stop then.
    pub const LEASE_GRACE: Millis = Millis::from_secs(3);
    /// What is added to a lease before what it was for counts as ended: the grace, and two seconds for clocks that run at
    /// different paces (500 ppm of the longest lease) and for the kernel to end what was killed.
    pub const LEASE_MARGIN: Millis = Millis::from_secs(5);
    /// Heartbeats of all nodes together that a server is to be asked for at most, each second.
    const HEARTBEATS_PER_SECOND: u64 = 500;
    /// How far apart the heartbeats of few nodes are at most, however patient the cluster is with lost ones.
    const RAREST_OF_FEW: Millis = Millis::from_secs(3);
    /// Sessions that are to be opened at most each second when all agents do so at once.
    const SESSIONS_PER_SECOND: u64 = 1_000;

    /// How often an agent says that it is there: three to five times before it counts as lost; rarer with many nodes.
    pub fn heartbeat_interval(&self, nodes: usize) -> Millis {
        let often = Millis(self.node_lost_after.0 / 5).min(Settings::RAREST_OF_FEW);
        let rarely = Millis(self.node_lost_after.0 / 3);
        let shared = Millis(nodes as u64 * 1_000 / Settings::HEARTBEATS_PER_SECOND);
        shared.clamp(often, rarely)
    }

    /// See [`Heard::scatter`]. Never so long that a node is lost for it.
    pub fn scatter(&self, nodes: usize) -> Millis {
        let all = Millis(nodes as u64 * 1_000 / Settings::SESSIONS_PER_SECOND);
        all.clamp(Millis(50), Millis(self.node_lost_after.0 / 3))
    }

    /// What to answer to a heartbeat in a cluster of so many nodes.
    pub fn hear(&self, number: u64, nodes: usize) -> Heard {
        let (next, scatter) = (self.heartbeat_interval(nodes), self.scatter(nodes));
        Heard { number, lease: self.node_lost_after, next, scatter }
    }

    /// How long a session may be without a word before it is taken for dead.
    pub fn silence(&self) -> Millis {
        Millis(self.node_lost_after.0 * 2 / 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_get_rarer_with_many_nodes() {
        let settings = Settings::default();
        let interval = |nodes| settings.heartbeat_interval(nodes).0;
        assert_eq!([1, 100, 2_000, 5_000].map(interval), [3_000, 3_000, 4_000, 5_000]);
        assert!(settings.silence() > settings.heartbeat_interval(5_000));
    }

    #[test]
    fn many_nodes_come_back_one_after_the_other() {
        let settings = Settings::default();
        let scatter = |nodes| settings.scatter(nodes).0;
        assert_eq!([1, 100, 3_000, 100_000].map(scatter), [50, 100, 3_000, 5_000]);
    }
}
