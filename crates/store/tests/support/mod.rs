//! A store that is spoken to in few words.

// Each of the test binaries uses a part of it.
#![allow(dead_code)]
#![expect(clippy::unwrap_used, reason = "a test fails where it goes wrong")]

use std::{collections::BTreeMap, net::Ipv4Addr};

use model::{
    Bytes, Capabilities, ContainerSpec, Desired, Health, ImageRef, MilliCpu, Millis, Name, Node, NodeId,
    NodeInfo, Port, Protocol, Replica, ReplicaId, ReplicaTemplate, Resources, RestartPolicy, Revision,
    RevisionHash, RevisionNumber, Service, ServiceKey, ServiceSpec, Slot, Timestamp, UpdatePolicy, Version,
};
use store::{Apply, Changes, Command, Objects, Outcome, Placement, Rejected, State, Step};

pub(crate) type Answer = Result<(Outcome, Changes), Rejected>;

pub(crate) fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: Name::new("default").unwrap(), name: Name::new(name).unwrap() }
}

/// A spec of so many replicas whose template is told from others by `nonce`, and which publishes these ports.
pub(crate) fn spec(nonce: u64, replicas: u32, publishes: &[u16]) -> ServiceSpec {
    let main = ContainerSpec {
        name: Name::new("main").unwrap(),
        image: ImageRef { reference: "hello".to_owned(), digest: None },
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
        capabilities: Capabilities::default(),
        init: true,
    };
    let port = |publish: &u16| Port {
        name: Name::new(&format!("p{publish}")).unwrap(),
        port: 80,
        protocol: Protocol::Tcp,
        publish: Some(*publish),
    };
    let template = ReplicaTemplate {
        main,
        sidecars: Vec::new(),
        init: Vec::new(),
        ports: publishes.iter().map(port).collect(),
        restart: RestartPolicy::default(),
        stop_grace: Millis::ZERO,
        on_partition: model::OnPartition::Continue,
        restart_nonce: nonce,
    };
    ServiceSpec {
        replicas,
        update: UpdatePolicy::default(),
        placement: Default::default(),
        node_loss: Default::default(),
        template,
    }
}

pub(crate) fn apply_of(name: &str, spec: ServiceSpec) -> Apply {
    let ports: u64 = spec.template.ports.iter().map(|port| u64::from(port.publish.unwrap_or(0))).sum();
    let content = spec.template.restart_nonce << 20 | ports;
    Apply {
        service: key(name),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        spec,
        hash: RevisionHash(std::array::from_fn(|i| content.to_be_bytes()[i % 8])),
        expects: None,
        at: Timestamp(0),
    }
}

pub(crate) fn node_info(id: u64) -> NodeInfo {
    NodeInfo {
        id: NodeId(id),
        name: Name::new(&format!("n{id}")).unwrap(),
        labels: BTreeMap::new(),
        cpu: MilliCpu(1_000),
        memory: Bytes(1 << 30),
        address: Ipv4Addr::LOCALHOST,
        subnet: None,
        agent_version: String::new(),
    }
}

/// What tests say to a state; each is one log entry.
pub(crate) trait Speak {
    fn say(&mut self, command: Command) -> Answer;

    fn apply_spec(&mut self, name: &str, spec: ServiceSpec) -> Answer {
        self.say(Command::Apply(apply_of(name, spec)))
    }

    fn undo(&mut self, name: &str, to: u64) -> Answer {
        self.say(Command::Undo { service: key(name), to: RevisionNumber(to), at: Timestamp(0) })
    }

    fn scale(&mut self, name: &str, replicas: u32) -> Answer {
        self.say(Command::Scale { service: key(name), replicas, at: Timestamp(0) })
    }

    fn delete(&mut self, name: &str) -> Answer {
        self.say(Command::Delete { service: key(name), at: Timestamp(0) })
    }

    fn register(&mut self, id: u64) {
        self.say(Command::Register { info: node_info(id), at: Timestamp(0) }).unwrap();
    }

    fn put(&mut self, replica: u64, node: u64) -> Answer {
        let placements = vec![Placement { replica: ReplicaId(replica), node: NodeId(node) }];
        self.say(Command::Place { placements, at: Timestamp(5) })
    }

    fn based_on(&mut self, name: &str, based_on: Version, steps: Vec<Step>) -> Answer {
        self.say(Command::Progress { service: key(name), based_on, steps, at: Timestamp(9) })
    }
}

impl Speak for State {
    fn say(&mut self, command: Command) -> Answer {
        self.apply(Version(self.version().0 + 1), command)
    }
}

pub(crate) fn steps(state: &mut State, name: &str, steps: Vec<Step>) -> Changes {
    let based_on = service(state, name).version;
    state.based_on(name, based_on, steps).unwrap().1
}

pub(crate) fn create(id: u64, slot: u32, revision: u64) -> Step {
    let (id, slot) = (ReplicaId(id), Slot::new(slot).unwrap());
    Step::Create { id, slot, revision: RevisionNumber(revision), desired: Desired::Running }
}

pub(crate) fn service<'a>(state: &'a State, name: &str) -> &'a Service {
    state.service(&key(name)).unwrap()
}

/// The same state put together again from its objects alone, as from a snapshot.
pub(crate) fn restored(state: &State) -> State {
    let services: Vec<Service> = state.services().map(|it| Service::clone(it)).collect();
    let revisions: Vec<(ServiceKey, Revision)> =
        state.all_revisions().map(|(key, it)| (key.clone(), Revision::clone(it))).collect();
    let replicas: Vec<Replica> = state.replicas().map(|it| Replica::clone(it)).collect();
    let nodes: Vec<Node> = state.nodes().map(|it| Node::clone(it)).collect();
    let removed_nodes = state.removed_nodes().collect();
    let events: Vec<model::Event> = state.events().map(|it| model::Event::clone(it)).collect();
    let settings = *state.settings();
    let members = state.members().map(|it| model::Member::clone(it)).collect();
    let trust = state.trust().map(|it| model::ClusterTrust::clone(it));
    let join_tokens = state.join_tokens().map(|it| model::JoinToken::clone(it)).collect();
    let first =
        Objects { services, revisions, replicas, nodes, removed_nodes, settings, ..Objects::default() };
    let decided_at = state.decided_at();
    let objects = Objects { events, members, trust, join_tokens, decided_at, ..first };
    State::restore(state.version(), objects)
}
