//! Waits for the end of a container and tells it, with how it ended.

use model::Exit;
use tokio::{io::Interest, task::spawn_blocking};

use crate::{
    agent::{Happened, Sender},
    core::{ContainerId, Event},
    host::{Host, chain, exit_of, runtime_id, unknown_exit},
    readiness,
};

pub(crate) fn watch(host: Host, id: ContainerId, happened: Sender) {
    tokio::spawn(async move {
        let exit = match wait(&host, &id).await {
            Ok(exit) => exit,
            Err(error) => {
                tracing::warn!(%id, error = chain(&*error), "how a container ended cannot be told");
                unknown_exit(host.clock.now())
            }
        };
        // Nobody listens any more only when the agent ends, and then the record tells the next one.
        let _ = happened.send(Happened::Core(Event::Exited { id, exit }));
    });
}

async fn wait(host: &Host, id: &ContainerId) -> Result<Exit, Box<dyn std::error::Error + Send + Sync>> {
    let rid = runtime_id(id)?;
    loop {
        let watched = readiness::of(&host.runtime.watch(&rid)?, Interest::READABLE)?;
        let _ready = watched.readable().await?;
        let (runtime, asked) = (host.runtime.clone(), rid.clone());
        if let Some(record) = spawn_blocking(move || runtime.exit_record(&asked)).await?? {
            return Ok(exit_of(&record, host.clock.now()));
        }
    }
}
