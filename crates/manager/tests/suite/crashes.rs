//! Drawn histories: users, agents, disks that take their time, servers that die and networks that part. Whatever comes,
//! `checks` holds after every effect; in the end, when all is well again, everybody is answered.

use manager::{Event, ReadId, Report, Request, RequestId};
use model::{Millis, NodeId};
use proptest::prelude::*;

use crate::{
    agent::Happens,
    cluster::Cluster,
    spec::{declaration, key, set},
};

/// In the place of a server: whoever leads then.
const LEADER: u64 = 0;
const SERVICES: [&str; 3] = ["db", "proxy", "web"];
const NODES: u64 = 2;
const SNAPSHOT_EVERY: u64 = 8;
/// Enough for elections that fail a few times.
const TICKS_TO_RECOVER: u32 = 200;

#[derive(Clone, Debug)]
enum Happening {
    Ask { at: u64, wish: Wish },
    Read { at: u64 },
    Hello { node: u64, at: u64 },
    Bye { node: u64 },
    Obey { node: u64 },
    Fails { node: u64, nth: usize },
    Sync { id: u64 },
    Slow { id: u64, is_slow: bool },
    SnapshotsSlowly { id: u64, slowly: bool },
    Settle,
    Ticks(u32),
    Advance(u64),
    Crash { id: u64, kept: usize },
    Start { id: u64 },
    Cut { id: u64 },
    Heal,
}

#[derive(Clone, Debug)]
enum Wish {
    /// Each service with a number that makes it another revision; some with the port that only one can have.
    Apply {
        services: Vec<(usize, u8, bool)>,
        dry_run: bool,
    },
    Scale {
        service: usize,
        replicas: u32,
    },
    Delete {
        services: Vec<usize>,
    },
    Undo {
        service: usize,
    },
    Restart {
        service: usize,
    },
}

fn wishes() -> impl Strategy<Value = Wish> {
    let service = 0..SERVICES.len();
    let declared = (service.clone(), 0..3_u8, prop::bool::weighted(0.2));
    prop_oneof![
        4 => (prop::collection::vec(declared, 1..4), prop::bool::weighted(0.1))
            .prop_map(|(services, dry_run)| Wish::Apply { services, dry_run }),
        2 => (service.clone(), 0..4_u32).prop_map(|(service, replicas)| Wish::Scale { service, replicas }),
        1 => prop::collection::vec(service.clone(), 1..3).prop_map(|services| Wish::Delete { services }),
        1 => service.clone().prop_map(|service| Wish::Undo { service }),
        1 => service.prop_map(|service| Wish::Restart { service }),
    ]
}

fn happenings(members: u64) -> impl Strategy<Value = Vec<Happening>> {
    let (id, node) = (1..=members, 1..=NODES);
    let asked = prop_oneof![3 => Just(LEADER), 1 => 1..=members];
    let one = prop_oneof![
        6 => (asked.clone(), wishes()).prop_map(|(at, wish)| Happening::Ask { at, wish }),
        2 => id.clone().prop_map(|at| Happening::Read { at }),
        2 => (node.clone(), asked).prop_map(|(node, at)| Happening::Hello { node, at }),
        1 => node.clone().prop_map(|node| Happening::Bye { node }),
        4 => node.clone().prop_map(|node| Happening::Obey { node }),
        1 => (node, 0..4_usize).prop_map(|(node, nth)| Happening::Fails { node, nth }),
        4 => id.clone().prop_map(|id| Happening::Sync { id }),
        2 => (id.clone(), any::<bool>()).prop_map(|(id, is_slow)| Happening::Slow { id, is_slow }),
        1 => (id.clone(), any::<bool>()).prop_map(|(id, slowly)| Happening::SnapshotsSlowly { id, slowly }),
        4 => Just(Happening::Settle),
        3 => (1..15_u32).prop_map(Happening::Ticks),
        1 => (1..40_u64).prop_map(Happening::Advance),
        1 => (id.clone(), 0..3_usize).prop_map(|(id, kept)| Happening::Crash { id, kept }),
        2 => id.clone().prop_map(|id| Happening::Start { id }),
        1 => id.prop_map(|id| Happening::Cut { id }),
        1 => Just(Happening::Heal),
    ];
    prop::collection::vec(one, 1..60)
}

struct World {
    cluster: Cluster,
    last_id: u64,
}

impl World {
    fn new(members: u64) -> World {
        let mut world = World { cluster: Cluster::new(members, SNAPSHOT_EVERY, Millis::ZERO), last_id: 0 };
        world.recover();
        world
    }

