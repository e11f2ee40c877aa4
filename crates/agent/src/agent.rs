//! The agent's loop: everything that happens goes into the core, what it orders is saved and then done.
//!
//! One task owns the core. Everything else, executors, watches, the session, tells it what happened through one channel
//! ([`Happened`]) and never touches it.

mod orders;

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use model::{Assignment, Dispatch, Observed, ReplicaId};
use tokio::{
    io::Interest,
    sync::{mpsc, oneshot, watch},
    task::{JoinError, spawn_blocking},
    time::sleep,
};

use crate::{
    alarm::Alarm,
    balancer::{self, Order},
    begin::{Acquainted, Begun, acquaint, begin, random},
    clock::Clock,
    config::Config,
    core::{Change, ContainerId, Core, Event, Found, FoundState, Record},
    host::{Host, HostError},
    identity::IdentityError,
    journal::{Held, Journal, Urgency},
    lanes::Lanes,
    ledger::{Ledger, LedgerError},
    readiness,
    session::{Session, ToServer, WaysError, introduce},
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
    #[error(transparent)]
    Ways(#[from] WaysError),
    #[error("cannot use {}, which tells containers until when they may run", path.display())]
    Lease { path: PathBuf, source: std::io::Error },
    #[error("cannot use {}, which tells the next agent what this one's times are by", path.display())]
    Clock { path: PathBuf, source: std::io::Error },
    #[error("the agent cannot be woken at a time")]
    Alarm(#[source] std::io::Error),
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
    let seed = random().map_err(Error::Random)?;
    let config = Arc::new(config);
    let acquainted = {
        let config = Arc::clone(&config);
        spawn_blocking(move || acquaint(&config, seed)).await??
    };
    let Acquainted { identity, mut ways, mut node } = acquainted;
    tokio::pin!(shutdown);
    let subnet = match node.subnet {
        Some(subnet) => subnet,
        None => tokio::select! {
            () = &mut shutdown => return Ok(()),
            given = introduce(&mut ways, &identity, &node) => given,
        },
    };
    if node.subnet.replace(subnet).is_none() {
        identity.keep_subnet(subnet)?;
    }
    let Begun { host, ledger, directory, lease, leased_until, known } =
        spawn_blocking(move || begin(config, subnet, runtime)).await??;
    let launcher = host.runtime.watch_launcher().map_err(Error::Launcher)?;
    let (sender, happened) = mpsc::unbounded_channel();
    let mut agent = Agent {
        core: Core::new(),
        clock: host.clock,
        journal: Journal::default(),
        ledger: Arc::new(ledger),
        lanes: Lanes::new(host.clone(), sender.clone()),
        balancer: balancer::spawn(host.clone(), sender.clone()),
        to_server: Session::spawn(host.clone(), node, identity, ways, lease, sender.clone(), seed),
        alarm: Alarm::new().map_err(Error::Alarm)?,
        host,
        launcher,
        sender,
        happened,
        in_doubt: known.is_none(),
    };
    agent.tell(Event::Remembered(directory));
    if let Some(until) = leased_until {
        agent.tell(Event::Leased { until });
    }
    match known {
        Some((records, found)) => agent.adopt(records, found),
        None => tracing::error!(
            "containers run here and no ledger tells of them; they go on until a server says what belongs here"
        ),
    }
    agent.serve(shutdown.as_mut()).await?;
    if stop_on_exit { agent.close().await } else { agent.rest().await }
}

struct Agent {
    core: Core,
    clock: Clock,
    alarm: Alarm,
    journal: Journal,
    ledger: Arc<Ledger>,
    lanes: Lanes,
    balancer: watch::Sender<Order>,
    to_server: mpsc::UnboundedSender<ToServer>,
    host: Host,
    launcher: runtime::LauncherWatch,
    sender: Sender,
    happened: mpsc::UnboundedReceiver<Happened>,
    /// Nothing is remembered of what runs here: until a server has spoken, nothing is touched.
    in_doubt: bool,
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

    /// Takes over what runs of these, when nothing is remembered; what else runs is to go.
    async fn remember(&mut self, assignments: Vec<Assignment>) -> Result<(), Error> {
        let (host, ledger) = (self.host.clone(), Arc::clone(&self.ledger));
        let remembered = spawn_blocking(move || {
            let (records, found) = host.remember(&assignments)?;
            let changes: Vec<Change> = records.iter().cloned().map(Box::new).map(Change::Put).collect();
            ledger.save(&changes)?;
            Ok::<_, Error>((records, found))
        });
        let (records, found) = remembered.await??;
        self.in_doubt = false;
        self.adopt(records, found);
        Ok(())
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
        if self.in_doubt {
            self.remember(Vec::new()).await?;
        }
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
        let wake = self.core.next_wake().map(|at| self.clock.boot_time(at));
        tokio::select! {
            // The loop holds a sender itself: this never ends.
            Some(happened) = self.happened.recv() => self.take(happened).await?,
            woken = self.alarm.at(wake.unwrap_or_default()), if wake.is_some() => {
                woken.map_err(Error::Alarm)?;
                self.tell(Event::Wake);
            }
            () = sleep(LAZY), if self.journal.has_lazy() => self.commit(Urgency::Everything),
        }
        // One commit for all that came at once.
        for _ in 0..AT_ONCE {
            match self.happened.try_recv() {
                Ok(happened) => self.take(happened).await?,
                Err(_) => break,
            }
        }
        self.go_on();
        Ok(())
    }

    async fn take(&mut self, happened: Happened) -> Result<(), Error> {
        match happened {
            // Faster than the watch. The ledger says that it was being done, which is where the next agent goes on.
            Happened::Core(event)
                if needed_launcher(&event) && self.launcher.wait(0).map_err(Error::Launcher)? =>
            {
                return Err(Error::LauncherEnded);
            }
            Happened::Core(event) => {
                if let (true, Event::Assigned(Dispatch::Full { assignments, .. })) = (self.in_doubt, &event) {
                    self.remember(assignments.clone()).await?;
                }
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
