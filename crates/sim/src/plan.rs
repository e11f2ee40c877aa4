//! A run before it happens: the nodes, what users will ask, and which faults will come when. All of it follows from the
//! seed, and parts of it can be left out to find the smallest plan that still fails.

mod manifest;

use model::{Bytes, MilliCpu, Millis, ServiceKey, Timestamp};

use crate::{behaviour::Behaviour, random::Random, trace::BEGINNING};

pub(crate) use manifest::{Wish, images, key, name};

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) asks: Vec<(Timestamp, Ask)>,
    pub(crate) faults: Vec<(Timestamp, Fault)>,
    /// From then on there are no faults and no wishes: everything must come to rest.
    pub(crate) calm_at: Timestamp,
    /// Whether replicas themselves have no faults, so that any loss of one is the cluster's doing.
    pub(crate) gentle: bool,
    pub(crate) snapshot_every: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct NodePlan {
    pub(crate) cpu: MilliCpu,
    pub(crate) memory: Bytes,
}

#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Apply(Vec<(ServiceKey, Wish)>),
    Scale(ServiceKey, u32),
    Undo(ServiceKey),
    Restart(ServiceKey),
    Delete(ServiceKey),
    Read,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Before the effect that comes after so many more.
    ServerCrash {
        effects: u32,
    },
    /// In the middle of the disk's work, after so many more operations.
    PowerLoss {
        operations: u32,
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
    /// For so long nothing gets through to the server.
    Partition {
        node: usize,
        lasts: Millis,
    },
    SlowDisk {
        lasts: Millis,
    },
    /// Server and agent in the same moment.
    BothCrash {
        node: usize,
    },
}

impl Ask {
    pub(crate) fn describe(&self) -> String {
        match self {
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
        }
    }
}

impl Plan {
    pub(crate) fn draw(seed: u64) -> Plan {
        let mut random = Random::new(seed);
        let gentle = random.one_in(2);
        let nodes: Vec<NodePlan> = (0..random.between(1, 3)).map(|_| draw_node(&mut random)).collect();
        let span = random.between(10_000, 60_000);
        let mut asks = draw_asks(gentle, span, &mut random);
        asks.sort_by_key(|(at, _)| *at);
        let calm_at = BEGINNING + Millis(span);
        let many = if random.one_in(4) { 0 } else { random.between(1, 12) };
        let mut faults: Vec<(Timestamp, Fault)> = (0..many)
            .map(|_| (moment(span, &mut random), draw_fault(gentle, nodes.len(), &mut random)))
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        let snapshot_every = random.between(3, 60);
        Plan { seed, nodes, asks, faults, calm_at, gentle, snapshot_every }
    }
}

fn moment(span: u64, random: &mut Random) -> Timestamp {
    BEGINNING + random.millis(0, span)
}

fn draw_node(random: &mut Random) -> NodePlan {
    let memory = Bytes(random.between(6, 32) * (64 << 20));
    NodePlan { cpu: MilliCpu(random.between(1, 8) * 1_000), memory }
}

fn draw_asks(gentle: bool, span: u64, random: &mut Random) -> Vec<(Timestamp, Ask)> {
    let behaviours: &[Behaviour] = if gentle { &Behaviour::SOUND } else { &Behaviour::ALL };
    let services = random.between(1, 3);
    let mut asks = Vec::new();
    for number in 1..=services {
        let first = BEGINNING + random.millis(0, span / 4);
        asks.push((first, Ask::Apply(vec![(key(number), Wish::draw(number, behaviours, random))])));
        for _ in 0..random.between(0, 5) {
            asks.push((moment(span, random), draw_ask(number, behaviours, random)));
        }
    }
    if random.one_in(4) {
        let all = (1..=services).map(|number| (key(number), Wish::draw(number, behaviours, random)));
        let all = Ask::Apply(all.collect());
        asks.push((moment(span, random), all));
    }
    asks
}

fn draw_ask(number: u64, behaviours: &[Behaviour], random: &mut Random) -> Ask {
    match random.between(1, 12) {
        1..=5 => Ask::Apply(vec![(key(number), Wish::draw(number, behaviours, random))]),
        6 | 7 => Ask::Scale(key(number), random.between(0, 5) as u32),
        8 => Ask::Undo(key(number)),
        9 | 10 => Ask::Restart(key(number)),
        11 => Ask::Delete(key(number)),
        _ => Ask::Read,
    }
}

fn draw_fault(gentle: bool, nodes: usize, random: &mut Random) -> Fault {
    let node = random.between(0, nodes as u64 - 1) as usize;
    let count = |random: &mut Random| random.between(0, 12) as u32;
    match random.between(1, 12) {
        1..=3 => Fault::ServerCrash { effects: count(random) },
        4 => Fault::PowerLoss { operations: count(random) },
        5 | 6 => Fault::AgentCrash { node, actions: count(random) },
        7 | 8 => Fault::SessionCut { node },
        9 => Fault::Partition { node, lasts: random.millis(100, 45_000) },
        10 => Fault::SlowDisk { lasts: random.millis(100, 10_000) },
        11 => Fault::BothCrash { node },
        _ if gentle => Fault::SessionCut { node },
        _ if random.one_in(2) => Fault::AgentStop { node },
        _ => Fault::NodeReboot { node },
    }
}
