//! A run before it happens: the nodes, what users will ask, and which faults will come when. All of it follows from the
//! seed, and parts of it can be left out to find the smallest plan that still fails.

mod draw;
mod manifest;

use model::{Bytes, MilliCpu, Millis, ServiceKey, Timestamp};

use crate::{clocks::HostClock, random::Random, trace::BEGINNING};
use draw::{Hosts, draw_asks, draw_member_asks, draw_net, draw_node, moment};

pub(crate) use manifest::{Wish, images, key, name};

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) servers: usize,
    pub(crate) net: Net,
    /// How often the servers' consensus counts.
    pub(crate) tick: Millis,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) asks: Vec<(Timestamp, Ask)>,
    pub(crate) faults: Vec<(Timestamp, Fault)>,
    /// From then on there are no faults and no wishes: everything must come to rest.
    pub(crate) calm_at: Timestamp,
    /// Whether replicas themselves have no faults, so that any loss of one is the cluster's doing.
    pub(crate) gentle: bool,
    pub(crate) snapshot_every: u64,
}

/// The network between servers, until it is calm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Net {
    pub(crate) lost_per_mille: u64,
    pub(crate) twice_per_mille: u64,
    /// How long one message in ten may take.
    pub(crate) slow_ms: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct NodePlan {
    pub(crate) clock: HostClock,
    pub(crate) cpu: MilliCpu,
    pub(crate) memory: Bytes,
}

#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Apply(Vec<(ServiceKey, Wish)>),
    /// Only if there is no such service.
    Create(ServiceKey, Wish),
    Scale(ServiceKey, u32),
    Undo(ServiceKey),
    Restart(ServiceKey),
    Delete(ServiceKey),
    Read,
    Members(MemberAsk),
}

/// What somebody wants of the servers, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberAsk {
    /// One that the cluster began with, so that it has a name.
    Introduce(usize),
    Join,
    JoinAsLearner,
    Promote(usize),
    Demote(usize),
    Remove(usize),
    Transfer(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Before the effect that comes after so many more.
    ServerCrash {
        server: usize,
        effects: u32,
    },
    /// The same of the server that leads then.
    LeaderCrash {
        effects: u32,
    },
    /// In the middle of the disk's work, after so many more operations.
    PowerLoss {
        server: usize,
        operations: u32,
    },
    /// The servers whose bit is set hear nothing of the others, and the others nothing of them.
    Split {
        side: u8,
        lasts: Millis,
    },
    /// The leader is alone; where its timers are late as well, it believes for longer that it leads.
    LeaderSplit {
        lasts: Millis,
        is_late: bool,
    },
    /// One server is not heard by another.
    OneWay {
        from: usize,
        to: usize,
        lasts: Millis,
    },
    /// For good: the server cannot come back as what it was.
    DiskLost {
        server: usize,
    },
    /// Of the wall's clock on a server's host. What runs there sees it, and is not to go by it.
    ClockJump {
        server: usize,
        by_ms: i64,
    },
    /// The same on the host of the server that leads then.
    LeaderClockJump {
        by_ms: i64,
    },
    /// The same on a node.
    NodeClockJump {
        node: usize,
        by_ms: i64,
    },
    /// Before the action that comes after so many more.
    AgentCrash {
        node: usize,
        actions: u32,
    },
    /// It is asked to end, and to leave nothing behind until its next start.
    AgentStop {
        node: usize,
    },
    /// Everything that runs there is gone.
    NodeReboot {
        node: usize,
    },
    SessionCut {
        node: usize,
    },
    /// For so long nothing gets through to any server.
    Partition {
        node: usize,
        lasts: Millis,
    },
    SlowDisk {
        server: usize,
        lasts: Millis,
    },
    /// Server and agent in the same moment.
    BothCrash {
        server: usize,
        node: usize,
    },
}

impl Ask {
    pub(crate) fn describe(&self) -> String {
        match self {
            Ask::Create(key, wish) => {
                format!("create {key} x{} {}", wish.spec.replicas, wish.behaviour.as_str())
            }
            Ask::Apply(wishes) => {
                let one = |(key, wish): &(ServiceKey, Wish)| {
                    format!("{key} x{} {}", wish.spec.replicas, wish.behaviour.as_str())
                };
                format!("apply {}", wishes.iter().map(one).collect::<Vec<_>>().join(", "))
            }
            Ask::Scale(key, replicas) => format!("scale {key} to {replicas}"),
            Ask::Undo(key) => format!("undo {key}"),
            Ask::Restart(key) => format!("restart {key}"),
            Ask::Delete(key) => format!("delete {key}"),
            Ask::Read => "read".to_owned(),
            Ask::Members(what) => format!("members: {what:?}"),
        }
    }
}

impl Plan {
    pub(crate) fn draw(seed: u64) -> Plan {
        let mut random = Random::new(seed);
        let gentle = random.one_in(2);
        let servers = random.pick(&[1, 1, 1, 1, 3, 3, 3, 3, 3, 5]);
        let nodes: Vec<NodePlan> = (0..random.between(1, 3)).map(|_| draw_node(&mut random)).collect();
        let span = random.between(10_000, 60_000);
        let mut asks = draw_asks(gentle, span, &mut random);
        if servers > 1 {
            asks.extend((0..random.between(0, 40)).map(|_| (moment(span, &mut random), Ask::Read)));
        }
        if random.one_in(2) {
            asks.extend(draw_member_asks(servers, span, &mut random));
        }
        let calm_at = BEGINNING + Millis(span);
        let hosts = Hosts { servers, nodes: nodes.len(), gentle };
        let many = if random.one_in(4) { 0 } else { random.between(1, 12) };
        let mut faults: Vec<(Timestamp, Fault)> =
            (0..many).map(|_| (moment(span, &mut random), hosts.draw_fault(&mut random))).collect();
        if servers > 1 && random.one_in(2) {
            let many = random.between(1, 8);
            faults.extend((0..many).map(|_| (moment(span, &mut random), hosts.draw_split(&mut random))));
        }
        if random.one_in(2) {
            let many = random.between(1, 6);
            faults.extend((0..many).map(|_| (moment(span, &mut random), hosts.draw_jump(&mut random))));
        }
        // When a leader does not know that it leads no more, somebody asks it.
        for (at, fault) in &faults {
            if let Fault::LeaderSplit { lasts, is_late: true } = fault {
                let moment = |random: &mut Random| *at + random.millis(0, lasts.0);
                asks.extend((0..8).map(|_| (moment(&mut random), Ask::Read)));
                asks.extend((0..4).map(|_| {
                    let (number, replicas) = (random.between(1, 3), random.between(0, 5) as u32);
                    (moment(&mut random), Ask::Scale(key(number), replicas))
                }));
            }
        }
        asks.sort_by_key(|(at, _)| *at);
        faults.sort_by_key(|(at, _)| *at);
        let snapshot_every = random.between(3, 60);
        // A single voter does not live by its ticks; a real server has ten in a second.
        let tick = if servers == 1 { Millis(500) } else { random.pick(&[Millis(100), Millis(200)]) };
        let net = draw_net(&mut random);
        Plan { seed, servers, net, tick, nodes, asks, faults, calm_at, gentle, snapshot_every }
    }
}
