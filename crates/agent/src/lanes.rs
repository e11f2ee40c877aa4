//! Executes what the core ordered: the orders of one replica one after the other, those of different replicas at once.
//!
//! Probes are in no lane, since a slow one must not hold up a stop. Discards are begun in their lane and end beside it,
//! since a restart must not wait for the removal of what it replaces; only a clean waits for them.

use std::{collections::HashMap, sync::Arc};

use model::ReplicaId;
use tokio::{
    sync::{Semaphore, mpsc},
    task::{JoinSet, spawn_blocking},
};

use crate::{
    agent::{Happened, Sender},
    core::{Action, ContainerId, Event, Setback},
    host::{Host, chain},
    prober, watch,
};

/// Preparations and starts that run at once. They are bound by the kernel's locks and the disk; more only queue there.
const STARTS_AT_ONCE: usize = 4;

#[derive(Debug)]
pub(crate) struct Lanes {
    workplace: Workplace,
    lanes: HashMap<ReplicaId, mpsc::UnboundedSender<Action>>,
}

/// What an executor works with.
#[derive(Clone, Debug)]
struct Workplace {
    host: Host,
    happened: Sender,
    starts: Arc<Semaphore>,
}

impl Lanes {
    pub(crate) fn new(host: Host, happened: Sender) -> Lanes {
        let starts = Arc::new(Semaphore::new(STARTS_AT_ONCE));
        Lanes { workplace: Workplace { host, happened, starts }, lanes: HashMap::new() }
    }

    pub(crate) fn order(&mut self, replica: ReplicaId, action: Action) {
        let lane = self.lanes.entry(replica).or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            tokio::spawn(self.workplace.clone().work(receiver));
            sender
        });
        // A lane ends only after its sender is gone.
        let _ = lane.send(action);
    }

    /// Nothing of the replica is left: its lane ends after what it still has to do.
    pub(crate) fn close(&mut self, replica: ReplicaId) {
        self.lanes.remove(&replica);
    }

    pub(crate) fn watch(&self, id: ContainerId) {
        watch::watch(self.workplace.host.clone(), id, self.workplace.happened.clone());
    }
}

impl Workplace {
    async fn work(self, mut orders: mpsc::UnboundedReceiver<Action>) {
        let mut discards = JoinSet::new();
        while let Some(action) = orders.recv().await {
            while discards.try_join_next().is_some() {}
            self.execute(action, &mut discards).await;
        }
    }

    async fn execute(&self, action: Action, discards: &mut JoinSet<()>) {
        match action {
            Action::Prepare { assignment, address } => {
                let replica = assignment.replica;
                let prepared = self.starting(move |host| host.prepare(&assignment, address)).await;
                let result = prepared.unwrap_or_else(|lost| Err(Setback::of_node(lost)));
                self.tell(Event::Prepared { replica, result });
            }
            Action::StartContainer { id, assignment, address } => {
                let starting = id.clone();
                let started = self.starting(move |host| host.start(&starting, &assignment, address)).await;
                let result = started.unwrap_or_else(|lost| Err(Setback::of_node(lost)));
                let runs = result.is_ok();
                self.tell(Event::Started { id: id.clone(), result });
                if runs {
                    watch::watch(self.host.clone(), id, self.happened.clone());
                }
            }
            Action::Signal { id, signal } => {
                self.quietly(id.clone(), "signalled", move |host| host.signal(&id, &signal)).await;
            }
            Action::Kill { id } => self.quietly(id.clone(), "killed", move |host| host.kill(&id)).await,
            Action::Probe { id, kind, target, timeout } => {
                let (host, happened) = (self.host.clone(), self.happened.clone());
                tokio::spawn(async move {
                    let result = prober::probe(&host, &id, &target, timeout).await;
                    let _ = happened.send(Happened::Core(Event::Probed { id, kind, result }));
                });
            }
            Action::Discard { id } => {
                let host = self.host.clone();
                discards.spawn_blocking(move || discard(&host, &id));
            }
            Action::Clean { replica, service } => {
                while discards.join_next().await.is_some() {}
                let host = self.host.clone();
                let cleaned = spawn_blocking(move || host.clean(replica, service.as_ref())).await;
                let result = cleaned.unwrap_or_else(|error| Err(chain(&error)));
                if let Err(reason) = &result {
                    tracing::warn!(%replica, reason, "what a replica left behind cannot be removed yet");
                }
                self.tell(Event::Cleaned { replica, result });
            }
            Action::Save(_)
            | Action::Balance { .. }
            | Action::Report(_)
            | Action::Exits(_)
            | Action::GoBy { .. }
            | Action::ReopenSession => {
                debug_assert!(false, "the loop keeps these to itself");
            }
        }
    }

    /// Blocking, and no more than a few at once. A panic is told like any failure.
    async fn starting<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Host) -> T + Send + 'static,
    ) -> Result<T, String> {
        let host = self.host.clone();
        // The semaphore is never closed; were it, starting without it is still right.
        let permit = Arc::clone(&self.starts).acquire_owned().await.ok();
        let done = spawn_blocking(move || {
            let _permit = permit;
            what(&host)
        });
        done.await.map_err(|error| chain(&error))
    }

    /// For what needs no answer: whether it worked is seen by what happens next.
    async fn quietly(
        &self,
        id: ContainerId,
        done: &'static str,
        what: impl FnOnce(&Host) -> Result<(), runtime::Error> + Send + 'static,
    ) {
        let host = self.host.clone();
        match spawn_blocking(move || what(&host)).await {
            Ok(Ok(()) | Err(runtime::Error::NotRunning(_) | runtime::Error::Unknown(_))) => {}
            Ok(Err(error)) => tracing::warn!(%id, error = chain(&error), "a container could not be {done}"),
            Err(error) => tracing::error!(%id, error = chain(&error), "a container could not be {done}"),
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more only when the agent ends.
        let _ = self.happened.send(Happened::Core(event));
    }
}

fn discard(host: &Host, id: &ContainerId) {
    if let Err(error) = host.discard(id) {
        tracing::warn!(%id, error = chain(&*error), "what a container left behind stays until its replica is removed");
    }
}
