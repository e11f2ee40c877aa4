//! `wharf rollout`: status, history, undo, restart.

use anstream::println;
use proto::v1;

use crate::{
    args::{self, Global, Output, Rollout},
    connect::Client,
    deploy::{self, Goal, name_of},
    exit::{Code, Failure},
    output::{convert, text},
    target::Target,
    verbs::{apply::wait_if_asked, get},
};

pub async fn run(client: &mut Client, global: &Global, rollout: Rollout) -> Result<Code, Failure> {
    match rollout {
        Rollout::Status { service, waiting } => status(client, global, &service, &waiting).await,
        Rollout::History { service, output } => history(client, global, &service, output).await,
        Rollout::Undo { service, to, waiting } => {
            let service = service.key(&global.namespace);
            let request = v1::UndoRequest { service: Some(service.clone()), to_revision: to };
            let answer = client.undo(request).await?.into_inner();
            println!("service {} goes back to revision {}", name_of(&service), answer.revision);
            let goal = Goal { service, generation: answer.generation, revision: answer.revision };
            wait_if_asked(client, goal, &waiting).await
        }
        Rollout::Restart { service, waiting } => {
            let service = service.key(&global.namespace);
            let answer =
                client.restart(v1::RestartRequest { service: Some(service.clone()) }).await?.into_inner();
            println!("service {} restarts as revision {}", name_of(&service), answer.revision);
            let goal = Goal { service, generation: answer.generation, revision: answer.revision };
            wait_if_asked(client, goal, &waiting).await
        }
    }
}

/// The status of one service, or an error that names the one that was probably meant.
pub async fn one(
    client: &mut Client,
    global: &Global,
    target: &Target,
) -> Result<v1::ServiceStatus, Failure> {
    let key = target.key(&global.namespace);
    let named = v1::status_request::ServiceKeys { keys: vec![key.clone()] };
    let services = Some(v1::status_request::Services::Named(named));
    let answer = client.status(v1::StatusRequest { services, ..v1::StatusRequest::default() }).await?;
    match answer.into_inner().services.into_iter().next() {
        Some(found) => Ok(found),
        None => Err(get::unknown_service(client, &key).await),
    }
}

/// Prints where the rollout is; its end, waited for or not, decides the exit code.
async fn status(
    client: &mut Client,
    global: &Global,
    target: &Target,
    waiting: &args::Waiting,
) -> Result<Code, Failure> {
    let found = one(client, global, target).await?;
    let rollout = found.service.as_ref().and_then(|service| service.rollout.clone()).unwrap_or_default();
    let service = target.key(&global.namespace);
    let name = name_of(&service);
    if waiting.wait {
        let goal = Goal { service, generation: rollout.generation, revision: rollout.to };
        return deploy::wait(client, vec![goal], waiting.timeout).await;
    }
    println!("{name}: {}", deploy::describe_progress(&found));
    for waiting in found.waiting_on.iter().skip(1) {
        println!("  {}", waiting.text);
    }
    let code = match rollout.phase {
        Some(v1::rollout::Phase::RolledBack(back)) => {
            println!(
                "  revision {} failed: {}; rolled back to revision {}",
                rollout.to, back.reason, back.back_to
            );
            Code::RolledBack
        }
        Some(v1::rollout::Phase::Paused(paused)) => {
            println!("  revision {} failed: {}", rollout.to, paused.reason);
            Code::FailedAndPaused
        }
        Some(v1::rollout::Phase::RollingBack(back)) => {
            println!("  revision {} failed: {}", rollout.to, back.reason);
            Code::Done
        }
        Some(v1::rollout::Phase::Progressing(_) | v1::rollout::Phase::Completed(_)) | None => Code::Done,
    };
    Ok(code)
}

async fn history(
    client: &mut Client,
    global: &Global,
    target: &Target,
    output: Output,
) -> Result<Code, Failure> {
    let found = one(client, global, target).await?;
    let json = || found.revisions.iter().map(convert::revision).collect::<Result<Vec<_>, _>>();
    match output {
        Output::Json => text::print_json(&json()?.into())?,
        Output::Yaml => text::print_yaml(&json()?.into()),
        Output::Name => found.revisions.iter().for_each(|revision| println!("{}", revision.number)),
        Output::Table | Output::Wide => get::revisions(&found),
    }
    Ok(Code::Done)
}
