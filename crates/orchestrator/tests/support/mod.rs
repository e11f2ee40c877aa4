//! A service on a few nodes: the real store, committed to one command at a time, without any server or agent.
//!
//! Start reading at [`Cluster`]; `scripts.rs` drives it by hand, `world.rs` by a simulation.

// Each of the two test binaries uses a part of it.
#![allow(dead_code)]
#![expect(clippy::unwrap_used, reason = "a test fails where it goes wrong")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use model::{
    Bytes, Capabilities, ContainerObserved, ContainerSpec, ContainerState, CountOrPercent, Exit, ExitCause,
    Health, IdSource, ImageRef, MilliCpu, Millis, Name, NodeId, NodeInfo, Observed, OnFailure, Phase,
    Replica, ReplicaId, ReplicaTemplate, Resources, RestartPolicy, RevisionHash, Service, ServiceKey,
    ServiceSpec, Timeline, Timestamp, UpdateOrder, UpdatePolicy, Version,
};
use orchestrator::{Plan, reconcile};
use store::{
    Apply, Changes, Command, NodeChange, NodeStatus, Observations, Outcome, Placement, Rejected, State,
};

pub(crate) struct Cluster {
    pub(crate) state: State,
    pub(crate) observed: Observations,
    pub(crate) now: Timestamp,
    pub(crate) ids: IdSource,
    /// What a replica is called: `web.1@2`, and `web.1@2#2` for the second in the slot at that revision.
    pub(crate) labels: BTreeMap<ReplicaId, String>,
    created: BTreeMap<String, u32>,
}

pub(crate) const NODES: u64 = 3;

impl Cluster {
    pub(crate) fn new(seed: u64) -> Cluster {
        let mut cluster = Cluster {
            state: State::default(),
            observed: Observations::default(),
            now: Timestamp(1_000_000),
            ids: IdSource::new(seed),
            labels: BTreeMap::new(),
            created: BTreeMap::new(),
        };
        for id in (1..=NODES).map(NodeId) {
            let at = cluster.now;
            cluster.commit(Command::Register { info: node_info(id), at }).expect("a node registers");
            cluster.observed.set_node(id, NodeStatus::Ready, at);
        }
        cluster
    }

    pub(crate) fn commit(&mut self, command: Command) -> Result<(Outcome, Changes), Rejected> {
        let next = Version(self.state.version().0 + 1);
        self.state.apply(next, command)
    }

    pub(crate) fn apply(
        &mut self,
        service: &ServiceKey,
        spec: ServiceSpec,
    ) -> Result<(Outcome, Changes), Rejected> {
        let nonce = spec.template.restart_nonce;
        let hash = RevisionHash(std::array::from_fn(|i| nonce.to_be_bytes()[i % 8]));
        let (labels, annotations, expects, at) = (BTreeMap::new(), BTreeMap::new(), None, self.now);
        self.commit(Command::Apply(Apply {
            service: service.clone(),
            labels,
            annotations,
            spec,
            hash,
            expects,
            at,
        }))
    }

    /// The plan for a service; it is not committed.
    pub(crate) fn plan(&mut self, service: &ServiceKey) -> Plan {
        reconcile(&self.state, &self.observed, service, &mut self.ids, self.now)
    }

    /// Commits a plan's steps and names the new replicas.
    pub(crate) fn commit_plan(&mut self, key: &ServiceKey, plan: &Plan) {
        for step in &plan.steps {
            if let store::Step::Create { id, slot, revision, .. } = step {
                let label = format!("{key}.{slot}@{revision}");
                let nth = self.created.entry(label.clone()).or_default();
                *nth += 1;
                let label = if *nth == 1 { label } else { format!("{label}#{nth}") };
                self.labels.insert(*id, label);
            }
        }
        if plan.steps.is_empty() {
            return;
        }
        let based_on = self.service(key).version;
        let (service, steps, at) = (key.clone(), plan.steps.clone(), self.now);
        let (_, changes) =
            self.commit(Command::Progress { service, based_on, steps, at }).expect("the plan is up to date");
        for id in changes.forgotten {
            self.observed.forget(id);
        }
    }

