//! `wharf delete`: stops services and, unless told otherwise, waits until they are gone.

use std::collections::BTreeSet;

use model::ServiceKey;
use proto::v1;

use crate::{
    args::{self, Global},
    ask,
    connect::connect,
    exit::{Code, Failure},
    manifests,
    output::say,
    wait::{self, Goal},
};

pub async fn run(global: &Global, args: args::Delete) -> Result<Code, Failure> {
    let keys = keys(global, &args)?;
    let client = &mut connect(global).await?;
    let request = v1::DeleteRequest { services: keys.iter().map(v1::ServiceKey::from).collect() };
    if let Err(status) = client.delete(request).await {
        return Err(ask::refused(client, &keys, status).await);
    }
    if args.no_wait {
        for key in &keys {
            say(format_args!("service {key} is being deleted"));
        }
        return Ok(Code::Done);
    }
    let goals = keys.into_iter().map(|service| Goal::Gone { service }).collect();
    wait::interruptible(client, goals, args.timeout).await
}

/// The services meant, each once, in the order in which they were named.
fn keys(global: &Global, args: &args::Delete) -> Result<Vec<ServiceKey>, Failure> {
    if let Some(slot) = args.names.iter().find(|target| target.slot.is_some()) {
        let help = format!("`wharf scale {} N` changes how many there are", slot.service);
        let message = "a single slot cannot be deleted; the service would fill it again";
        return Err(Failure::new(message).help(help));
    }
    let mut keys: Vec<ServiceKey> = args.names.iter().map(|target| target.key(&global.namespace)).collect();
    if !args.files.is_empty() {
        keys.extend(manifests::read(&args.files)?.into_iter().map(|manifest| manifest.key));
    }
    let mut seen = BTreeSet::new();
    keys.retain(|key| seen.insert(key.clone()));
    Ok(keys)
}
