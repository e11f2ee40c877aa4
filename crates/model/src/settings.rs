//! How the cluster is run: what every server must go by alike.

use crate::Millis;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A node that was not heard for so long counts as down. It is also how long a lease lasts.
    pub node_lost_after: Millis,
    /// The longest lease that was ever given: one of it may still be held.
    pub longest_lease: Millis,
}

impl Default for Settings {
    fn default() -> Settings {
        let fifteen = Millis::from_secs(15);
        Settings { node_lost_after: fifteen, longest_lease: fifteen }
    }
}

impl Settings {
    pub const SHORTEST_LOSS: Millis = Millis::from_secs(5);
    pub const LONGEST_LOSS: Millis = Millis::from_secs(3_600);
    /// What is added to a lease before what it was for counts as ended: for clocks that run at different paces, and for
    /// the kernel to end what was killed.
    pub const LEASE_MARGIN: Millis = Millis::from_secs(5);
    /// Heartbeats of all nodes together that a server is to be asked for at most, each second.
    const HEARTBEATS_PER_SECOND: u64 = 500;

    /// How often an agent says that it is there: three to five times before it counts as lost; rarer with many nodes.
    pub fn heartbeat_interval(&self, nodes: usize) -> Millis {
        let (often, rarely) = (Millis(self.node_lost_after.0 / 5), Millis(self.node_lost_after.0 / 3));
        let shared = Millis(nodes as u64 * 1_000 / Settings::HEARTBEATS_PER_SECOND);
        shared.clamp(often, rarely)
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
}
