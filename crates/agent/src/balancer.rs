//! Puts the newest set of published ports in force, and the ways to other hosts, and says so. An older set that was not in force yet is skipped.
//!
//! Other programs flush firewalls and remove links. So the same set is put in force again and again, which costs little
//! while it is, and the network is looked after before that.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use model::Directory;
use tokio::{sync::watch, task::spawn_blocking, time::timeout};

use crate::{
    agent::{Happened, Sender},
    core::{Event, Published},
    host::{Host, chain},
};

/// Between attempts at the same set.
const PAUSE: Duration = Duration::from_millis(250);

/// How long what an administrator or another program did to our network may last.
const HEAL_EVERY: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    pub(crate) serial: u64,
    pub(crate) ports: Vec<Published>,
    /// Of the other nodes, whose replicas some of the ports lead to.
    pub(crate) directory: Arc<Directory>,
}

/// Starts the balancer; it ends when the sender is dropped.
pub(crate) fn spawn(host: Host, happened: Sender) -> watch::Sender<Order> {
    let (sender, mut orders) = watch::channel(Order::default());
    tokio::spawn(async move {
        // Before the first order nobody may say what is published: what an earlier agent left goes on.
        let mut ordered = orders.changed().await;
        // Looking after the network takes milliseconds, and replicas wait for an order to be in force.
        let mut healed: Option<Instant> = None;
        let mut known: Option<Arc<Directory>> = None;
        while ordered.is_ok() {
            loop {
                let Order { serial, ports, directory } = orders.borrow_and_update().clone();
                let host = host.clone();
                let news = Some(&directory).filter(|directory| known.as_ref() != Some(directory)).cloned();
                let heals = healed.is_none_or(|at| at.elapsed() >= HEAL_EVERY);
                let publish = move || {
                    if heals {
                        host.heal_network()?;
                    }
                    if let Some(directory) = news {
                        host.connect(&directory)?;
                    }
                    host.publish(&ports)
                };
                match spawn_blocking(publish).await {
                    Ok(Ok(())) => {
                        known = Some(directory);
                        healed = healed.filter(|_| !heals).or_else(|| Some(Instant::now()));
                        let _ = happened.send(Happened::Core(Event::Balanced { serial }));
                        break;
                    }
                    Ok(Err(error)) => tracing::error!(error = chain(&error), "ports cannot be published"),
                    Err(error) => tracing::error!(error = chain(&error), "ports cannot be published"),
                }
                healed = None;
                tokio::time::sleep(PAUSE).await;
            }
            ordered = timeout(HEAL_EVERY, orders.changed()).await.unwrap_or(Ok(()));
        }
    });
    sender
}
