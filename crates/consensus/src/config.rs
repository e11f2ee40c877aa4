//! What one member is told at its start.

use crate::MemberId;

/// Sizes are in bytes, times in ticks (the shell decides how long a tick is).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub id: MemberId,
    /// Without a word from the leader for this long, a member may start an election. It waits between this and
    /// half as long again: how long exactly follows from its id and the term, so that two members do not collide for
    /// ever and a simulation can be replayed. All members should have the same value.
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
            // Ticks are of 100 ms: a lost leader is replaced 0.8 to 1.2 s after its last word, one more round among the others
            // included, and writes go on within two seconds.
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

    /// The election timeout of this member in `term`, in ticks.
    ///
    /// raft-rs draws it at random; this draw takes its place (see `Consensus::settle`). Mixing in the term makes two
    /// members that collided once part ways in the next term. A wide spread would cost every election time, to save it
    /// for the few in which two members stand within one round trip of each other: the ticks of two hosts do not fall
    /// together. The mixer is SplitMix64's finaliser.
    pub(crate) fn election_timeout(&self, term: u64) -> usize {
        let mut x = self.id ^ term.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        let spread = u64::from((self.election_ticks / 2).max(1));
        self.election_ticks as usize + (x % spread) as usize
    }
}
