//! A host as the core sees it: containers that run or have exited, sandboxes, a balancer, a ledger, and orders that
//! take their time. Every change checks what must never be.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    sync::Arc,
};

use agent::core::{Action, Change, ContainerId, Core, Event, Found, FoundState, Published, Record, Setback};
use model::{
    Assignment, Backoff, Bytes, Capabilities, ContainerSpec, Desired, Dispatch, Exit, ExitCause, Health,
    ImageRef, Millis, Name, OnPartition, Phase, Port, Probe, ProbeAction, Protocol, ReplicaId,
    ReplicaTemplate, Resources, RestartPolicy, RestartWhen, RevisionNumber, ServiceKey, Settings, Slot,
    Timestamp, probe::ProbePort,
};

#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// 0 removes the replica, 1 prepares it, 2 and 3 run it, 4 stops it.
    Desire {
        replica: u8,
        desired: u8,
    },
    Dispatch,
    DispatchGap,
    /// One of the orders that are waiting.
    Execute(u8),
    ExecuteBadly(u8),
    ContainerExits(u8),
    Pass(u16),
    Crash,
    /// The process dies with its orders, and what it was about to save.
    CrashBeforeSave,
    /// A leader is heard: for so many milliseconds.
    Lease(u16),
    /// Everything that runs is gone, as is everything that was made.
    HostRestart,
}

#[derive(Debug)]
pub(crate) struct World {
    core: Core,
    now: Timestamp,
    /// Known to keepers, and to every agent until the host restarts.
    leased_until: Timestamp,
    wanted: BTreeMap<ReplicaId, Assignment>,
    /// Ids are never used again.
    next_id: u64,
    names: [ReplicaId; 4],
    /// Of all replicas that ever were.
    templates: BTreeMap<ReplicaId, Arc<ReplicaTemplate>>,
    sequence: u64,
    ledger: BTreeMap<ReplicaId, Record>,
    /// Saves that nothing waited for, and that are not durable yet.
    lazy: Vec<Change>,
    containers: BTreeMap<ContainerId, FoundState>,
    sandboxes: BTreeSet<ReplicaId>,
    in_force: Vec<Published>,
    /// In order per replica; `None` is the balancer's queue.
    orders: BTreeMap<Option<ReplicaId>, VecDeque<Action>>,
    /// Asked to end by the core because its replica is to stop, not for a probe.
    has_good_end: bool,
}

impl World {
    pub(crate) fn new() -> World {
        let mut world = World {
            core: Core::new(),
            now: Timestamp(1_000_000),
            leased_until: Timestamp(0),
            wanted: BTreeMap::new(),
            next_id: 5,
            names: [1, 2, 3, 4].map(ReplicaId),
            templates: BTreeMap::new(),
            sequence: 1,
            ledger: BTreeMap::new(),
            lazy: vec![],
            containers: BTreeMap::new(),
            sandboxes: BTreeSet::new(),
            in_force: vec![],
            orders: BTreeMap::new(),
            has_good_end: false,
        };
        world.start_agent();
        world
    }

    pub(crate) fn perform(&mut self, op: Op) {
        match op {
            Op::Desire { replica, desired } => self.desire(usize::from(replica), desired),
            Op::Dispatch => self.dispatch_full(),
            Op::DispatchGap => {
                let (follows, sequence) = (self.sequence + 5, self.sequence + 6);
                self.send(Event::Assigned(Dispatch::Increment {
                    follows,
                    sequence,
                    changed: vec![],
                    removed: vec![],
                }));
            }
            Op::Execute(which) => self.execute(usize::from(which), true),
            Op::ExecuteBadly(which) => self.execute(usize::from(which), false),
            Op::ContainerExits(which) => {
                let running = self.running();
                if !running.is_empty() {
                    let id = running[usize::from(which) % running.len()].clone();
                    self.exits(&id, ExitCause::Code(which % 3));
                }
            }
            Op::Pass(ms) => self.pass(Millis(u64::from(ms))),
            Op::Crash => {
                self.orders.clear();
                self.start_agent();
            }
            Op::CrashBeforeSave => {
                // Any event: its actions are all lost, the save first of all.
                self.core.handle(self.now, Event::Wake);
                let lost = self.full();
                self.core.handle(self.now, Event::Assigned(lost));
                self.orders.clear();
                self.start_agent();
            }
            Op::Lease(ms) => self.lease(Millis(u64::from(ms))),
            Op::HostRestart => {
                self.leased_until = Timestamp(0);
                self.orders.clear();
                self.containers.clear();
                self.sandboxes.clear();
                self.in_force.clear();
                self.start_agent();
            }
        }
    }

