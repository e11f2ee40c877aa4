//! A host: processes that live on when their agent dies, sandboxes, a balancer, and the images that all hosts have.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use agent::core::{ContainerId, Found, FoundState, Published};
use model::{
    Assignment, Bytes, Directory, Exit, ExitCause, MilliCpu, ReplicaId, ReplicaTemplate, ServiceKey, Slot,
    Subnet, Timestamp,
};

use crate::{
    behaviour::{Behaviour, Fate},
    clocks::HostClock,
};

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) processes: BTreeMap<ContainerId, Process>,
    pub(crate) sandboxes: BTreeMap<ReplicaId, Ipv4Addr>,
    /// What the balancer does now.
    pub(crate) in_force: Vec<Published>,
    /// Of the other nodes, as it was last written down.
    pub(crate) directory: Arc<Directory>,
    /// The last that any agent was given since the host started.
    pub(crate) leased_until: Timestamp,
    /// When the last time without a lease ended.
    pub(crate) lapsed_until: Timestamp,
    /// Backends that have not served for a while, and since when.
    pub(crate) not_serving: BTreeMap<SocketAddrV4, Timestamp>,
    ever_started: BTreeSet<ContainerId>,
    number: u8,
    next_address: u16,
    next_pid: u32,
    cpu: MilliCpu,
    memory: Bytes,
}

#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) state: FoundState,
    pub(crate) fate: Fate,
    pub(crate) template: Arc<ReplicaTemplate>,
    /// That its replica fills.
    pub(crate) slot: (ServiceKey, Slot),
    /// A signal was sent that it will heed.
    pub(crate) is_ending: bool,
}

impl Process {
    pub(crate) fn runs(&self) -> bool {
        matches!(self.state, FoundState::Running { .. })
    }

    fn state_by(&self, clock: HostClock) -> FoundState {
        match &self.state {
            FoundState::Running { pid, since } => {
                FoundState::Running { pid: *pid, since: clock.shows(*since) }
            }
            FoundState::Exited(exit) => FoundState::Exited(Exit { at: clock.shows(exit.at), ..exit.clone() }),
        }
    }

    pub(crate) fn behaviour(&self) -> Behaviour {
        Behaviour::of(&self.template.main)
    }
}

impl Host {
    pub(crate) fn new(index: usize, cpu: MilliCpu, memory: Bytes) -> Host {
        Host {
            processes: BTreeMap::new(),
            sandboxes: BTreeMap::new(),
            in_force: Vec::new(),
            directory: Arc::default(),
            leased_until: Timestamp(0),
            lapsed_until: Timestamp(0),
            not_serving: BTreeMap::new(),
            ever_started: BTreeSet::new(),
            number: index as u8 + 1,
            next_address: 1,
            next_pid: 100,
            cpu,
            memory,
        }
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = (&ContainerId, &Process)> {
        self.processes.iter().filter(|(_, process)| process.runs())
    }

    /// The main process of a replica, if it runs.
    pub(crate) fn main_of(&self, replica: ReplicaId) -> Option<&Process> {
        self.running()
            .find(|(id, _)| id.replica == replica && id.container.as_str() == "main")
            .map(|(_, process)| process)
    }

    pub(crate) fn prepare(&mut self, replica: ReplicaId, before: Option<Ipv4Addr>) -> Ipv4Addr {
        let known = self.sandboxes.get(&replica).copied().or(before);
        let address = known.unwrap_or_else(|| {
            self.next_address += 1;
            let [high, low] = self.next_address.to_be_bytes();
            Ipv4Addr::new(10, self.number, high, low)
        });
        self.sandboxes.insert(replica, address);
        address
    }

    /// What must hold before a process may be started; in words what does not.
    pub(crate) fn may_start(&self, id: &ContainerId, template: &ReplicaTemplate) -> Result<(), String> {
        if !self.sandboxes.contains_key(&id.replica) {
            return Err(format!("{id} starts without a sandbox"));
        }
        let twin =
            self.running().find(|(other, _)| other.replica == id.replica && other.container == id.container);
        if let Some((twin, _)) = twin {
            return Err(format!("{id} starts while {twin} runs"));
        }
        if self.ever_started.contains(id) {
            return Err(format!("{id} was started before"));
        }
        self.has_room(id, template)
    }

    fn has_room(&self, id: &ContainerId, template: &ReplicaTemplate) -> Result<(), String> {
        let mut replicas: BTreeMap<ReplicaId, &ReplicaTemplate> =
            self.running().map(|(other, process)| (other.replica, &*process.template)).collect();
        replicas.insert(id.replica, template);
        let used = replicas
            .values()
            .map(|template| scheduler::demand(template))
            .fold(scheduler::Amount::NOTHING, scheduler::Amount::plus);
        if used.cpu > self.cpu || used.memory > self.memory {
            let (cpu, memory) = (self.cpu, self.memory);
            let running: Vec<String> = self.running().map(|(other, _)| other.to_string()).collect();
            return Err(format!(
                "{id} would use cpu {} of {cpu}, memory {} of {memory} beside {running:?}",
                used.cpu, used.memory
            ));
        }
        Ok(())
    }

    pub(crate) fn start(
        &mut self,
        now: Timestamp,
        id: &ContainerId,
        assignment: &Assignment,
        fate: Fate,
    ) -> u32 {
        self.next_pid += 1;
        self.ever_started.insert(id.clone());
        let state = FoundState::Running { pid: self.next_pid, since: now };
        let (template, slot) =
            (Arc::clone(&assignment.template), (assignment.service.clone(), assignment.slot));
        self.processes.insert(id.clone(), Process { state, fate, template, slot, is_ending: false });
        self.next_pid
    }

    /// Its exit, if it ran.
    pub(crate) fn end(&mut self, now: Timestamp, id: &ContainerId, cause: ExitCause) -> Option<Exit> {
        let process = self.processes.get_mut(id)?;
        let FoundState::Running { since, .. } = process.state else { return None };
        let exit = Exit { cause, at: now, ran_for: now.since(since) };
        process.state = FoundState::Exited(exit.clone());
        Some(exit)
    }

    /// Of what runs nothing is left, and nothing in memory; what was written down is.
    pub(crate) fn reboot(&mut self) {
        self.processes.retain(|_, process| !process.runs());
        self.sandboxes.clear();
        self.in_force.clear();
        self.leased_until = Timestamp(0);
    }

    /// By the clock that its agent goes by.
    pub(crate) fn found(&self, clock: HostClock) -> Found {
        Found {
            containers: self
                .processes
                .iter()
                .map(|(id, process)| (id.clone(), process.state_by(clock)))
                .collect(),
            sandboxes: self.sandboxes.keys().copied().collect(),
        }
    }

    pub(crate) fn balances(&self, replica: ReplicaId) -> bool {
        self.sandboxes.get(&replica).is_some_and(|address| self.sends_to(*address))
    }

    pub(crate) fn sends_to(&self, address: Ipv4Addr) -> bool {
        self.in_force.iter().flat_map(|port| &port.backends).any(|backend| *backend.ip() == address)
    }

    pub(crate) fn is_here(&self, address: Ipv4Addr) -> bool {
        self.subnet().contains(address)
    }

    /// Another on each host.
    pub(crate) fn subnet(&self) -> Subnet {
        let network = Ipv4Addr::new(10, self.number, 0, 0);
        Subnet::containing(network, 16).expect("a prefix of at most 32 bits")
    }
}
