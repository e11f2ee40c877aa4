//! A random world around the reconciler: agents that take their time, crash and fail, nodes that fall silent, leaders
//! that forget, and users who apply, scale and undo at any moment. After every plan what must never be is checked, and
//! once the trouble ends the service must converge.
//!
//! A seed is a whole world. `WORLD_SEED=17 cargo test -p orchestrator --test world` runs one alone; `WORLD_SEEDS=5000`
//! runs so many.

#[path = "world/agents.rs"]
mod agents;
#[path = "world/promises.rs"]
mod promises;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use model::{
    CountOrPercent, Desired, IdSource, Millis, NodeId, Observed, OnFailure, OnPartition, Replica, ReplicaId,
    RolloutPhase, ServiceKey, ServiceSpec, Timestamp, UpdateOrder,
};
use orchestrator::Plan;
use store::{Command, NodeChange, NodeStatus, Observations, Placement};
use support::{Cluster, NODES, key};

const STEPS: usize = 1_000;
/// Each lets every agent act once; a rollout of six replicas, one by one, needs a few for each.
const ROUNDS_TO_CONVERGE: usize = 120;

#[test]
fn no_world_breaks_the_promises() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("WORLD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WORLD_SEEDS").unwrap_or(200),
    };
    let mut sum = Tally::default();
    let all = seeds.end - seeds.start;
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| World::new(seed).live());
        let Ok(tally) = outcome else { panic!("seed {seed} fails: WORLD_SEED={seed} replays it") };
        sum.completed += tally.completed;
        sum.failed += tally.failed;
        sum.paused += tally.paused;
        sum.rolled_back += tally.rolled_back;
    }
    // A world in which nothing ever succeeds or fails would prove nothing.
    if all > 50 {
        let enough = sum.completed > all && sum.failed.min(sum.paused).min(sum.rolled_back) > all / 10;
        assert!(enough, "{sum:?}");
    }
}

#[derive(Debug, Default)]
struct Tally {
    completed: u64,
    failed: u64,
    paused: u64,
    rolled_back: u64,
}