    fn start_agent(&mut self) {
        self.core = Core::new();
        self.lazy.clear();
        self.send(Event::Leased { until: self.leased_until });
        self.send(Event::Restored(self.ledger.values().cloned().collect()));
        let containers = self.containers.iter().map(|(id, state)| (id.clone(), state.clone())).collect();
        self.send(Event::Adopted(Found { containers, sandboxes: self.sandboxes.clone() }));
    }

    fn lease(&mut self, span: Millis) {
        self.leased_until = self.leased_until.max(self.now + span);
        self.send(Event::Leased { until: self.leased_until });
    }

    fn kills_at(&self) -> Timestamp {
        self.leased_until + Settings::LEASE_GRACE
    }

    fn needs_lease(&self, id: ReplicaId) -> bool {
        self.templates.get(&id).is_some_and(|template| template.on_partition == OnPartition::Stop)
    }

    /// What keepers do by themselves.
    fn keep(&mut self) {
        if self.kills_at() <= self.now {
            let mut over = self.running();
            over.retain(|id| self.needs_lease(id.replica));
            over.iter().for_each(|id| self.exits(id, ExitCause::Signal(9)));
        }
    }

    fn desire(&mut self, index: usize, desired: u8) {
        let desired = match desired {
            0 => {
                // The next replica of this place has another id, as the control plane's have.
                self.wanted.remove(&self.names[index]);
                self.names[index] = ReplicaId(self.next_id);
                self.next_id += 1;
                return;
            }
            1 => Desired::Prepared,
            2 | 3 => Desired::Running,
            _ => Desired::Stopped,
        };
        let id = self.names[index];
        let assignment = self.wanted.entry(id).or_insert_with(|| assignment(id, index, desired));
        self.templates.insert(id, Arc::clone(&assignment.template));
        if assignment.desired.may_become(desired) {
            assignment.desired = desired;
        }
        let changed = vec![assignment.clone()];
        let (follows, sequence) = (self.sequence, self.sequence + 1);
        self.sequence = sequence;
        self.send(Event::Assigned(Dispatch::Increment { follows, sequence, changed, removed: vec![] }));
    }

    fn full(&self) -> Dispatch {
        let assignments = self.wanted.values().cloned().collect();
        Dispatch::Full { sequence: self.sequence, assignments }
    }

    fn dispatch_full(&mut self) {
        let full = self.full();
        self.send(Event::Assigned(full));
    }

    fn send(&mut self, event: Event) {
        let actions = self.core.handle(self.now, event);
        let waited_for =
            actions.iter().any(|action| !matches!(action, Action::Save(_)) && action.waits_for_save());
        for action in actions {
            if let Action::StartContainer { id, .. } = &action {
                let is_leased = self.now < self.leased_until || !self.needs_lease(id.replica);
                assert!(is_leased, "{id} is started without a lease");
            }
            match &action {
                Action::Save(changes) => {
                    self.lazy.extend(changes.iter().cloned());
                    if waited_for {
                        self.commit();
                    }
                }
                Action::Report(_) | Action::Exits(_) | Action::GoBy { .. } | Action::ReopenSession => {}
                Action::Balance { .. } => self.orders.entry(None).or_default().push_back(action),
                Action::Prepare { assignment, .. } => self.order(assignment.replica, action),
                Action::StartContainer { id, .. }
                | Action::Signal { id, .. }
                | Action::Kill { id }
                | Action::Probe { id, .. }
                | Action::Discard { id } => self.order(id.replica, action),
                Action::Clean { replica, .. } => self.order(*replica, action),
            }
        }
    }

    fn commit(&mut self) {
        for change in std::mem::take(&mut self.lazy) {
            match change {
                Change::Put(record) => self.ledger.insert(record.id(), *record),
                Change::Forget(id) => self.ledger.remove(&id),
            };
        }
    }

    fn order(&mut self, replica: ReplicaId, action: Action) {
        self.orders.entry(Some(replica)).or_default().push_back(action);
    }

