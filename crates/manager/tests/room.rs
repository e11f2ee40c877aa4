//! What waits for room is placed when there is some.
#![expect(clippy::unwrap_used, reason = "a test fails where it goes wrong")]

use std::{cell::RefCell, collections::BTreeMap, net::Ipv4Addr};

use consensus::Recovered;
use manager::{
    Codec, CodecError, Config, Declaration, Effect, Event, Hello, Manager, Report, Request, RequestId,
    SessionId,
};
use model::{
    Backoff, Bytes, Capabilities, ContainerSpec, Health, ImageRef, MilliCpu, Millis, Name, NodeId, NodeInfo,
    Observed, Phase, ReplicaId, ReplicaTemplate, Resources, RestartPolicy, RestartWhen, ServiceKey,
    ServiceSpec, Timeline, Timestamp, UpdatePolicy,
};
use store::{Command, State};

const NOW: Timestamp = Timestamp(1_000_000);
const SESSION: SessionId = SessionId(1);

/// Remembers commands instead of writing them down.
#[derive(Debug, Default)]
struct Memory(RefCell<Vec<Command>>);

impl Codec for Memory {
    fn encode_command(&self, command: &Command) -> Vec<u8> {
        let mut commands = self.0.borrow_mut();
        commands.push(command.clone());
        commands.len().to_le_bytes().to_vec()
    }

    fn decode_command(&self, bytes: &[u8]) -> Result<Command, CodecError> {
        let number =
            bytes.try_into().map(usize::from_le_bytes).map_err(|_| CodecError("length".to_owned()))?;
        Ok(self.0.borrow()[number - 1].clone())
    }

    fn encode_snapshot(&self, _: &State) -> Vec<u8> {
        Vec::new()
    }

    fn decode_snapshot(&self, _: &[u8]) -> Result<State, CodecError> {
        Err(CodecError("there are none".to_owned()))
    }

    fn encode_template(&self, template: &ReplicaTemplate) -> Vec<u8> {
        format!("{template:?}").into_bytes()
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn key(text: &str) -> ServiceKey {
    ServiceKey { namespace: name("default"), name: name(text) }
}

/// Lets events happen, with a disk that takes no time.
fn drive(manager: &mut Manager<Memory>, mut events: Vec<Event>) {
    while !events.is_empty() {
        let effects = manager.step(NOW, std::mem::take(&mut events));
        events.extend(effects.into_iter().filter_map(|effect| match effect {
            Effect::Persist(persist) => Some(Event::Persisted { number: persist.number }),
            Effect::Reply { result: Err(error), .. } => panic!("{error}"),
            _ => None,
        }));
    }
}

/// One replica that runs to its end and takes all the memory of the node.
fn job(service: &str) -> Request {
    let main = ContainerSpec {
        name: name("main"),
        image: ImageRef { reference: "job:1".to_owned(), digest: None },
        command: None,
        args: None,
        working_dir: None,
        user: None,
        env: BTreeMap::new(),
        resources: Resources { cpu: None, memory: Bytes(64 << 20), pids: 10 },
        health: Health::default(),
        stop_signal: None,
        mounts: Vec::new(),
        read_only_rootfs: false,
        capabilities: Capabilities::default(),
        init: true,
    };
    let backoff = Backoff { base: Millis(1_000), max: Millis(1_000), reset_after: Millis(1_000) };
    let template = ReplicaTemplate {
        main,
        sidecars: Vec::new(),
        init: Vec::new(),
        ports: Vec::new(),
        restart: RestartPolicy { when: RestartWhen::Never, backoff },
        stop_grace: Millis(1_000),
        restart_nonce: 0,
    };
    let declaration = Declaration {
        service: key(service),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        spec: ServiceSpec { replicas: 1, update: UpdatePolicy::default(), template },
        expects: None,
    };
    Request::Apply { declarations: vec![declaration], dry_run: false }
}

fn hello() -> Hello {
    let info = NodeInfo {
        id: NodeId(1),
        name: name("node"),
        labels: BTreeMap::new(),
        cpu: MilliCpu(1_000),
        memory: Bytes(64 << 20),
        address: Ipv4Addr::LOCALHOST,
        agent_version: String::new(),
    };
    let digest = format!("sha256:{:064}", 1).parse().unwrap();
    Hello { info, observed: Vec::new(), images: vec![("job:1".to_owned(), digest)] }
}

fn completed(replica: ReplicaId) -> Report {
    let observed = Observed {
        replica,
        phase: Phase::Completed,
        ready_since: None,
        timeline: Timeline::default(),
        address: None,
        containers: Vec::new(),
        message: None,
    };
    Report { observed: vec![observed], ..Report::default() }
}

#[test]
fn the_room_of_a_replica_that_ended_is_given_to_one_that_waits() {
    let config = Config { consensus: consensus::Config::new(1), snapshot_every: 1_000, seed: 1 };
    let mut manager = Manager::restore(config, Memory::default(), Recovered::bootstrap(1)).unwrap();
    drive(&mut manager, vec![Event::Tick]);
    drive(&mut manager, vec![Event::SessionOpened { session: SESSION, hello: hello() }]);
    drive(&mut manager, vec![Event::Request { id: RequestId(1), request: job("first") }]);
    drive(&mut manager, vec![Event::Request { id: RequestId(2), request: job("second") }]);
    let placed = |manager: &Manager<Memory>, service: &str| {
        let view = manager.view();
        let replica = view.state.replicas_of(&key(service)).next().map(|replica| (replica.id, replica.node));
        replica.unwrap()
    };
    let (first, _) = placed(&manager, "first");
    assert_eq!(placed(&manager, "second").1, None, "there is room for one");
    drive(&mut manager, vec![Event::SessionReport { session: SESSION, report: completed(first) }]);
    assert_eq!(placed(&manager, "second").1, Some(NodeId(1)));
}
