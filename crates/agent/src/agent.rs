//! The agent's loop: everything that happens goes into the core, what it orders is saved and then done.
//!
//! One task owns the core. Everything else, executors, watches, the session, tells it what happened through one channel
//! ([`Happened`]) and never touches it.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use model::{Dispatch, NodeId, NodeInfo, Observed, ReplicaId};
use proto::session::ContainerExit;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::Interest,
    sync::{mpsc, oneshot, watch},
    task::{JoinError, spawn_blocking},
    time::{sleep, sleep_until},
};

use crate::{
    balancer::{self, Order},
    clock::Clock,
    config::Config,
    core::{self, Action, ContainerId, Core, Event, Found, FoundState, Record},
    host::{self, Host, HostError},
    identity::{Identity, IdentityError},
    journal::{Held, Journal, Urgency},
    lanes::Lanes,
    ledger::{Ledger, LedgerError},
    readiness,
    session::{Session, ToServer},
};

/// Events that are handled before the next commit is begun, so that a flood of them cannot put it off for ever.
const AT_ONCE: usize = 256;

/// How long a save that nothing waits for may be put off while nothing else happens.
const LAZY: Duration = Duration::from_millis(20);

/// All that the loop hears of.
#[derive(Debug)]
pub(crate) enum Happened {
    /// Something that the core decides on.
    Core(Event),
    /// A commit of the ledger ended.
    Saved(Result<(), LedgerError>),
    /// A session is being opened and needs to say all that is known.
    SessionOpened,
    /// A stream needs to know how a replica is.
    Asked { replica: ReplicaId, answer: oneshot::Sender<Option<Observed>> },
    /// An image was loaded, or its name taken away.
    ImagesChanged,
}

pub(crate) type Sender = mpsc::UnboundedSender<Happened>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the agent cannot draw random numbers")]
    Random(#[source] std::io::Error),
    #[error("the launcher ended; containers go on, and the next agent takes them over")]
    LauncherEnded,
    #[error("the launcher cannot be watched")]
    Launcher(#[source] std::io::Error),
    #[error("a part of the agent ended unexpectedly; its last words are in the log")]
    Panicked(#[from] JoinError),
}

/// Runs until `shutdown` is done. The runtime must have been forked before this process had threads.
///
/// At the end containers go on running, and the next agent adopts them, unless [`Config::stop_on_exit`].
pub async fn run(
    config: Config,
    runtime: runtime::Runtime,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let stop_on_exit = config.stop_on_exit;
    let clock = Clock::start();
    let seed = random().map_err(Error::Random)?;
    let Begun { host, ledger, identity, node, records, found } =
        spawn_blocking(move || begin(config, runtime, clock, seed)).await??;
    let launcher = host.runtime.watch_launcher().map_err(Error::Launcher)?;
    let (sender, happened) = mpsc::unbounded_channel();
    let mut agent = Agent {
        core: Core::new(),
        clock,
        journal: Journal::default(),
        ledger: Arc::new(ledger),
        lanes: Lanes::new(host.clone(), sender.clone()),
        balancer: balancer::spawn(host.clone(), sender.clone()),
        to_server: Session::spawn(host.clone(), node, identity, sender.clone(), seed),
        host,
        launcher,
        sender,
        happened,
    };
    agent.adopt(records, found);
    agent.serve(shutdown).await?;
    if stop_on_exit { agent.close().await } else { agent.rest().await }
}

/// What is there before anything is done.
struct Begun {
    host: Host,
    ledger: Ledger,
    identity: Identity,
    node: NodeInfo,
    records: Vec<Record>,
    found: Found,
}

fn begin(config: Config, runtime: runtime::Runtime, clock: Clock, seed: u64) -> Result<Begun, Error> {
    raise_descriptor_limit();
    let config = Arc::new(config);
    let host = Host::open(Arc::clone(&config), runtime, clock)?;
    let ledger = Ledger::open(&config.ledger_path())?;
    let identity = Identity::open(config.identity_path(), || Ok::<_, Error>(NodeId(seed)))?;
    let node = host::node_info(&config, identity.node())?;
    let records = ledger.records()?;
    let found = host.find(&records)?;
    Ok(Begun { host, ledger, identity, node, records, found })
}

/// A replica costs a few descriptors, and the usual limit of 1,024 is meant for programs that use select(2). The launcher was
/// forked before, so containers do not inherit it.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays where it is");
    }
}

