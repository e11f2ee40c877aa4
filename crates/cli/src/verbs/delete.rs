//! `wharf delete`: stops services and, unless told otherwise, waits until they are gone.

use std::{collections::BTreeSet, time::Instant};

use anstream::println;
use proto::v1;

use crate::{
    args::{self, Global},
    connect::Client,
    deploy::{self, name_of},
    exit::{Code, Failure},
    output::progress::Progress,
};

pub async fn run(client: &mut Client, global: &Global, args: args::Delete) -> Result<Code, Failure> {
    let mut keys: Vec<v1::ServiceKey> =
        args.names.iter().map(|target| target.key(&global.namespace)).collect();
    if let Some(slot) = args.names.iter().find(|target| target.slot.is_some()) {
        let help = format!("`wharf scale {} --replicas N` changes how many there are", slot.service);
        return Err(
            Failure::new("a single slot cannot be deleted; the service would fill it again").help(help)
        );
    }
    if !args.files.is_empty() {
        keys.extend(deploy::read_manifests(&args.files)?.iter().map(|m| v1::ServiceKey::from(&m.key)));
    }
    client.delete(v1::DeleteRequest { services: keys.clone() }).await?;
    if args.no_wait {
        for key in &keys {
            println!("service {} is being deleted", name_of(key));
        }
        return Ok(Code::Done);
    }
    wait_until_gone(client, keys, args.timeout).await
}

async fn wait_until_gone(
    client: &mut Client,
    keys: Vec<v1::ServiceKey>,
    timeout: std::time::Duration,
) -> Result<Code, Failure> {
    let deadline = Instant::now() + timeout;
    let mut left: BTreeSet<String> = keys.iter().map(name_of).collect();
    let services = Some(v1::status_request::Services::Named(v1::status_request::ServiceKeys { keys }));
    let request = v1::StatusRequest { services, ..v1::StatusRequest::default() };
    let mut updates = client.watch(request).await?.into_inner();
    let mut progress = Progress::new();
    while !left.is_empty() {
        let pause = deadline.saturating_duration_since(Instant::now());
        let Ok(update) = tokio::time::timeout(pause, updates.message()).await else {
            let names = left.into_iter().collect::<Vec<_>>().join(", ");
            let failure = Failure::new(format!("not gone in time: {names}; they go on stopping"));
            return Err(failure.code(Code::DeadlinePassed));
        };
        let Some(status) = update? else { return Err(Failure::new("the server ended the watch")) };
        let mut here = BTreeSet::new();
        for found in &status.services {
            let key = found.service.as_ref().and_then(|service| service.key.as_ref());
            let name = key.map(name_of).unwrap_or_default();
            progress.show(&name, &format!("stopping, {} replicas left", found.replicas.len()));
            here.insert(name);
        }
        for gone in left.difference(&here) {
            progress.end(gone, true, "deleted");
        }
        left = &left & &here;
    }
    progress.finish();
    Ok(Code::Done)
}