struct World {
    cluster: Cluster,
    service: ServiceKey,
    random: IdSource,
    order: UpdateOrder,
    /// What really is on the nodes, heard of or not.
    truth: BTreeMap<ReplicaId, Observed>,
    /// What each agent was last told.
    told: BTreeMap<ReplicaId, Replica>,
    /// Told to stop while its node was lost: nobody waits for it any more.
    given_up: BTreeSet<ReplicaId>,
    /// Since when nodes have not been heard by any leader: by then each was given a lease.
    unheard_since: BTreeMap<NodeId, Timestamp>,
    tally: Tally,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = IdSource::new(seed);
        let order = match random.next_u64() % 2 {
            0 => UpdateOrder::StartFirst,
            _ => UpdateOrder::StopFirst,
        };
        World {
            cluster: Cluster::new(seed),
            service: key("web"),
            random,
            order,
            truth: BTreeMap::new(),
            told: BTreeMap::new(),
            given_up: BTreeSet::new(),
            unheard_since: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    fn live(mut self) -> Tally {
        self.apply();
        for _ in 0..STEPS {
            match self.below(100) {
                0 if self.below(2) == 0 => self.apply(),
                0 => self.scale_or_undo(),
                1 => self.fall_silent(),
                2..=9 => self.reconnect(),
                10 if self.below(3) == 0 => self.change_leader(),
                11 => self.decide_of_a_node(),
                10..=35 => self.reconcile(),
                36..=45 => self.place(),
                46..=50 => {
                    let span = Millis(self.below(20_000));
                    self.time_passes(span);
                }
                _ => self.agents_act(),
            }
        }
        self.converge();
        self.tally
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound
    }

    // Users.

    fn apply(&mut self) {
        let nonce = self.below(8);
        let spec = self.any_spec(nonce);
        self.cluster.apply(&self.service.clone(), spec).expect("nothing else is applied");
    }

    fn any_spec(&mut self, nonce: u64) -> ServiceSpec {
        let mut spec = support::spec(nonce);
        spec.replicas = self.below(7) as u32;
        spec.update.order = self.order;
        if self.below(4) == 0 {
            spec.placement.nodes.insert("disk".to_owned(), "ssd".to_owned());
        }
        if self.below(3) == 0 {
            spec.template.on_partition = OnPartition::Stop;
        }
        spec.node_loss.replace_after = Millis(self.below(2) * 20_000);
        spec.update.max_surge = self.any_share();
        spec.update.max_unavailable = self.any_share();
        spec.update.min_ready = Millis(self.below(3) * 5_000);
        spec.update.progress_deadline = Millis::from_secs(60 + self.below(120));
        spec.update.on_failure = match self.below(4) {
            0 => OnFailure::Pause,
            1 => OnFailure::Continue,
            _ => OnFailure::Rollback,
        };
        spec
    }

    fn any_share(&mut self) -> CountOrPercent {
        match self.below(2) {
            0 => CountOrPercent::Count(self.below(3) as u32),
            _ => CountOrPercent::Percent(self.below(4) as u8 * 25),
        }
    }

    fn scale_or_undo(&mut self) {
        if self.below(2) == 0 {
            return self.undo();
        }
        let (service, replicas, at) = (self.service.clone(), self.below(7) as u32, self.cluster.now);
        self.cluster.commit(Command::Scale { service, replicas, at }).expect("the service exists");
    }

    fn undo(&mut self) {
        let kept: Vec<_> = self.cluster.state.revisions(&self.service).map(|kept| kept.number).collect();
        let to = kept[self.below(kept.len() as u64) as usize];
        let (service, at) = (self.service.clone(), self.cluster.now);
        self.cluster.commit(Command::Undo { service, to, at }).expect("the revision is kept");
    }

    // Nodes and leaders.

    fn any_node(&mut self) -> NodeId {
        NodeId(self.below(NODES) + 1)
    }

    fn fall_silent(&mut self) {
        let node = self.any_node();
        self.unheard_since.entry(node).or_insert(self.cluster.now);
        self.cluster.observed.set_node(node, NodeStatus::Unknown, self.cluster.now);
    }

    /// By a user, or by the leader of one that is silent.
    fn decide_of_a_node(&mut self) {
        let node = self.any_node();
        let disk = || "disk".to_owned();
        let change = match self.below(6) {
            0 => NodeChange::Drain { deadline: None, reason: None },
            1 => NodeChange::Uncordon,
            2 => NodeChange::Label { set: [(disk(), "ssd".to_owned())].into(), unset: [].into() },
            3 => NodeChange::Label { set: [].into(), unset: [disk()].into() },
            _ if self.cluster.observed.is_ready(node) => NodeChange::Uncordon,
            _ => NodeChange::Down { silent_for: Millis::from_secs(15) },
        };
        self.cluster.decide(node, change);
    }

    fn change_leader(&mut self) {
        self.cluster.observed = Observations::default();
        for node in (1..=NODES).map(NodeId) {
            self.unheard_since.entry(node).or_insert(self.cluster.now);
            self.cluster.observed.set_node(node, NodeStatus::Unknown, self.cluster.now);
        }
    }

    fn reconnect(&mut self) {
        let node = self.any_node();
        self.open_session(node);
    }

    /// The agent says all that it has and hears all that it should have.
    fn open_session(&mut self, node: NodeId) {
        self.cluster.observed.set_node(node, NodeStatus::Ready, self.cluster.now);
        self.unheard_since.remove(&node);
        self.cluster.decide(node, NodeChange::Up);
        let replicas: Vec<_> = self.cluster.state.replicas_on(node).cloned().collect();
        for replica in replicas {
            self.tell(&replica);
        }
    }

    /// What is on a node that can be heard is known, and what it should do it is told.
    fn tell(&mut self, replica: &Replica) {
        if !replica.node.is_some_and(|node| self.cluster.observed.is_ready(node)) {
            return;
        }
        self.told.insert(replica.id, replica.clone());
        if let Some(seen) = self.truth.get(&replica.id) {
            self.cluster.observed.observe(seen.clone());
        }
    }

    fn place(&mut self) {
        let waits = |replica: &Replica| replica.node.is_none() && replica.desired != Desired::Stopped;
        let pending: Vec<ReplicaId> = self
            .cluster
            .state
            .replicas()
            .filter(|replica| waits(replica))
            .map(|replica| replica.id)
            .collect();
        let mut placements = Vec::new();
        for replica in pending {
            let node = self.any_node();
            if self.cluster.takes(&self.service, node) {
                placements.push(Placement { replica, node });
            }
        }
        let at = self.cluster.now;
        self.cluster.commit(Command::Place { placements, at }).expect("placing is never refused");
        self.tell_all();
    }

    fn tell_all(&mut self) {
        let replicas: Vec<_> = self.cluster.state.replicas().cloned().collect();
        for replica in replicas {
            self.tell(&replica);
        }
    }

    /// The trouble ends: nodes are heard, agents do as they are told, and a good revision is applied.
    fn converge(&mut self) {
        const GOOD: u64 = 99;
        let mut spec = self.any_spec(GOOD);
        spec.update.progress_deadline = Millis::from_secs(3_600);
        let wanted = spec.replicas;
        for node in (1..=NODES).map(NodeId) {
            self.cluster.decide(node, NodeChange::Uncordon);
            let set = [("disk".to_owned(), "ssd".to_owned())].into();
            self.cluster.decide(node, NodeChange::Label { set, unset: [].into() });
        }
        self.cluster.apply(&self.service.clone(), spec).expect("nothing else is applied");
        for _ in 0..ROUNDS_TO_CONVERGE {
            for node in (1..=NODES).map(NodeId) {
                self.open_session(node);
            }
            self.reconcile();
            self.place();
            let plan = self.cluster.plan(&self.service.clone());
            if plan == Plan::default() {
                return self.check_converged(wanted);
            }
            for replica in self.told.values().cloned().collect::<Vec<_>>() {
                self.act(&replica, 50);
            }
            self.time_passes(Millis::from_secs(5));
        }
        panic!("does not converge: {:#?}", self.cluster.plan(&self.service.clone()));
    }

    fn check_converged(&self, wanted: u32) {
        let service = self.cluster.service(&self.service);
        assert!(matches!(service.rollout.phase, RolloutPhase::Completed { .. }), "{:?}", service.rollout);
        let replicas: Vec<_> = self.cluster.state.replicas_of(&self.service).collect();
        let slots: Vec<u32> = replicas.iter().map(|replica| replica.slot.get()).collect();
        assert_eq!(slots, (1..=wanted).collect::<Vec<_>>(), "each slot has exactly one replica");
        for replica in replicas {
            let seen = &self.truth[&replica.id];
            assert_eq!(replica.revision, service.revision);
            assert!(seen.ready_since.is_some(), "{seen:?}");
        }
    }
}