fn random() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    // Eight bytes are never given in part. Source: getrandom(2).
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}

struct Agent {
    core: Core,
    clock: Clock,
    journal: Journal,
    ledger: Arc<Ledger>,
    lanes: Lanes,
    balancer: watch::Sender<Order>,
    to_server: mpsc::UnboundedSender<ToServer>,
    host: Host,
    launcher: runtime::LauncherWatch,
    sender: Sender,
    happened: mpsc::UnboundedReceiver<Happened>,
}

impl Agent {
    /// Takes over what an earlier agent left.
    fn adopt(&mut self, records: Vec<Record>, found: Found) {
        let running = |(id, state): &(ContainerId, FoundState)| match state {
            FoundState::Running { .. } => Some(id.clone()),
            FoundState::Exited(_) => None,
        };
        let running: Vec<ContainerId> = found.containers.iter().filter_map(running).collect();
        tracing::info!(replicas = records.len(), running = running.len(), "the agent starts");
        self.tell(Event::Restored(records));
        self.tell(Event::Adopted(found));
        for id in running {
            self.lanes.watch(id);
        }
        self.go_on();
    }

    async fn serve(&mut self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        tokio::pin!(shutdown);
        let launcher = readiness::of(&self.launcher, Interest::READABLE).map_err(Error::Launcher)?;
        loop {
            tokio::select! {
                biased;
                // Every start would fail from now on, and be held against the replica. Who supervises this agent starts it again.
                ended = launcher.readable() => return Err(ended.map_or_else(Error::Launcher, |_| Error::LauncherEnded)),
                () = &mut shutdown => return Ok(()),
                result = self.turn() => result?,
            }
        }
    }

    /// Stops everything, waits for it, and removes what belonged to no replica.
    async fn close(mut self) -> Result<(), Error> {
        tracing::info!("the agent stops what runs");
        self.tell(Event::Shutdown);
        self.go_on();
        while !(self.core.is_closed() && self.journal.is_empty()) {
            self.turn().await?;
        }
        let host = self.host.clone();
        drop(self);
        Ok(spawn_blocking(move || host.teardown()).await??)
    }

    /// What was ordered is not cut off in the middle of its commit.
    async fn rest(mut self) -> Result<(), Error> {
        self.commit(Urgency::Everything);
        while !self.journal.is_empty() {
            self.turn().await?;
        }
        Ok(())
    }

    /// Waits for something to happen, and does all that follows from it and from what else happened meanwhile.
    async fn turn(&mut self) -> Result<(), Error> {
        let wake = self.core.next_wake().map(|at| self.clock.instant(at));
        tokio::select! {
            // The loop holds a sender itself: this never ends.
            Some(happened) = self.happened.recv() => self.take(happened)?,
            () = sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => self.tell(Event::Wake),
            () = sleep(LAZY), if self.journal.has_lazy() => self.commit(Urgency::Everything),
        }
        // One commit for all that came at once.
        for _ in 0..AT_ONCE {
            match self.happened.try_recv() {
                Ok(happened) => self.take(happened)?,
                Err(_) => break,
            }
        }
        self.go_on();
        Ok(())
    }

    fn take(&mut self, happened: Happened) -> Result<(), Error> {
        match happened {
            // Faster than the watch. The ledger says that it was being done, which is where the next agent goes on.
            Happened::Core(event)
                if needed_launcher(&event) && self.launcher.wait(0).map_err(Error::Launcher)? =>
            {
                return Err(Error::LauncherEnded);
            }
            Happened::Core(event) => {
                let sequence = match &event {
                    Event::Assigned(
                        Dispatch::Full { sequence, .. } | Dispatch::Increment { sequence, .. },
                    ) => Some(*sequence),
                    _ => None,
                };
                if let Event::Cleaned { replica, result: Ok(()) } = &event {
                    self.lanes.close(*replica);
                }
                self.tell(event);
                if let Some(sequence) = sequence.filter(|sequence| self.core.sequence() == Some(*sequence)) {
                    self.journal.push(Held::Acknowledge(sequence));
                }
            }
            Happened::Saved(result) => {
                result?;
                for held in self.journal.end_commit() {
                    self.release(held);
                }
            }
            Happened::SessionOpened => self.journal.push(Held::Hello(self.core.observed())),
            // Whoever asked may have gone meanwhile.
            Happened::Asked { replica, answer } => drop(answer.send(self.core.observed_of(replica))),
            Happened::ImagesChanged => {
                self.say(ToServer::Images);
                self.collect_garbage();
            }
        }
        Ok(())
    }

