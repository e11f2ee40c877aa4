//! Raft safety, seen from outside: at most one leader in a term; what is committed is on the disks of a majority and never
//! changes; servers that applied as much are in the same state, with the same members, and write the same snapshots.

use std::collections::BTreeMap;

use consensus::{MemberId, Membership, Role, Snapshot, Status, format::Position};
use model::Version;
use store::State;

use super::logs::{Logs, difference};
use crate::world::Context;

#[derive(Debug, Default)]
pub(crate) struct Agreement {
    leaders: BTreeMap<u64, usize>,
    /// The term at each index. It begins with the first entry that was committed.
    committed: BTreeMap<u64, u64>,
    memberships: BTreeMap<u64, Membership>,
    snapshots: BTreeMap<u64, u64>,
    seen: BTreeMap<usize, Seen>,
}

/// How far a server was when it was last looked at.
#[derive(Debug, Default)]
struct Seen {
    life: u32,
    committed: u64,
    applied: u64,
    published: u64,
    membership: Membership,
}

impl Agreement {
    /// The newest entry that is committed, as far as anybody knows.
    pub(crate) fn newest(&self) -> Position {
        let newest = self.committed.last_key_value();
        newest.map(|(&index, &term)| Position { index, term }).unwrap_or_default()
    }

    /// Whoever led before may not know it yet.
    pub(crate) fn elected_last(&self) -> Option<usize> {
        self.leaders.last_key_value().map(|(_, &server)| server)
    }

    pub(crate) fn leader_of(&self, term: u64) -> Option<usize> {
        self.leaders.get(&term).copied()
    }

    fn committed_at(&self, index: u64) -> Option<Position> {
        self.committed.get(&index).map(|&term| Position { index, term })
    }

    /// A server has taken a step, and has not done yet what came of it.
    pub(crate) fn look(&mut self, cx: &mut Context, logs: &Logs, server: usize, life: u32, status: &Status) {
        let mut seen = self.seen.remove(&server).filter(|seen| seen.life == life).unwrap_or_else(|| Seen {
            life,
            membership: status.membership.clone(),
            ..Seen::default()
        });
        if status.role == Role::Leader {
            let leader = *self.leaders.entry(status.term).or_insert(server);
            if leader != server {
                let detail = format!("servers {leader} and {server} both lead in term {}", status.term);
                cx.violate("one leader in a term", detail);
            }
        }
        // A follower may learn in one step of an entry and that it is committed: it counts once it was handed to the disk.
        let known = match status.role {
            Role::Leader => status.committed.min(logs.tip(server).index),
            Role::Follower { .. } | Role::Candidate => status.applied,
        };
        for index in seen.committed + 1..=known {
            let Some(at) = logs.written_at(server, index) else { continue };
            self.check_committed(cx, server, at);
            if status.role == Role::Leader {
                let memberships = [&seen.membership, &status.membership];
                check_durable(cx, logs, at, memberships);
            }
        }
        seen.committed = known.max(seen.committed);
        if status.applied > seen.applied {
            seen.applied = status.applied;
            self.check_membership(cx, server, status);
        }
        seen.membership.clone_from(&status.membership);
        self.seen.insert(server, seen);
    }

    fn check_committed(&mut self, cx: &mut Context, server: usize, at: Position) {
        let known = *self.committed.entry(at.index).or_insert(at.term);
        if known != at.term {
            let detail = format!("server {server} has {at}, and term {known} was committed there");
            cx.violate("what is committed never changes", detail);
        }
    }

    fn check_membership(&mut self, cx: &mut Context, server: usize, status: &Status) {
        let known = self.memberships.entry(status.applied).or_insert_with(|| status.membership.clone());
        if *known != status.membership {
            let detail = format!(
                "at {} server {server} has {:?}, another had {known:?}",
                status.applied, status.membership
            );
            cx.violate("members are the same at the same index", detail);
        }
    }

    pub(crate) fn published(
        &mut self,
        cx: &mut Context,
        logs: &Logs,
        server: usize,
        applied: u64,
        state: &State,
    ) {
        let Some(seen) = self.seen.get_mut(&server).filter(|seen| seen.published != applied) else { return };
        seen.published = applied;
        let at = self.committed_at(applied).or_else(|| logs.written_at(server, applied));
        match at.and_then(|at| logs.state_at(at)) {
            Some(expected) if expected == state => {}
            Some(expected) => {
                let detail = format!("server {server} at {applied}: {}", difference(expected, state));
                cx.violate("the published state is the state of the log", detail);
            }
            None if applied == 0 && state.version() == Version(0) => {}
            None => cx.violate(
                "what is published is committed",
                format!("server {server} has applied up to {applied}, and nobody has that"),
            ),
        }
    }

    /// The bytes of a state are the same, whoever writes them: the encoding has no chance in it.
    pub(crate) fn snapshot(&mut self, cx: &mut Context, server: usize, snapshot: &Snapshot) {
        let index = snapshot.meta.index;
        let hash = fnv(&snapshot.data);
        if *self.snapshots.entry(index).or_insert(hash) != hash {
            let detail = format!("server {server} writes other bytes at {index} than another did");
            cx.violate("snapshots at the same index are the same", detail);
        }
        let known = self.memberships.get(&index);
        if known.is_some_and(|known| *known != snapshot.meta.membership) {
            let detail = format!(
                "server {server} at {index}: {:?} instead of {:?}",
                snapshot.meta.membership,
                known.unwrap_or(&snapshot.meta.membership)
            );
            cx.violate("a snapshot names the members at its index", detail);
        }
    }
}

/// The members may have changed in the very step that is looked at: a majority before or after it will do.
fn check_durable(cx: &mut Context, logs: &Logs, at: Position, memberships: [&Membership; 2]) {
    let holds = |id: &&MemberId| logs.is_durable(**id as usize - 1, at);
    let majority =
        |voters: &[MemberId]| voters.is_empty() || voters.iter().filter(holds).count() * 2 > voters.len();
    let enough = |m: &Membership| majority(&m.voters) && majority(&m.voters_outgoing);
    if !memberships.into_iter().any(enough) {
        let detail = format!("{at} is not, of {:?}", memberships[1]);
        cx.violate("what is committed is on the disks of a majority", detail);
    }
}

/// FNV-1a, 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
