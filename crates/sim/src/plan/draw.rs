//! The parts of a plan, each drawn from the seed.

use model::{Bytes, MilliCpu, Timestamp};

use super::{Ask, Fault, MemberAsk, Net, NodePlan, Wish, key};
use crate::{
    behaviour::Behaviour,
    clocks::{HOUR_MS, HostClock},
    random::Random,
    trace::BEGINNING,
};

pub(super) fn draw_member_asks(servers: usize, span: u64, random: &mut Random) -> Vec<(Timestamp, Ask)> {
    let mut asks: Vec<(Timestamp, Ask)> = (0..servers)
        .map(|server| (moment(span / 3, random), Ask::Members(MemberAsk::Introduce(server))))
        .collect();
    for _ in 0..random.between(1, 5) {
        // Also those that are added later.
        let server = random.between(0, servers as u64 + 1) as usize;
        let what = match random.between(1, 10) {
            1..=3 => MemberAsk::Join,
            4 => MemberAsk::JoinAsLearner,
            5 => MemberAsk::Promote(server),
            6 => MemberAsk::Demote(server),
            7 | 8 => MemberAsk::Remove(server),
            _ => MemberAsk::Transfer(server),
        };
        asks.push((moment(span, random), Ask::Members(what)));
    }
    asks
}

pub(super) fn draw_net(random: &mut Random) -> Net {
    let slow_ms = random.pick(&[20, 100, 1_000, 3_000]);
    if random.one_in(3) {
        return Net { lost_per_mille: 0, twice_per_mille: 0, slow_ms: 10 };
    }
    Net { lost_per_mille: random.between(0, 150), twice_per_mille: random.between(0, 50), slow_ms }
}

pub(super) fn moment(span: u64, random: &mut Random) -> Timestamp {
    BEGINNING + random.millis(0, span)
}

pub(super) fn draw_node(random: &mut Random) -> NodePlan {
    let memory = Bytes(random.between(6, 32) * (64 << 20));
    NodePlan {
        clock: HostClock::draw(&mut random.fork()),
        cpu: MilliCpu(random.between(1, 8) * 1_000),
        memory,
    }
}

pub(super) fn draw_asks(gentle: bool, span: u64, random: &mut Random) -> Vec<(Timestamp, Ask)> {
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

pub(super) fn draw_ask(number: u64, behaviours: &[Behaviour], random: &mut Random) -> Ask {
    match random.between(1, 13) {
        13 => Ask::Create(key(number), Wish::draw(number, behaviours, random)),
        1..=5 => Ask::Apply(vec![(key(number), Wish::draw(number, behaviours, random))]),
        6 | 7 => Ask::Scale(key(number), random.between(0, 5) as u32),
        8 => Ask::Undo(key(number)),
        9 | 10 => Ask::Restart(key(number)),
        11 => Ask::Delete(key(number)),
        _ => Ask::Read,
    }
}

/// Whom a fault can strike.
pub(super) struct Hosts {
    pub(super) servers: usize,
    pub(super) nodes: usize,
    pub(super) gentle: bool,
}

impl Hosts {
    pub(super) fn draw_fault(&self, random: &mut Random) -> Fault {
        let node = random.between(0, self.nodes as u64 - 1) as usize;
        let server = self.draw_server(random);
        let count = |random: &mut Random| random.between(0, 12) as u32;
        match random.between(1, 12) {
            1 | 2 => Fault::ServerCrash { server, effects: count(random) },
            3 => Fault::LeaderCrash { effects: count(random) },
            4 => Fault::PowerLoss { server, operations: count(random) },
            5 | 6 => Fault::AgentCrash { node, actions: count(random) },
            7 | 8 => Fault::SessionCut { node },
            9 => Fault::Partition { node, lasts: random.millis(100, 45_000) },
            10 => Fault::SlowDisk { server, lasts: random.millis(100, 10_000) },
            11 => Fault::BothCrash { server, node },
            _ if self.gentle => Fault::SessionCut { node },
            _ if random.one_in(2) => Fault::AgentStop { node },
            _ => Fault::NodeReboot { node },
        }
    }

    /// What only several servers can suffer from.
    pub(super) fn draw_split(&self, random: &mut Random) -> Fault {
        let lasts = random.millis(500, 20_000);
        let server = self.draw_server(random);
        match random.between(1, 8) {
            8 => Fault::DiskLost { server },
            1..=3 => Fault::LeaderSplit { lasts, is_late: random.one_in(2) },
            4 | 5 => Fault::Split { side: random.between(1, (1 << self.servers) - 2) as u8, lasts },
            6 => Fault::OneWay { from: server, to: (server + 1) % self.servers, lasts },
            _ => Fault::LeaderCrash { effects: random.between(0, 12) as u32 },
        }
    }

    /// Of a host's wall clock, back or forth: as little as NTP corrects, as much as a wrong time zone, or anything between.
    pub(super) fn draw_jump(&self, random: &mut Random) -> Fault {
        let most = random.pick(&[3_000, 60_000, 600_000, 6 * HOUR_MS]);
        let by_ms = random.between(0, 2 * most) as i64 - most as i64;
        match random.between(1, 5) {
            1 | 2 => Fault::LeaderClockJump { by_ms },
            3 | 4 => Fault::ClockJump { server: self.draw_server(random), by_ms },
            _ => Fault::NodeClockJump { node: random.between(0, self.nodes as u64 - 1) as usize, by_ms },
        }
    }

    fn draw_server(&self, random: &mut Random) -> usize {
        random.between(0, self.servers as u64 - 1) as usize
    }
}