    fn tell(&mut self, event: Event) {
        tracing::debug!(event = event.name(), "happened");
        let actions = self.core.handle(self.clock.now(), event);
        for action in &actions {
            tracing::debug!(%action, "ordered");
        }
        if !actions.is_empty() {
            self.journal.push(Held::Actions(actions));
        }
    }

    /// Does what waits for nothing, and commits what is to be saved.
    fn go_on(&mut self) {
        for held in self.journal.take_ready() {
            self.release(held);
        }
        self.commit(Urgency::WhatIsWaitedFor);
    }

    fn commit(&mut self, urgency: Urgency) {
        if let Some(changes) = self.journal.begin_commit(urgency) {
            let (ledger, sender) = (Arc::clone(&self.ledger), self.sender.clone());
            spawn_blocking(move || {
                // Nobody listens any more only when the agent ends without waiting for it.
                let _ = sender.send(Happened::Saved(ledger.save(&changes)));
            });
        }
    }

    fn release(&mut self, held: Held) {
        match held {
            Held::Hello(observed) => self.say(ToServer::Hello(self.annotated(observed))),
            Held::Acknowledge(sequence) => self.say(ToServer::Acknowledged(sequence)),
            Held::Actions(actions) => actions.into_iter().for_each(|action| self.execute(action)),
        }
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::Prepare { ref assignment, .. } => self.lanes.order(assignment.replica, action),
            Action::StartContainer { ref id, .. }
            | Action::Signal { ref id, .. }
            | Action::Kill { ref id }
            | Action::Probe { ref id, .. }
            | Action::Discard { ref id } => self.lanes.order(id.replica, action),
            Action::Clean { replica, .. } => self.lanes.order(replica, action),
            Action::Balance { serial, ports } => {
                self.balancer.send_replace((serial, ports));
            }
            Action::Report(observed) => self.say(ToServer::Report(self.annotated(observed))),
            Action::Exits(exits) => self.say(ToServer::Exits(exits.into_iter().map(on_the_wire).collect())),
            Action::ReopenSession => self.say(ToServer::Reopen),
            // The journal took it.
            Action::Save(_) => debug_assert!(false, "a save comes first in its list"),
        }
    }

    /// With what people should know of replicas that are as they should be; in any other, the message says what is wrong.
    fn annotated(&self, mut observed: Vec<Observed>) -> Vec<Observed> {
        for seen in observed.iter_mut().filter(|seen| seen.message.is_none() && seen.ready_since.is_some()) {
            seen.message = self.host.note(seen.replica);
        }
        observed
    }

    fn say(&self, what: ToServer) {
        // The session ends only with this end of its inbox.
        let _ = self.to_server.send(what);
    }

    fn collect_garbage(&self) {
        let (host, in_use) = (self.host.clone(), self.core.images());
        spawn_blocking(move || host.collect_garbage(&in_use));
    }
}

/// Whether it failed in a way that the launcher's end alone may explain.
fn needed_launcher(event: &Event) -> bool {
    matches!(
        event,
        Event::Prepared { result: Err(_), .. }
            | Event::Started { result: Err(_), .. }
            | Event::Probed { result: Err(_), .. }
    )
}

fn on_the_wire(exit: core::ContainerExit) -> ContainerExit {
    let core::ContainerExit { replica, service, slot, container, exit, restarts, stop } = exit;
    ContainerExit { replica, slot, service, container, exit, restarts, stop }
}
