//! What is measured, the same for every orchestrator.

use std::{collections::BTreeMap, time::Duration};

use tests::cluster::kill_9;

use crate::{
    execs::{Exec, Execs, Moment, is_running},
    memory::{self, Usage},
};

/// Between measurements, so that none pays for what the one before left to be cleaned up.
const SETTLE: Duration = Duration::from_millis(500);
/// Daemons that have just started, or just started fifty containers, still have things to do.
const REST: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(120);

const UP: [u32; 3] = [1, 10, 50];
/// The service whose processes are killed and whose revisions are exchanged.
const REPLICAS: u32 = 10;
/// Each of another replica, so that all are first restarts.
const KILLS: usize = 9;
/// With the pause that is Swarm's default these take five seconds each.
const KILLS_BY_DEFAULT: usize = 3;

/// The lines of the table, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Case {
    Up { replicas: u32, until: Up },
    Restart(Policy),
    Update { policy: Policy, until: Up },
    Memory { replicas: u32, measure: memory::Measure },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Up {
    /// The last process was executed.
    Executed,
    /// The control plane says that it is done.
    Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Policy {
    /// Updates: one after the other, the new one before the old one stops, no pauses. Restarts: no pause.
    Quick,
    /// What one gets without saying anything.
    Default,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Amount {
    Time(Duration),
    Bytes(u64),
}

/// A service of `sleep`s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    pub(crate) replicas: u32,
    /// How long each sleeps, in seconds: by this its processes are told from all others.
    pub(crate) sleep: u32,
    pub(crate) policy: Policy,
}

/// What can run a service. Everything panics when it does not work.
pub(crate) trait Orchestrator {
    fn name(&self) -> String;
    /// Creates the service or updates it; returns when the control plane says that this is done.
    fn apply(&mut self, service: &Service);
    /// Returns when nothing of it is left.
    fn remove(&mut self);
    /// Resident processes, by what they are; not the service's own.
    fn parts(&self) -> BTreeMap<&'static str, Vec<i32>>;
}

#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) amounts: BTreeMap<Case, Amount>,
    /// What the sums of memory are made of.
    pub(crate) parts: BTreeMap<u32, BTreeMap<&'static str, Usage>>,
}

pub(crate) fn measure(system: &mut impl Orchestrator, execs: &Execs, rounds: usize) -> Measured {
    let measured = Measured { name: system.name(), amounts: BTreeMap::new(), parts: BTreeMap::new() };
    let mut bench = Bench { system, execs, measured, sleep: 1_000_000 };
    eprintln!("measuring {}", bench.measured.name);
    bench.memory(0);
    for replicas in UP {
        bench.up(replicas, rounds);
    }
    for (policy, kills) in [(Policy::Quick, KILLS), (Policy::Default, KILLS_BY_DEFAULT)] {
        bench.restart(policy, kills);
        bench.update(policy);
    }
    bench.measured
}

struct Bench<'a, S> {
    system: &'a mut S,
    execs: &'a Execs,
    measured: Measured,
    sleep: u32,
}

impl<S: Orchestrator> Bench<'_, S> {
    fn up(&mut self, replicas: u32, rounds: usize) {
        let (mut executed, mut told) = (Vec::new(), Vec::new());
        for round in 1..=rounds {
            let up = self.apply(&self.service(replicas, Policy::Quick));
            executed.push(up.executed);
            told.push(up.told);
            if round == rounds && Some(&replicas) == UP.last() {
                self.memory(replicas);
            }
            self.remove();
        }
        self.time(Case::Up { replicas, until: Up::Executed }, executed);
        self.time(Case::Up { replicas, until: Up::Told }, told);
    }

    fn restart(&mut self, policy: Policy, kills: usize) {
        let service = self.service(REPLICAS, policy);
        let up = self.apply(&service);
        self.settle();
        let mut took = Vec::new();
        for victim in up.processes.iter().take(kills) {
            assert!(is_running(victim, service.sleep), "{victim:?} ended by itself");
            let before = Moment::now();
            kill_9(victim.pid);
            let after = self.execs.wait(service.sleep, before, 1, DEADLINE);
            took.push(after[0].at.since(before));
            self.settle();
        }
        self.remove();
        self.time(Case::Restart(policy), took);
    }

    fn update(&mut self, policy: Policy) {
        self.apply(&self.service(REPLICAS, policy));
        self.settle();
        let up = self.apply(&self.service(REPLICAS, policy));
        self.remove();
        self.time(Case::Update { policy, until: Up::Executed }, vec![up.executed]);
        self.time(Case::Update { policy, until: Up::Told }, vec![up.told]);
    }

    fn memory(&mut self, replicas: u32) {
        std::thread::sleep(REST);
        let of_part = |pids: Vec<i32>| pids.into_iter().map(memory::of).sum::<Usage>();
        let parts: BTreeMap<_, _> =
            self.system.parts().into_iter().map(|(part, pids)| (part, of_part(pids))).collect();
        let total: Usage = parts.values().copied().sum();
        for measure in [memory::Measure::Proportional, memory::Measure::Resident] {
            let bytes = Amount::Bytes(total.bytes(measure));
            self.measured.amounts.insert(Case::Memory { replicas, measure }, bytes);
        }
        self.measured.parts.insert(replicas, parts);
    }

    /// One that has never been before.
    fn service(&self, replicas: u32, policy: Policy) -> Service {
        Service { replicas, sleep: self.sleep, policy }
    }

    fn apply(&mut self, service: &Service) -> Applied {
        self.sleep += 1;
        let before = Moment::now();
        self.system.apply(service);
        let told = Moment::now().since(before);
        let processes = self.execs.wait(service.sleep, before, service.replicas as usize, DEADLINE);
        let last = processes.iter().map(|exec| exec.at).max().unwrap_or(before);
        Applied { executed: last.since(before), told, processes }
    }

    fn remove(&mut self) {
        self.system.remove();
        self.settle();
    }

    fn settle(&self) {
        std::thread::sleep(SETTLE);
    }

    fn time(&mut self, case: Case, mut times: Vec<Duration>) {
        times.sort();
        eprintln!("  {case:?}: {times:?}");
        self.measured.amounts.insert(case, Amount::Time(times[times.len() / 2]));
    }
}

struct Applied {
    executed: Duration,
    told: Duration,
    processes: Vec<Exec>,
}
