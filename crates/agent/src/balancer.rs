//! Puts the newest set of published ports in force, and says so. An older set that was not in force yet is skipped.
//!
//! Other programs flush firewalls and remove links. So the same set is put in force again and again, which costs little
//! while it is, and the network is looked after before that.

use std::time::{Duration, Instant};

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

pub(crate) type Order = (u64, Vec<Published>);

/// Starts the balancer; it ends when the sender is dropped.
pub(crate) fn spawn(host: Host, happened: Sender) -> watch::Sender<Order> {
    let (sender, mut orders) = watch::channel((0, Vec::new()));
    tokio::spawn(async move {
        // Before the first order nobody may say what is published: what an earlier agent left goes on.
        let mut ordered = orders.changed().await;
        // Looking after the network takes milliseconds, and replicas wait for an order to be in force.
        let mut healed: Option<Instant> = None;
        while ordered.is_ok() {
            loop {
                let (serial, ports) = orders.borrow_and_update().clone();
                let host = host.clone();
                let heals = healed.is_none_or(|at| at.elapsed() >= HEAL_EVERY);
                let publish = move || {
                    if heals {
                        host.heal_network()?;
                    }
                    host.publish(&ports)
                };
                match spawn_blocking(publish).await {
                    Ok(Ok(())) => {
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