    /// Something is decided of a node.
    pub(crate) fn decide(&mut self, node: NodeId, change: NodeChange) {
        let at = self.now;
        self.commit(Command::Node { node, change, at }).expect("the node exists");
    }

    /// Whether the scheduler could place a replica of the service there.
    pub(crate) fn takes(&self, service: &ServiceKey, node: NodeId) -> bool {
        let (service, known) = (self.service(service), self.state.node(node).unwrap());
        let fits = service.spec.placement.lacking(&known.effective_labels()).is_none();
        fits && known.scheduling.is_open() && known.down.is_none() && self.observed.is_ready(node)
    }

    /// Gives every replica that waits for one a node: slot by slot in turn, and the next where that takes nothing.
    pub(crate) fn place_all(&mut self) {
        let waits = |replica: &&std::sync::Arc<Replica>| {
            replica.node.is_none() && replica.desired != model::Desired::Stopped
        };
        let node = |replica: &Replica| {
            let mut nodes = (0..NODES).map(|n| NodeId((u64::from(replica.slot.get() - 1) + n) % NODES + 1));
            nodes.find(|node| self.takes(&replica.service, *node))
        };
        let placements: Vec<Placement> = self
            .state
            .replicas()
            .filter(waits)
            .filter_map(|replica| Some(Placement { replica: replica.id, node: node(replica)? }))
            .collect();
        if !placements.is_empty() {
            let at = self.now;
            self.commit(Command::Place { placements, at }).expect("placing is never refused");
        }
    }

    pub(crate) fn service(&self, key: &ServiceKey) -> &Service {
        self.state.service(key).expect("the service exists")
    }

    pub(crate) fn exists(&self, key: &ServiceKey) -> bool {
        self.state.service(key).is_some()
    }

    pub(crate) fn label(&self, id: ReplicaId) -> &str {
        &self.labels[&id]
    }

    /// Changes what its node last said of a replica.
    pub(crate) fn observe(&mut self, id: ReplicaId, change: impl FnOnce(&mut Observed, Timestamp)) {
        let mut seen = self.observed.replica(id).map_or_else(|| unseen(id), |seen| Observed::clone(seen));
        change(&mut seen, self.now);
        self.observed.observe(seen);
    }
}

pub(crate) fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: Name::new("default").unwrap(), name: Name::new(name).unwrap() }
}

/// A spec whose template is told from others by `nonce` alone.
pub(crate) fn spec(nonce: u64) -> ServiceSpec {
    let update = UpdatePolicy {
        max_surge: CountOrPercent::Count(1),
        max_unavailable: CountOrPercent::Count(0),
        order: UpdateOrder::StartFirst,
        min_ready: Millis::ZERO,
        healthy_deadline: Millis::from_secs(30),
        progress_deadline: Millis::from_secs(600),
        on_failure: OnFailure::Rollback,
    };
    ServiceSpec {
        replicas: 3,
        update,
        placement: Default::default(),
        node_loss: Default::default(),
        template: template(nonce),
    }
}

fn template(nonce: u64) -> ReplicaTemplate {
    let digest = format!("sha256:{nonce:064x}").parse().unwrap();
    let main = ContainerSpec {
        name: Name::new("main").unwrap(),
        image: ImageRef { reference: "hello".to_owned(), digest: Some(digest) },
        command: None,
        args: None,
        working_dir: None,
        user: None,
        env: BTreeMap::new(),
        resources: Resources::default(),
        health: Health::default(),
        stop_signal: None,
        mounts: Vec::new(),
        read_only_rootfs: false,
        capabilities: Capabilities { add: BTreeSet::new(), drop: BTreeSet::new() },
        init: true,
    };
    ReplicaTemplate {
        main,
        sidecars: Vec::new(),
        init: Vec::new(),
        ports: Vec::new(),
        restart: RestartPolicy::default(),
        stop_grace: Millis::from_secs(10),
        on_partition: model::OnPartition::Continue,
        restart_nonce: nonce,
    }
}

