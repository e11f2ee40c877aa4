//! One server and thousands of agents, with a few replicas each: only what comes and goes, and how much of it.

use std::{collections::BTreeMap, net::Ipv4Addr};

use consensus::Recovered;
use manager::{
    Codec, CodecError, Config, Declaration, Effect, Event, Hello, Manager, Request, RequestId, SessionId,
};
use model::{
    Assignment, Bytes, Capabilities, ContainerObserved, ContainerSpec, ContainerState, Digest, Dispatch,
    Health, ImageRef, MilliCpu, Millis, Name, NodeId, NodeInfo, Observed, OnPartition, Phase, ReplicaId,
    ReplicaTemplate, Resources, RestartPolicy, ServiceKey, ServiceSpec, Timeline, Timestamp, UpdatePolicy,
};
use store::{Command, State};

/// As many as a server's shell hands over at once.
const BATCH: usize = 1_024;
/// Of each service, at most.
const REPLICAS: u32 = 5_000;

/// Nothing is ever read back here.
#[derive(Clone, Debug)]
pub struct Unread;

impl Codec for Unread {
    fn encode_command(&self, _: &Command) -> Vec<u8> {
        vec![0; 64]
    }
    fn decode_command(&self, _: &[u8]) -> Result<Command, CodecError> {
        Err(CodecError("never written".to_owned()))
    }
    fn encode_snapshot(&self, _: &State) -> Vec<u8> {
        Vec::new()
    }
    fn decode_snapshot(&self, _: &[u8]) -> Result<State, CodecError> {
        Err(CodecError("never written".to_owned()))
    }
    fn encode_template(&self, _: &ReplicaTemplate) -> Vec<u8> {
        Vec::new()
    }
}

/// What a server did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub written: u64,
    /// Full sets of assignments, and the replicas in them.
    pub full: u64,
    pub replicas: u64,
    pub increments: u64,
    pub heard: u64,
    pub closed: u64,
    pub published: u64,
    pub last_heard: Option<model::Heard>,
}

pub struct Many {
    manager: Manager<Unread>,
    pub now: Timestamp,
    nodes: u64,
    /// What each was told to run, and says that it runs.
    runs: BTreeMap<NodeId, Vec<Observed>>,
    sessions: u64,
}

impl Many {
    /// All have a session, and so many replicas each, which are ready.
    pub fn new(nodes: u64, replicas_each: u32) -> Many {
        let consensus = consensus::Config::new(1);
        let config = Config {
            consensus,
            snapshot_every: u64::MAX,
            note_within: Millis::ZERO,
            seed: 1,
            itself: None,
            contacts: [1].into(),
            level: model::Level::FIRST,
        };
        let manager = Manager::restore(config, Unread, Recovered::bootstrap(1)).expect("an empty disk");
        let (now, runs) = (Timestamp(1_000_000), BTreeMap::new());
        let mut many = Many { manager, now, nodes, runs, sessions: 0 };
        for _ in 0..30 {
            many.tick();
        }
        many.all_open_sessions();
        let wanted = nodes as u32 * replicas_each;
        for number in 0..wanted.div_ceil(REPLICAS) {
            let replicas = REPLICAS.min(wanted - number * REPLICAS);
            let declarations = vec![declaration(number, replicas)];
            let request = Request::Apply { declarations, dry_run: false };
            many.step(vec![Event::Request { id: RequestId(u64::from(number)), request }]);
        }
        many.all_open_sessions();
        many
    }

    pub fn tick(&mut self) -> Done {
        self.now = self.now + Millis(100);
        self.step(vec![Event::Tick])
    }

    /// Every agent opens a session, as after the loss of a leader. Whatever it had before is over.
    pub fn all_open_sessions(&mut self) -> Done {
        let hellos: Vec<Event> = (1..=self.nodes).map(NodeId).map(|node| self.hello(node)).collect();
        self.in_batches(hellos)
    }

    /// Every agent says that it is there.
    pub fn all_beat(&mut self) -> Done {
        let newest = self.sessions - self.nodes + 1..=self.sessions;
        let beat = |session| Event::SessionHeartbeat { session: SessionId(session), number: 1, usage: None };
        let beats = newest.map(beat).collect();
        self.in_batches(beats)
    }

