//! Waits for the end of a container and tells it, with how it ended.

use std::time::Duration;

use model::Exit;
use tokio::{io::Interest, task::spawn_blocking, time::sleep};

use crate::{
    agent::{Happened, Sender},
    core::{ContainerId, Event},
    host::{Host, chain, exit_of, runtime_id, unknown_exit},
    readiness,
};

/// Between attempts to watch a container that cannot be watched now.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(crate) fn watch(host: Host, id: ContainerId, happened: Sender) {
    tokio::spawn(async move {
        let exit = loop {
            match wait(&host, &id).await {
                Ok(exit) => break exit,
                Err(error) if is_gone(&*error) => {
                    tracing::warn!(%id, error = chain(&*error), "how a container ended cannot be told");
                    break unknown_exit(host.clock.now());
                }
                // Out of descriptors or of memory, say: that nobody can look does not mean that it ended.
                Err(error) => {
                    tracing::warn!(%id, error = chain(&*error), "a container cannot be watched now");
                    sleep(LOOK_AGAIN).await;
                }
            }
        };
        // Nobody listens any more only when the agent ends, and then the record tells the next one.
        let _ = happened.send(Happened::Core(Event::Exited { id, exit }));
    });
}

/// Whether nothing is known of the container any more, not even that it runs.
fn is_gone(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(runtime::Error::Unknown(_))) || error.is::<runtime::InvalidId>()
}

async fn wait(host: &Host, id: &ContainerId) -> Result<Exit, Box<dyn std::error::Error + Send + Sync>> {
    let rid = runtime_id(id)?;
    loop {
        let watched = readiness::of(&host.runtime.watch(&rid)?, Interest::READABLE)?;
        let _ready = watched.readable().await?;
        let (runtime, asked) = (host.runtime.clone(), rid.clone());
        if let Some(record) = spawn_blocking(move || runtime.exit_record(&asked)).await?? {
            return Ok(exit_of(&record, &host.clock));
        }
    }
}
