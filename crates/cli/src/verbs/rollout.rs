//! `wharf rollout`: status, history, undo, restart.

use proto::v1;

use crate::{
    args::{self, Global, Output, Rollout},
    ask,
    connect::{Client, Freshness},
    exit::{Code, Failure},
    output::{
        caveats,
        clock::{self, Clock},
        json, print, remark, say, tables,
        text::{Format, lines},
    },
    target::Target,
    wait::{self, Goal},
};

pub async fn run(client: &mut Client, global: &Global, rollout: Rollout) -> Result<Code, Failure> {
    match rollout {
        Rollout::Status { waiting, stale, .. } if waiting.wait && stale.freshness() == Freshness::Stale => {
            let failure = Failure::new("--wait follows what happens, which --stale may not know");
            Err(failure.help("leave one of them out"))
        }
        Rollout::Status { service, waiting, .. } => status(client, global, &service, &waiting).await,
        Rollout::History { service, output, .. } => history(client, global, &service, output).await,
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
    let (found, answer) = ask::about(client, &key).await?;
    remark(&caveats::text(&answer));
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
    let (found, answer) = ask::about(client, &target.key(&global.namespace)).await?;
    remark(&caveats::text(&answer));
    let text = match Format::of(output) {
        Some(format) => {
            let list: Vec<_> =
                found.revisions.iter().map(|revision| json::revision(&found, revision)).collect();
            format.render(&caveats::around(&answer, list.into()))?
        }
        None if output == Output::Name => {
            lines(found.revisions.iter().map(|revision| revision.number.to_string()))
        }
        None => tables::revisions(std::slice::from_ref(&found), &Clock::at(clock::now())),
    };
    print(&text)?;
    Ok(Code::Done)
}
