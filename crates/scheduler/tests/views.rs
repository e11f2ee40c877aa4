//! From the real store to what the scheduler sees.
#![expect(clippy::unwrap_used, reason = "a test fails where it goes wrong")]

use std::{collections::BTreeMap, net::Ipv4Addr};

use model::{
    Bytes, Capabilities, ContainerObserved, ContainerSpec, ContainerState, Desired, Health, ImageRef,
    MilliCpu, Millis, Name, NodeId, NodeInfo, Observed, Phase, ReplicaId, ReplicaTemplate, Resources,
    RestartPolicy, RevisionHash, RevisionNumber, ServiceKey, ServiceSpec, Slot, StopReason, Timeline,
    Timestamp, UpdatePolicy, Version,
};
use scheduler::{Amount, Decision, NodeView, Pending, demand, place, views};
use store::{Apply, Command, NodeStatus, Observations, Placement, State, Step};

const NOW: Timestamp = Timestamp(1_000);
const NODE: NodeId = NodeId(1);

fn container(name: &str, cpu: Option<u64>, memory_mib: u64) -> ContainerSpec {
    ContainerSpec {
        name: Name::new(name).unwrap(),
        image: ImageRef { reference: "hello".to_owned(), digest: None },
        command: None,
        args: None,
        working_dir: None,
        user: None,
        env: BTreeMap::new(),
        resources: Resources { cpu: cpu.map(MilliCpu), memory: Bytes(memory_mib << 20), pids: 10 },
        health: Health::default(),
        stop_signal: None,
        mounts: Vec::new(),
        read_only_rootfs: false,
        capabilities: Capabilities::default(),
        init: true,
    }
}

fn template(main: ContainerSpec) -> ReplicaTemplate {
    ReplicaTemplate {
        main,
        sidecars: Vec::new(),
        init: Vec::new(),
        ports: Vec::new(),
        restart: RestartPolicy::default(),
        stop_grace: Millis::ZERO,
        on_partition: model::OnPartition::Continue,
        restart_nonce: 0,
    }
}

fn amount(cpu: u64, memory_mib: u64) -> Amount {
    Amount { cpu: MilliCpu(cpu), memory: Bytes(memory_mib << 20) }
}

/// One node of 1,000 MiB, and a service whose revision 1 wants 600 MiB and revision 2 wants 700 MiB.
struct Cluster {
    state: State,
    observed: Observations,
    service: ServiceKey,
}

impl Cluster {
    fn new() -> Cluster {
        let name = |text| Name::new(text).unwrap();
        let service = ServiceKey { namespace: name("default"), name: name("db") };
        let mut cluster = Cluster { state: State::default(), observed: Observations::default(), service };
        let info = NodeInfo {
            id: NODE,
            name: name("n1"),
            labels: BTreeMap::new(),
            cpu: MilliCpu(1_000),
            memory: Bytes(1_000 << 20),
            address: Ipv4Addr::LOCALHOST,
            subnet: None,
            agent_version: String::new(),
        };
        cluster.commit(Command::Register { info, at: NOW });
        cluster.observed.set_node(NODE, NodeStatus::Ready, NOW);
        for (hash, memory_mib) in [(1, 600), (2, 700)] {
            let template = template(container("main", None, memory_mib));
            let spec = ServiceSpec {
                replicas: 2,
                update: UpdatePolicy::default(),
                placement: Default::default(),
                node_loss: Default::default(),
                template,
            };
            cluster.commit(Command::Apply(Apply {
                service: cluster.service.clone(),
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
                spec,
                hash: RevisionHash([hash; 32]),
                expects: None,
                at: NOW,
            }));
        }
        cluster
    }

    fn commit(&mut self, command: Command) {
        self.state.apply(Version(self.state.version().0 + 1), command).unwrap();
    }

    fn step(&mut self, step: Step) {
        let based_on = self.state.service(&self.service).unwrap().version;
        let service = self.service.clone();
        self.commit(Command::Progress { service, based_on, steps: vec![step], at: NOW });
    }

    fn create(&mut self, id: u64, slot: u32, revision: u64, desired: Desired) {
        let (id, slot) = (ReplicaId(id), Slot::new(slot).unwrap());
        self.step(Step::Create { id, slot, revision: RevisionNumber(revision), desired });
    }

    fn put_on_node(&mut self, id: u64) {
        let placements = vec![Placement { replica: ReplicaId(id), node: NODE }];
        self.commit(Command::Place { placements, at: NOW });
    }

    fn see(&mut self, id: u64, phase: Phase) {
        self.see_with(id, phase, Vec::new());
    }

    fn see_with(&mut self, id: u64, phase: Phase, containers: Vec<ContainerObserved>) {
        self.observed.observe(Observed {
            replica: ReplicaId(id),
            phase,
            ready_since: None,
            timeline: Timeline::default(),
            address: None,
            containers,
            message: None,
        });
    }

    fn views(&self) -> (Vec<Pending>, NodeView) {
        let (pending, mut nodes) = views(&self.state, &self.observed);
        assert_eq!(nodes.len(), 1);
        (pending, nodes.remove(0))
    }
}

