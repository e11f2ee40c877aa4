//! An agent as a server sees it: it remembers what it was told and says what happened on its node.

use std::{collections::BTreeMap, net::Ipv4Addr};

use manager::{Hello, SessionId};
use model::{
    Assignment, Bytes, ContainerObserved, ContainerState, Desired, Digest, Dispatch, Event, EventKind, Exit,
    ExitCause, Level, MilliCpu, Millis, Name, NodeId, NodeInfo, Observed, Phase, ReplicaId, Subnet, Timeline,
    Timestamp,
};

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) ahead_ms: i64,
    pub(crate) node: NodeId,
    /// The server, and the session with it.
    pub(crate) session: Option<(u64, SessionId)>,
    /// It says nothing by itself.
    pub(crate) hangs: bool,
    pub(crate) memory: Bytes,
    pub(crate) images: Vec<(String, Digest)>,
    pub(crate) subnet: Option<Subnet>,
    pub(crate) assigned: BTreeMap<ReplicaId, Assignment>,
    pub(crate) seen: BTreeMap<ReplicaId, Observed>,
    sequence: u64,
}

/// What can happen to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happens {
    Prepared,
    Ready,
    Failed,
    Completed,
    Removed,
}

impl Agent {
    pub(crate) fn new(node: NodeId) -> Agent {
        Agent {
            node,
            ahead_ms: 0,
            session: None,
            hangs: false,
            memory: Bytes(8 << 30),
            images: vec![("hello:latest".to_owned(), digest(1))],
            subnet: None,
            assigned: BTreeMap::new(),
            seen: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// What its clock shows.
    pub(crate) fn clock(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_add_signed(self.ahead_ms))
    }

    pub(crate) fn hello(&self, now: Timestamp) -> Hello {
        Hello {
            info: self.info(),
            said_at: Some(self.clock(now)),
            observed: self.seen.values().cloned().collect(),
            images: self.images.clone(),
            level: Level::FIRST,
        }
    }

    pub(crate) fn info(&self) -> NodeInfo {
        NodeInfo {
            id: self.node,
            name: Name::new(&format!("n{}", self.node.0)).unwrap(),
            labels: BTreeMap::new(),
            cpu: MilliCpu(4_000),
            memory: self.memory,
            address: Ipv4Addr::LOCALHOST,
            subnet: self.subnet,
            agent_version: "0.1.0".to_owned(),
        }
    }

    pub(crate) fn hear(&mut self, dispatch: Dispatch) {
        match dispatch {
            Dispatch::Full { sequence, assignments } => {
                self.sequence = sequence;
                self.assigned = assignments.into_iter().map(|one| (one.replica, one)).collect();
            }
            Dispatch::Increment { follows, sequence, changed, removed } => {
                assert_eq!(follows, self.sequence, "an increment of node {} is missing", self.node);
                self.sequence = sequence;
                self.assigned.extend(changed.into_iter().map(|one| (one.replica, one)));
                removed.iter().for_each(|id| drop(self.assigned.remove(id)));
            }
        }
        // What it is not told to have, it drops.
        let Agent { assigned, seen, .. } = self;
        seen.retain(|id, _| assigned.contains_key(id));
    }

    /// Makes it so; returns what to report.
    pub(crate) fn happens(&mut self, id: ReplicaId, what: Happens, now: Timestamp) -> Observed {
        let last = self.seen.len() as u32 + 2;
        let address = self.subnet.map(|subnet| Ipv4Addr::from_bits(subnet.network().to_bits() + last));
        let seen = self.seen.entry(id).or_insert_with(|| Observed { address, ..unseen(id) });
        let main = &mut seen.containers[0];
        seen.ready_since = seen.ready_since.filter(|_| what == Happens::Ready);
        seen.phase = match what {
            Happens::Prepared => Phase::Prepared,
            Happens::Ready => Phase::Running,
            Happens::Failed => Phase::Failed,
            Happens::Completed => Phase::Completed,
            Happens::Removed => Phase::Removed,
        };
        match what {
            Happens::Ready => {
                seen.ready_since.get_or_insert(now);
                seen.timeline.started.get_or_insert(now);
                seen.timeline.ready.get_or_insert(now);
                main.state = ContainerState::Running { pid: 1, since: now, ready: true };
            }
            Happens::Failed | Happens::Completed => {
                main.state = ContainerState::Ended;
                main.last_exit = Some(exit(u8::from(what == Happens::Failed), now));
            }
            Happens::Prepared | Happens::Removed => {}
        }
        seen.clone()
    }

    /// Does at once all that is asked of it; returns what to report.
    pub(crate) fn obey(&mut self, now: Timestamp) -> Vec<Observed> {
        let mut reports = Vec::new();
        for (id, desired) in self.assigned.iter().map(|(id, one)| (*id, one.desired)).collect::<Vec<_>>() {
            let before = self.seen.get(&id).cloned();
            let is_over = before.as_ref().is_some_and(|seen| seen.phase >= Phase::Completed);
            let report = match desired {
                Desired::Prepared => self.happens(id, Happens::Prepared, now),
                Desired::Running if is_over => continue,
                Desired::Running => self.happens(id, Happens::Ready, now),
                Desired::Stopped => self.happens(id, Happens::Removed, now),
            };
            if before.as_ref() != Some(&report) {
                reports.push(report);
            }
        }
        reports
    }

    /// The main container ended, and is started again.
    pub(crate) fn exits(&self, id: ReplicaId, code: u8, now: Timestamp) -> Option<Event> {
        let one = self.assigned.get(&id)?;
        let container = Name::new("main").unwrap();
        let exit = exit(code, now);
        let (replica, slot) = (id, one.slot);
        let kind = EventKind::ContainerExited { replica, slot, container, exit, restarts: 0, stop: None };
        Some(Event { at: now, service: Some(one.service.clone()), kind })
    }
}

pub(crate) fn digest(number: u64) -> Digest {
    format!("sha256:{number:064x}").parse().unwrap()
}

fn exit(code: u8, at: Timestamp) -> Exit {
    Exit { cause: ExitCause::Code(code), at, ran_for: Millis::from_secs(1) }
}

fn unseen(replica: ReplicaId) -> Observed {
    let main = ContainerObserved {
        name: Name::new("main").unwrap(),
        state: ContainerState::Waiting,
        restarts: 0,
        last_exit: None,
    };
    Observed {
        replica,
        phase: Phase::Assigned,
        ready_since: None,
        timeline: Timeline::default(),
        address: None,
        containers: vec![main],
        message: None,
    }
}
