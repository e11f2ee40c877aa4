//! `wharf diff`: what applying would change; nothing is written.

use crate::{
    args,
    connect::Client,
    deploy,
    exit::{Code, Failure},
    verbs::apply::print_plan,
};

pub async fn run(client: &mut Client, args: args::Diff) -> Result<Code, Failure> {
    let manifests = deploy::read_manifests(&args.files)?;
    let planned = deploy::apply(client, &manifests, true).await?;
    manifests.iter().zip(&planned).try_for_each(|(manifest, result)| print_plan(manifest, result))?;
    Ok(Code::Done)
}
