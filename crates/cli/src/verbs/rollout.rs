//! `wharf rollout`: status, history, undo, restart.

use proto::v1;

use crate::{
    args::{self, Global, Output, Rollout},
    ask,
    connect::Client,
    exit::{Code, Failure},
    output::{
        clock::{self, Clock},
        json, print, say, tables,
        text::{Format, lines},
    },
    target::Target,
    wait::{self, Goal},
};

pub async fn run(client: &mut Client, global: &Global, rollout: Rollout) -> Result<Code, Failure> {
    match rollout {
        Rollout::Status { service, waiting } => status(client, global, &service, &waiting).await,
        Rollout::History { service, output } => history(client, global, &service, output).await,
        Rollout::Undo { service, to, waiting } => {
            let service = service.key(&global.namespace);
            let request = v1::UndoRequest { service: Some(v1::ServiceKey::from(&service)), to_revision: to };
            let answer = match client.undo(request).await {
                Ok(answer) => answer.into_inner(),
                Err(status) => return Err(ask::refused(client, &[service], status).await),
            };
            say(format_args!("service {service} goes back to revision {}", answer.revision));
            let goal = Goal::runs(service, answer.generation, answer.revision);
            wait::if_asked(client, vec![goal], &waiting).await
        }
        Rollout::Restart { service, waiting } => {
            let service = service.key(&global.namespace);
            let request = v1::RestartRequest { service: Some(v1::ServiceKey::from(&service)) };
            let answer = match client.restart(request).await {
                Ok(answer) => answer.into_inner(),
                Err(status) => return Err(ask::refused(client, &[service], status).await),
            };
            say(format_args!("service {service} restarts as revision {}", answer.revision));
            let goal = Goal::runs(service, answer.generation, answer.revision);
            wait::if_asked(client, vec![goal], &waiting).await
        }
    }
}

/// Prints where the rollout is; its end, waited for or not, decides the exit code.
async fn status(
    client: &mut Client,
    global: &Global,
    target: &Target,
    waiting: &args::Waiting,
) -> Result<Code, Failure> {
    let key = target.key(&global.namespace);
    let found = ask::service(client, &key).await?;
    let rollout = &found.service.rollout;
    if waiting.wait {
        let goal = Goal::Runs { service: key, generation: rollout.generation, revision: rollout.to };
        return wait::interruptible(client, vec![goal], waiting.timeout).await;
    }
    let (code, text) = match wait::end_of(&found.service) {
        Some((code, text)) => (code, format!("{key} {text}\n")),
        None => (Code::Done, String::new()),
    };
    let now = format!("{key}: {}\n", wait::step_of(&found).headline);
    let waits = lines(found.waiting_on.iter().map(|waiting| format!("  {}", waiting.text)));
    print(&format!("{text}{now}{waits}"))?;
    Ok(code)
}

async fn history(
    client: &mut Client,
    global: &Global,
    target: &Target,
    output: Output,
) -> Result<Code, Failure> {
    let found = ask::service(client, &target.key(&global.namespace)).await?;
    let text = match Format::of(output) {
        Some(format) => {
            let list: Vec<_> =
                found.revisions.iter().map(|revision| json::revision(&found, revision)).collect();
            format.render(&list.into())?
        }
        None if output == Output::Name => {
            lines(found.revisions.iter().map(|revision| revision.number.to_string()))
        }
        None => tables::revisions(std::slice::from_ref(&found), &Clock::at(clock::now())),
    };
    print(&text)?;
    Ok(Code::Done)
}
