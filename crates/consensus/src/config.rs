//! What one member is told at its start.

use crate::MemberId;

/// Sizes are in bytes, times in ticks (the shell decides how long a tick is).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub id: MemberId,
    /// Without a word from the leader for this long, a member may start an election. It waits between this and
    /// twice as long: how long exactly follows from the ids of all that vote and the term, so that they do not collide
    /// and a simulation can be replayed. All members should have the same value.
    pub election_ticks: u32,
    pub heartbeat_ticks: u32,
    /// A larger command is refused.
    pub max_command_bytes: u64,
    /// Proposals are refused while this much waits to be committed.
    pub max_uncommitted_bytes: u64,
    pub max_message_bytes: u64,
    pub max_committed_bytes_per_ready: u64,
    /// How many entries stay in memory behind a snapshot, so that a member that lags a little needs no snapshot.
    pub entries_kept: u64,
}

impl Config {
    pub fn new(id: MemberId) -> Config {
        Config {
            id,
            // Ticks are of 100 ms: of three members, a lost one that led is replaced 0.7 to 1.1 s after its last word, and
            // writes go on within two seconds.
            election_ticks: 8,
            heartbeat_ticks: 1,
            max_command_bytes: 8 << 20,
            max_uncommitted_bytes: 64 << 20,
            max_message_bytes: 1 << 20,
            max_committed_bytes_per_ready: 4 << 20,
            entries_kept: 1_000,
        }
    }

    pub(crate) fn raft(&self, applied: u64) -> raft::Config {
        raft::Config {
            id: self.id,
            election_tick: self.election_ticks as usize,
            heartbeat_tick: self.heartbeat_ticks as usize,
            applied,
            max_size_per_msg: self.max_message_bytes,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            min_election_tick: self.election_ticks as usize,
            max_election_tick: self.election_ticks as usize * 2,
            // Lease reads answer without asking a quorum, and clocks are not to be trusted with correctness.
            read_only_option: raft::ReadOnlyOption::Safe,
            skip_bcast_commit: false,
            // With it on, raft-rs 0.7 appends entries to an empty message that stands at another index, when a peer's
            // progress went back in between; the receiver would take them for other entries. The simulation finds it.
            batch_append: false,
            priority: 0,
            max_uncommitted_size: self.max_uncommitted_bytes,
            max_committed_size_per_ready: self.max_committed_bytes_per_ready,
        }
    }

    /// The election timeout of this member in `term`, in ticks, among these that vote.
    ///
    /// raft-rs draws it at random, and two members that draw the same collide: each votes for itself, and another timeout
    /// passes. This takes its place (see `Consensus::settle`): no two of a few members wait equally long, but as far apart as
    /// fits between one timeout and two. They stand in the order of what each would draw, which is another in each term; so
    /// does a member of a build that goes by its draw alone.
    pub(crate) fn election_timeout(&self, term: u64, voters: impl Iterator<Item = MemberId>) -> usize {
        let spread = (self.election_ticks as usize).max(1);
        let draw = |id| {
            let mixed = mixed(id, term);
            (mixed % spread as u64, mixed)
        };
        let own = draw(self.id);
        let (mut others, mut before) = (0, 0);
        for other in voters.filter(|voter| *voter != self.id) {
            others += 1;
            before += usize::from(draw(other) < own);
        }
        let apart = ((spread - 1) / others.max(1)).max(1);
        self.election_ticks as usize + before * apart % spread
    }
}

/// The finaliser of SplitMix64.
fn mixed(id: MemberId, term: u64) -> u64 {
    let mut x = id ^ term.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_of_a_few_members_wait_equally_long() {
        for (voters, apart) in [(1, 0), (2, 7), (3, 3), (4, 2), (5, 1), (8, 1)] {
            for term in 0..100 {
                let wait =
                    |id: u64| Config::new(id * 77).election_timeout(term, (1..=voters).map(|id| id * 77));
                let waits: BTreeSet<usize> = (1..=voters).map(wait).collect();
                let expected: BTreeSet<usize> = (0..voters as usize).map(|place| 8 + place * apart).collect();
                assert_eq!(waits, expected, "{voters} in term {term}");
            }
        }
        let many = |id: u64| Config::new(id).election_timeout(1, 1..=100);
        assert!((1..=100).map(many).all(|wait| (8..16).contains(&wait)));
    }
}