    fn happen(&mut self, happening: Happening) {
        let leader = self.cluster.leader().unwrap_or(1);
        let meant = |at| if at == LEADER { leader } else { at };
        let cluster = &mut self.cluster;
        match happening {
            Happening::Ask { at, wish } => self.ask(meant(at), wish),
            Happening::Read { at } => self.read(at),
            Happening::Hello { node, at } => {
                let at = meant(at);
                let event = cluster.open_session(NodeId(node), at);
                cluster.hears(at, vec![event]);
            }
            Happening::Bye { node } => {
                if let Some((at, session)) =
                    cluster.agents.get_mut(&NodeId(node)).and_then(|a| a.session.take())
                {
                    cluster.hears(at, vec![Event::SessionClosed { session }]);
                }
            }
            Happening::Obey { node } => self.report(node, |agent, now| agent.obey(now)),
            Happening::Fails { node, nth } => self.report(node, |agent, now| {
                let id = agent.assigned.keys().nth(nth).copied();
                id.map(|id| agent.happens(id, Happens::Failed, now)).into_iter().collect()
            }),
            Happening::Sync { id } => cluster.sync(id),
            Happening::Slow { id, is_slow } => cluster.members.get_mut(&id).unwrap().is_slow = is_slow,
            Happening::SnapshotsSlowly { id, slowly } => {
                cluster.members.get_mut(&id).unwrap().snapshots_slowly = slowly;
            }
            Happening::Settle => cluster.settle(),
            Happening::Ticks(count) => (0..count).for_each(|_| cluster.tick()),
            Happening::Advance(seconds) => cluster.advance(Millis::from_secs(seconds)),
            Happening::Crash { id, kept } => cluster.crash(id, kept),
            Happening::Start { id } => cluster.start(id),
            Happening::Cut { id } => drop(cluster.cut.insert(id)),
            Happening::Heal => cluster.cut.clear(),
        }
    }

    /// A server that is down is not asked.
    fn ask(&mut self, at: u64, wish: Wish) {
        if self.cluster.members[&at].manager.is_none() {
            return;
        }
        self.last_id += 1;
        let event = self.cluster.request(at, RequestId(self.last_id), request(wish));
        self.cluster.hears(at, vec![event]);
    }

    fn read(&mut self, at: u64) {
        if self.cluster.members[&at].manager.is_none() {
            return;
        }
        self.last_id += 1;
        let event = self.cluster.read(at, ReadId(self.last_id));
        self.cluster.hears(at, vec![event]);
    }

    fn report(
        &mut self,
        node: u64,
        what: impl FnOnce(&mut crate::agent::Agent, model::Timestamp) -> Vec<model::Observed>,
    ) {
        let now = self.cluster.now;
        let Some(agent) = self.cluster.agents.get_mut(&NodeId(node)) else { return };
        let observed = what(agent, now);
        if let Some((at, session)) = agent.session {
            let said_at = Some(self.cluster.now);
            let report = Report { observed, said_at, ..Report::default() };
            self.cluster.hears(at, vec![Event::SessionReport { session, report }]);
        }
    }

    /// Everything works again, until somebody leads.
    fn recover(&mut self) {
        self.cluster.cut.clear();
        for id in self.cluster.members.keys().copied().collect::<Vec<_>>() {
            let member = self.cluster.members.get_mut(&id).unwrap();
            (member.is_slow, member.snapshots_slowly) = (false, false);
            self.cluster.start(id);
        }
        for _ in 0..TICKS_TO_RECOVER {
            self.cluster.tick();
            if self.cluster.leader().is_some() && self.cluster.checks.unread() == 0 {
                return;
            }
        }
        panic!("nobody leads, or a read is not answered");
    }

    /// All is well: agents find the leader, and what was asked for comes about.
    fn come_to_rest(&mut self) {
        self.recover();
        let unanswered = self.cluster.checks.unanswered();
        assert!(unanswered.is_empty(), "{unanswered:?} were never answered");
        let leader = self.cluster.leader().unwrap();
        for node in 1..=NODES {
            let event = self.cluster.open_session(NodeId(node), leader);
            self.cluster.hears(leader, vec![event]);
            self.cluster.settle();
        }
        // Longer than any deadline and any pause before a failed replica is replaced.
        for _ in 0..40 {
            self.cluster.obey();
            self.cluster.advance(Millis::from_secs(35));
        }
        let state = self.cluster.checks.state();
        for service in state.services() {
            let (key, phase) = (&service.key, service.rollout.phase.as_str());
            assert!(service.deleting_since.is_none(), "{key} is never gone");
            assert!(service.rollout.phase.is_over(), "the rollout of {key} is {phase} for ever");
            let replicas = state.replicas_of(key).count();
            // One that is paused keeps what there is for a person to look at.
            let is_as_wanted = phase == "paused" || replicas as u32 == service.spec.replicas;
            assert!(is_as_wanted, "{key} has {replicas} of {} for ever", service.spec.replicas);
        }
    }
}

fn request(wish: Wish) -> Request {
    match wish {
        Wish::Apply { services, dry_run } => {
            let declare = |(service, say, takes_port): (usize, u8, bool)| {
                let mut declared = declaration(SERVICES[service]);
                set(&mut declared, &format!("say={say}")).unwrap();
                if takes_port {
                    set(&mut declared, "port=80").unwrap();
                }
                declared
            };
            Request::Apply { declarations: services.into_iter().map(declare).collect(), dry_run }
        }
        Wish::Scale { service, replicas } => Request::Scale { service: key(SERVICES[service]), replicas },
        Wish::Delete { services } => {
            Request::Delete { services: services.into_iter().map(|service| key(SERVICES[service])).collect() }
        }
        Wish::Undo { service } => Request::Undo { service: key(SERVICES[service]), to: None },
        Wish::Restart { service } => Request::Restart { service: key(SERVICES[service]) },
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn one_server_answers_once_and_tells_only_what_is_durable(history in happenings(1)) {
        let mut world = World::new(1);
        history.into_iter().for_each(|happening| world.happen(happening));
        world.come_to_rest();
    }

    #[test]
    fn so_do_three(history in happenings(3)) {
        let mut world = World::new(3);
        history.into_iter().for_each(|happening| world.happen(happening));
        world.come_to_rest();
    }
}