    fn execute(&mut self, which: usize, well: bool) {
        self.orders.retain(|_, queue| !queue.is_empty());
        if self.orders.is_empty() {
            return;
        }
        let key = *self.orders.keys().nth(which % self.orders.len()).unwrap();
        let action = self.orders.get_mut(&key).and_then(VecDeque::pop_front).unwrap();
        match action {
            Action::Balance { serial, ports, .. } => {
                self.in_force = ports;
                self.send(Event::Balanced { serial });
            }
            Action::Prepare { assignment, address } => {
                let replica = assignment.replica;
                let result = if well {
                    self.sandboxes.insert(replica);
                    Ok(address.unwrap_or(address_of(replica)))
                } else {
                    Err(Setback::of_node("no luck"))
                };
                self.send(Event::Prepared { replica, result });
            }
            Action::StartContainer { id, .. } => self.start(id, well),
            Action::Signal { id, .. } => {
                self.assert_out_of_balancer(&id);
                if well {
                    self.exits(&id, ExitCause::Signal(15));
                }
            }
            Action::Kill { id } => {
                if well {
                    self.exits(&id, ExitCause::Signal(9));
                }
            }
            Action::Probe { id, kind, .. } => {
                // In turns what the container and what the node is to blame for.
                let bad = if self.now.0.is_multiple_of(2) {
                    Setback::of_replica("refused")
                } else {
                    Setback::of_node("no descriptors")
                };
                let result = if well { Ok(()) } else { Err(bad) };
                self.send(Event::Probed { id, kind, result });
            }
            Action::Discard { id } => {
                assert!(
                    !matches!(self.containers.get(&id), Some(FoundState::Running { .. })),
                    "{id} still runs"
                );
                self.containers.remove(&id);
            }
            Action::Clean { replica, .. } => self.clean(replica, well),
            Action::Save(_)
            | Action::Report(_)
            | Action::Exits(_)
            | Action::GoBy { .. }
            | Action::ReopenSession => unreachable!(),
        }
    }

    fn start(&mut self, id: ContainerId, well: bool) {
        assert!(self.sandboxes.contains(&id.replica), "{id} starts without a sandbox");
        assert!(!self.containers.contains_key(&id), "{id} was there before");
        let twin =
            self.running().into_iter().find(|r| r.replica == id.replica && r.container == id.container);
        assert_eq!(twin, None, "{id} starts beside it");
        if well {
            self.containers.insert(id.clone(), FoundState::Running { pid: 1, since: self.now });
        }
        let outlives_lease = well && self.needs_lease(id.replica) && self.kills_at() <= self.now;
        let bad = if id.attempt.is_multiple_of(2) {
            Setback::of_replica("no luck")
        } else {
            Setback::of_node("no room")
        };
        let result = if well { Ok(1) } else { Err(bad) };
        self.send(Event::Started { id: id.clone(), result });
        if outlives_lease {
            self.keep();
        } else if self.has_good_end && id.container.as_str() == "fetch" {
            self.exits(&id, ExitCause::Code(0));
        }
    }

    fn clean(&mut self, replica: ReplicaId, well: bool) {
        let left = self.running().into_iter().find(|id| id.replica == replica);
        assert_eq!(left, None, "cleaned while it runs");
        let result = if well {
            self.containers.retain(|id, _| id.replica != replica);
            self.sandboxes.remove(&replica);
            Ok(())
        } else {
            Err("busy".to_owned())
        };
        self.send(Event::Cleaned { replica, result });
    }

    /// A container that is told to end because its replica stops must not get connections any more.
    fn assert_out_of_balancer(&self, id: &ContainerId) {
        if self.needs_lease(id.replica) && self.kills_at() <= self.now {
            return; // It goes whatever the balancer says.
        }
        // One that ended by itself has lost its connections already.
        let ended = |record: &Record| matches!(record.phase, Phase::Completed | Phase::Failed);
        let stops = !self.ledger.get(&id.replica).is_some_and(ended);
        let address = address_of(id.replica);
        let serves = self.in_force.iter().flat_map(|port| &port.backends).any(|b| *b.ip() == address);
        assert!(!(stops && serves), "{id} is told to end while the balancer sends it connections");
    }

    fn exits(&mut self, id: &ContainerId, cause: ExitCause) {
        if let Some(state @ FoundState::Running { .. }) = self.containers.get_mut(id) {
            let exit = Exit { cause, at: self.now, ran_for: Millis(1) };
            *state = FoundState::Exited(exit.clone());
            self.send(Event::Exited { id: id.clone(), exit });
        }
    }

    fn running(&self) -> Vec<ContainerId> {
        let running = |(_, state): &(&ContainerId, &FoundState)| matches!(state, FoundState::Running { .. });
        self.containers.iter().filter(running).map(|(id, _)| id.clone()).collect()
    }