#[test]
fn a_replica_asks_for_all_that_runs_together_or_for_its_largest_init_container() {
    let mut whole = template(container("main", Some(500), 100));
    assert_eq!(demand(&whole), amount(500, 100));
    whole.sidecars = vec![container("proxy", None, 50), container("log", Some(100), 20)];
    assert_eq!(demand(&whole), amount(600, 170));
    whole.init = vec![container("migrate", None, 400), container("warm", Some(900), 10)];
    assert_eq!(demand(&whole), amount(900, 400));
}

#[test]
fn room_is_held_from_placement_until_the_end_on_the_node() {
    let mut cluster = Cluster::new();
    cluster.create(1, 1, 1, Desired::Running);
    let (pending, node) = cluster.views();
    assert_eq!(
        pending.iter().map(|one| (one.replica, one.wants)).collect::<Vec<_>>(),
        [(ReplicaId(1), amount(0, 600))]
    );
    assert_eq!((node.allocated, node.replicas), (Amount::NOTHING, 0));

    cluster.put_on_node(1);
    let (pending, node) = cluster.views();
    assert_eq!(pending, []);
    assert_eq!((node.allocated, node.replicas), (amount(0, 600), 1));
    assert_eq!(node.replicas_of[&cluster.service], BTreeMap::from([(RevisionNumber(1), 1)]));

    // One that stops still needs its memory, but is no reason to stay away for others of its service.
    cluster.step(Step::Stop { id: ReplicaId(1), reason: StopReason::ScaledDown });
    cluster.see(1, Phase::Stopping);
    let (_, node) = cluster.views();
    assert_eq!((node.allocated, node.replicas), (amount(0, 600), 0));

    cluster.see(1, Phase::Removed);
    assert_eq!(cluster.views().1.allocated, Amount::NOTHING);
}

#[test]
fn one_that_failed_holds_its_room_while_a_container_beside_it_runs() {
    let mut cluster = Cluster::new();
    cluster.create(1, 1, 1, Desired::Running);
    cluster.put_on_node(1);
    let beside = |state| {
        let name = Name::new("proxy").unwrap();
        vec![ContainerObserved { name, state, restarts: 0, last_exit: None }]
    };
    cluster.see_with(1, Phase::Failed, beside(ContainerState::Running { pid: 5, since: NOW, ready: true }));
    assert_eq!(cluster.views().1.allocated, amount(0, 600));
    cluster.see_with(1, Phase::Failed, beside(ContainerState::Ended));
    assert_eq!(cluster.views().1.allocated, Amount::NOTHING);
}

#[test]
fn a_prepared_successor_takes_over_the_room_of_what_it_waits_for() {
    let mut cluster = Cluster::new();
    cluster.create(1, 1, 1, Desired::Running);
    cluster.put_on_node(1);
    cluster.create(2, 1, 2, Desired::Prepared);
    // Nothing is known of the first: it may have ended, and have nothing to leave.
    let (pending, node) = cluster.views();
    assert_eq!((&pending[0].frees[..], node.allocated), (&[][..], amount(0, 600)));
    cluster.see(1, Phase::Running);
    let (pending, node) = cluster.views();
    assert_eq!(pending[0].frees, [(NODE, amount(0, 600))]);
    let placed = Decision::Placed { replica: ReplicaId(2), node: NODE };
    assert_eq!(place(&pending, &[node]), [placed], "700 MiB would not fit beside 600");

    // Both are on the node now: the larger of the two counts.
    cluster.put_on_node(2);
    assert_eq!(cluster.views().1.allocated, amount(0, 700));

    // One in another slot has nobody to take over from.
    cluster.create(3, 2, 1, Desired::Prepared);
    assert_eq!(cluster.views().0[0].frees, []);

    cluster.step(Step::Stop { id: ReplicaId(1), reason: StopReason::ScaledDown });
    cluster.see(1, Phase::Completed);
    cluster.step(Step::Start { id: ReplicaId(2) });
    assert_eq!(cluster.views().1.allocated, amount(0, 700));
}

#[test]
fn one_that_was_stopped_before_it_started_leaves_no_room() {
    let mut cluster = Cluster::new();
    cluster.create(1, 1, 1, Desired::Running);
    cluster.put_on_node(1);
    cluster.see(1, Phase::Running);
    cluster.create(2, 1, 2, Desired::Prepared);
    cluster.put_on_node(2);
    // Superseded in its turn: the 700 MiB that it was promised are those of the first.
    cluster.step(Step::Stop { id: ReplicaId(2), reason: StopReason::Replaced { by: RevisionNumber(3) } });
    cluster.see(2, Phase::Stopping);
    cluster.create(3, 1, 2, Desired::Prepared);
    assert_eq!(cluster.views().0[0].frees, [(NODE, amount(0, 600))]);
}

#[test]
fn a_node_that_was_not_heard_takes_nothing() {
    let mut cluster = Cluster::new();
    assert!(cluster.views().1.ready);
    cluster.observed.set_node(NODE, NodeStatus::Unknown, NOW);
    assert!(!cluster.views().1.ready);
    cluster.observed = Observations::default();
    assert!(!cluster.views().1.ready);
}