fn node_info(id: NodeId) -> NodeInfo {
    NodeInfo {
        id,
        name: Name::new(&format!("n{}", id.0)).unwrap(),
        labels: BTreeMap::new(),
        cpu: MilliCpu(4_000),
        memory: Bytes(8 << 30),
        address: Ipv4Addr::LOCALHOST,
        subnet: None,
        agent_version: "0.1.0".to_owned(),
    }
}

pub(crate) fn unseen(replica: ReplicaId) -> Observed {
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

// What can happen to a replica on its node. Each is a change for `Cluster::observe`.

pub(crate) fn prepared(seen: &mut Observed, now: Timestamp) {
    seen.phase = Phase::Prepared;
    seen.timeline.image_ready.get_or_insert(now);
}

pub(crate) fn started(seen: &mut Observed, now: Timestamp) {
    seen.phase = Phase::Running;
    seen.ready_since = None;
    seen.message = None;
    seen.timeline.started.get_or_insert(now);
    seen.containers[0].state = ContainerState::Running { pid: 1, since: now, ready: false };
}

pub(crate) fn ready(seen: &mut Observed, now: Timestamp) {
    let since = seen.ready_since;
    started(seen, now);
    seen.ready_since = since.or(Some(now));
    seen.timeline.ready.get_or_insert(now);
    seen.containers[0].state = ContainerState::Running { pid: 1, since: now, ready: true };
}

/// The main container ended and is started again: at once the first time, after a pause from then on.
pub(crate) fn crashed(seen: &mut Observed, now: Timestamp, code: u8) {
    started(seen, now);
    let main = &mut seen.containers[0];
    main.last_exit = Some(exit(code, now));
    if main.restarts == 0 {
        main.restarts = 1;
    } else {
        main.state = ContainerState::BackingOff { until: now + Millis::from_secs(10) };
    }
}

/// The pause before a restart is over.
pub(crate) fn restarted(seen: &mut Observed, now: Timestamp) {
    let main = &mut seen.containers[0];
    if let ContainerState::BackingOff { .. } = main.state {
        main.restarts += 1;
        main.state = ContainerState::Running { pid: 1, since: now, ready: false };
    }
}

/// It ended and its node does not start it again.
pub(crate) fn failed(seen: &mut Observed, now: Timestamp, code: u8) {
    over(seen, now, Phase::Failed, code);
}

pub(crate) fn completed(seen: &mut Observed, now: Timestamp) {
    over(seen, now, Phase::Completed, 0);
}

fn over(seen: &mut Observed, now: Timestamp, phase: Phase, code: u8) {
    seen.phase = phase;
    seen.ready_since = None;
    seen.containers.iter_mut().for_each(|container| container.state = ContainerState::Ended);
    seen.containers[0].last_exit = Some(exit(code, now));
}

/// The same while the container beside it has not ended yet.
pub(crate) fn failing(seen: &mut Observed, now: Timestamp, code: u8) {
    failed(seen, now, code);
    let state = ContainerState::Running { pid: 2, since: now, ready: false };
    let name = Name::new("proxy").unwrap();
    seen.containers.push(ContainerObserved { name, state, restarts: 0, last_exit: None });
}

pub(crate) fn stopping(seen: &mut Observed, _: Timestamp) {
    seen.phase = Phase::Stopping;
    seen.ready_since = None;
}

pub(crate) fn removed(seen: &mut Observed, _: Timestamp) {
    seen.phase = Phase::Removed;
    seen.ready_since = None;
}

fn exit(code: u8, at: Timestamp) -> Exit {
    Exit { cause: ExitCause::Code(code), at, ran_for: Millis::from_secs(1) }
}