    fn in_batches(&mut self, events: Vec<Event>) -> Done {
        let mut done = Done::default();
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let batch = events.by_ref().take(BATCH).collect();
            done.add(self.step(batch));
        }
        done
    }

    fn hello(&mut self, node: NodeId) -> Event {
        self.sessions += 1;
        let info = NodeInfo {
            id: node,
            name: name(&format!("n{}", node.0)),
            labels: BTreeMap::new(),
            cpu: MilliCpu(64_000),
            memory: Bytes(256 << 30),
            address: Ipv4Addr::LOCALHOST,
            subnet: None,
            agent_version: "0.1.0".to_owned(),
        };
        let observed = self.runs.get(&node).cloned().unwrap_or_default();
        let images = vec![("hello:latest".to_owned(), digest())];
        Event::SessionOpened {
            session: SessionId(self.sessions),
            hello: Hello { info, said_at: None, observed, images, level: model::Level::FIRST },
        }
    }

    /// What is written is durable at once.
    fn step(&mut self, events: Vec<Event>) -> Done {
        let mut done = Done::default();
        let mut events = events;
        loop {
            let mut persisted = None;
            for effect in self.manager.step(self.now, std::mem::take(&mut events)) {
                persisted = self.take(effect, &mut done).or(persisted);
            }
            match persisted {
                Some(number) => events.push(Event::Persisted { number }),
                None => return done,
            }
        }
    }

    fn take(&mut self, effect: Effect, done: &mut Done) -> Option<u64> {
        match effect {
            Effect::Persist(persist) => {
                done.written += persist.entries.len() as u64;
                return Some(persist.number);
            }
            Effect::Dispatch { dispatch: Dispatch::Full { assignments, .. }, .. } => {
                done.full += 1;
                done.replicas += assignments.len() as u64;
            }
            Effect::Dispatch { session, dispatch: Dispatch::Increment { changed, .. } } => {
                done.increments += 1;
                let node = NodeId((session.0 - 1) % self.nodes + 1);
                self.runs.entry(node).or_default().extend(changed.iter().map(|one| ready(one, self.now)));
            }
            Effect::Heard { heard, .. } => {
                done.heard += 1;
                done.last_heard = Some(heard);
            }
            Effect::CloseSession { .. } => done.closed += 1,
            Effect::Publish(_) => done.published += 1,
            Effect::Send(_)
            | Effect::Reply { .. }
            | Effect::MembersReply { .. }
            | Effect::Directory { .. }
            | Effect::ReadReady { .. }
            | Effect::Snapshot { .. }
            | Effect::Removed { .. } => {}
            Effect::Fatal { reason } => panic!("{reason}"),
        }
        None
    }
}

impl Done {
    fn add(&mut self, more: Done) {
        self.written += more.written;
        self.full += more.full;
        self.replicas += more.replicas;
        self.increments += more.increments;
        self.heard += more.heard;
        self.closed += more.closed;
        self.published += more.published;
        self.last_heard = more.last_heard.or(self.last_heard);
    }
}

fn ready(assignment: &Assignment, now: Timestamp) -> Observed {
    seen(assignment.replica, now)
}

fn seen(replica: ReplicaId, now: Timestamp) -> Observed {
    let state = ContainerState::Running { pid: 1, since: now, ready: true };
    Observed {
        replica,
        phase: Phase::Running,
        ready_since: Some(now),
        timeline: Timeline { started: Some(now), ready: Some(now), ..Timeline::default() },
        address: None,
        containers: vec![ContainerObserved { name: name("main"), state, restarts: 0, last_exit: None }],
        message: None,
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn digest() -> Digest {
    format!("sha256:{:064x}", 1).parse().expect("a digest")
}

fn declaration(number: u32, replicas: u32) -> Declaration {
    let main = ContainerSpec {
        name: name("main"),
        image: ImageRef { reference: "hello".to_owned(), digest: None },
        command: None,
        args: None,
        working_dir: None,
        user: None,
        env: BTreeMap::new(),
        resources: Resources { memory: Bytes(64 << 20), ..Resources::default() },
        health: Health::default(),
        stop_signal: None,
        mounts: Vec::new(),
        read_only_rootfs: false,
        capabilities: Capabilities::default(),
        init: true,
    };
    let template = ReplicaTemplate {
        main,
        sidecars: Vec::new(),
        init: Vec::new(),
        ports: Vec::new(),
        restart: RestartPolicy::default(),
        stop_grace: Millis::from_secs(10),
        on_partition: OnPartition::Continue,
        restart_nonce: 0,
    };
    Declaration {
        service: ServiceKey { namespace: name("default"), name: name(&format!("svc-{number}")) },
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        spec: ServiceSpec {
            replicas,
            update: UpdatePolicy::default(),
            placement: Default::default(),
            node_loss: Default::default(),
            template,
        },
        expects: None,
    }
}