    /// The balancer is quick: its orders are done before time passes, so that no stop loses patience with it.
    fn pass(&mut self, span: Millis) {
        while let Some(Action::Balance { serial, ports, .. }) =
            self.orders.entry(None).or_default().pop_front()
        {
            self.in_force = ports;
            self.send(Event::Balanced { serial });
        }
        // Time that passes is time in which a save that nothing waited for is done all the same.
        self.commit();
        let end = self.now + span;
        while let Some(at) = self.core.next_wake().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.keep();
            self.send(Event::Wake);
            assert!(self.core.next_wake().is_none_or(|next| next > self.now), "woken for nothing");
        }
        self.now = end;
        self.keep();
    }

    /// From now on everything goes well.
    pub(crate) fn settle(&mut self) {
        self.has_good_end = true;
        for id in self.running().into_iter().filter(|id| id.container.as_str() == "fetch") {
            self.exits(&id, ExitCause::Code(0));
        }
        self.dispatch_full();
        self.lease(Millis(60_000));
        for _ in 0..300 {
            self.obey();
            self.pass(Millis(100));
        }
        self.commit();
    }

    fn obey(&mut self) {
        while self.orders.values().any(|queue| !queue.is_empty()) {
            self.execute(0, true);
        }
    }

    /// No server is heard any more: what has to stop then does, and everything else goes on.
    pub(crate) fn assert_lease_ends(&mut self) {
        let others = |world: &World| {
            let running = world.running().into_iter();
            running.filter(|id| !world.needs_lease(id.replica)).collect::<Vec<_>>()
        };
        let before = others(self);
        while self.now < self.kills_at() {
            self.pass(Millis(100));
            self.obey();
        }
        assert_eq!(self.running(), before, "{:#?}", self.core);
        assert_eq!(others(self), before);
    }

    pub(crate) fn assert_converged(&self) {
        let mut expected = BTreeSet::new();
        for assignment in self.wanted.values().filter(|a| a.desired == Desired::Running) {
            for spec in assignment.template.sidecars.iter().chain([&assignment.template.main]) {
                expected.insert((assignment.replica, spec.name.clone()));
            }
        }
        let running: Vec<_> = self.running().into_iter().map(|id| (id.replica, id.container)).collect();
        assert_eq!(running, expected.into_iter().collect::<Vec<_>>(), "{:#?}", self.core);
        let with_sandbox = self.wanted.values().filter(|a| a.desired != Desired::Stopped);
        let with_sandbox: BTreeSet<ReplicaId> = with_sandbox.map(|a| a.replica).collect();
        assert_eq!(self.sandboxes, with_sandbox);
        assert_eq!(self.containers.len(), running.len(), "exits are discarded: {:?}", self.containers);
        let known: BTreeSet<ReplicaId> = self.ledger.keys().copied().collect();
        assert_eq!(known, self.wanted.keys().copied().collect(), "the ledger forgets what is gone");
        self.assert_balanced();
    }

    fn assert_balanced(&self) {
        let serving: BTreeSet<Ipv4Addr> =
            self.in_force.iter().flat_map(|port| &port.backends).map(|backend| *backend.ip()).collect();
        let publishing = |a: &&Assignment| a.desired == Desired::Running && !a.template.ports.is_empty();
        let expected = self.wanted.values().filter(publishing).map(|a| address_of(a.replica)).collect();
        assert_eq!(serving, expected);
    }
}

fn address_of(replica: ReplicaId) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + replica.0 as u32)
}

/// Four kinds: plain and published, with probes, with init and sidecar, and plain. The two in the middle need a lease.
fn assignment(replica: ReplicaId, kind: usize, desired: Desired) -> Assignment {
    let mut main = container("main");
    let http = |failures| {
        let action = ProbeAction::Http { port: ProbePort::Number(80), path: "/".into() };
        Some(Probe { action, interval: Millis(500), timeout: Millis(100), successes: 1, failures })
    };
    if kind == 1 {
        main.health = Health { startup: http(3), readiness: http(1), liveness: http(2) };
    }
    let publish = [Some(8080), Some(8081), None, None][kind];
    let port =
        |publish| Port { name: name("http"), port: 80, protocol: Protocol::Tcp, publish: Some(publish) };
    let backoff = Backoff { base: Millis(100), max: Millis(1_000), reset_after: Millis(2_000) };
    let template = ReplicaTemplate {
        main,
        sidecars: if kind == 2 { vec![container("proxy")] } else { vec![] },
        init: if kind == 2 { vec![container("fetch")] } else { vec![] },
        ports: publish.map(port).into_iter().collect(),
        restart: RestartPolicy { when: RestartWhen::Always, backoff },
        stop_grace: Millis(1_000),
        on_partition: if kind == 1 || kind == 2 { OnPartition::Stop } else { OnPartition::Continue },
        restart_nonce: 0,
    };
    Assignment {
        replica,
        service: ServiceKey { namespace: name("default"), name: name("web") },
        slot: Slot::new(kind as u32 + 1).unwrap(),
        revision: RevisionNumber(1),
        desired,
        template: Arc::new(template),
    }
}

fn container(container_name: &str) -> ContainerSpec {
    ContainerSpec {
        name: name(container_name),
        image: ImageRef { reference: "x".into(), digest: None },
        command: None,
        args: None,
        working_dir: None,
        user: None,
        env: BTreeMap::new(),
        resources: Resources { cpu: None, memory: Bytes(64 << 20), pids: 10 },
        health: Health::default(),
        stop_signal: None,
        mounts: vec![],
        read_only_rootfs: false,
        capabilities: Capabilities::default(),
        init: true,
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}
