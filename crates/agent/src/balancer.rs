//! Puts the newest set of published ports in force, and says so. An older set that was not in force yet is skipped.

use std::time::Duration;

use tokio::{sync::watch, task::spawn_blocking};

use crate::{
    agent::{Happened, Sender},
    core::{Event, Published},
    host::{Host, chain},
};

/// Between attempts at the same set.
const PAUSE: Duration = Duration::from_millis(250);

pub(crate) type Order = (u64, Vec<Published>);

/// Starts the balancer; it ends when the sender is dropped.
pub(crate) fn spawn(host: Host, happened: Sender) -> watch::Sender<Order> {
    let (sender, mut orders) = watch::channel((0, Vec::new()));
    tokio::spawn(async move {
        while orders.changed().await.is_ok() {
            loop {
                let (serial, ports) = orders.borrow_and_update().clone();
                let host = host.clone();
                match spawn_blocking(move || host.publish(&ports)).await {
                    Ok(Ok(())) => {
                        let _ = happened.send(Happened::Core(Event::Balanced { serial }));
                        break;
                    }
                    Ok(Err(error)) => tracing::error!(error = chain(&error), "ports cannot be published"),
                    Err(error) => tracing::error!(error = chain(&error), "ports cannot be published"),
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    });
    sender
}
