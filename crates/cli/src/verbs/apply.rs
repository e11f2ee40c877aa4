//! `wharf apply`: shows what will change, then makes it so.

use manifest::Manifest;
use owo_colors::OwoColorize;
use proto::v1;

use crate::{
    answer::understood,
    args::{self, Global},
    connect::{Client, connect},
    exit::{Code, Failure},
    manifests,
    output::{
        plan::{self, Detail},
        remark, say,
    },
    ports,
    wait::{self, Goal},
};

pub async fn run(global: &Global, args: args::Apply) -> Result<Code, Failure> {
    let manifests = manifests::read(&args.files)?;
    let client = &mut connect(global).await?;
    if args.dry_run {
        for (manifest, result) in manifests.iter().zip(&declare(client, &manifests, Try::Dry).await?) {
            say(plan::plan(manifest, result, Detail::Fields)?.trim_end());
        }
        say("dry run: nothing was changed".dimmed());
        return Ok(Code::Done);
    }
    let goals = apply(client, &manifests).await?;
    wait::if_asked(client, goals, &args.waiting).await
}

/// Shows what changes, changes it, and says what to wait for.
pub async fn apply(client: &mut Client, manifests: &[Manifest]) -> Result<Vec<Goal>, Failure> {
    let planned = declare(client, manifests, Try::Dry).await?;
    for (manifest, result) in manifests.iter().zip(&planned).filter(|(_, result)| plan::differs(result)) {
        say(plan::plan(manifest, result, Detail::Summary)?.trim_end());
    }
    warn_of(&ports::taken_by(manifests));
    let applied = declare(client, manifests, Try::Real).await?;
    for result in &applied {
        say(plan::done(result)?);
    }
    applied.into_iter().map(goal).collect()
}

pub fn warn_of(ports: &[ports::Taken]) {
    for taken in ports {
        remark(&format!("{} {taken}\n", "warning:".yellow().bold()));
    }
}

fn goal(result: v1::ApplyResult) -> Result<Goal, Failure> {
    let service = understood(result.service.unwrap_or_default().try_into())?;
    Ok(Goal::runs(service, result.generation, result.revision))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try {
    /// Only says what would happen.
    Dry,
    Real,
}

pub async fn declare(
    client: &mut Client,
    manifests: &[Manifest],
    attempt: Try,
) -> Result<Vec<v1::ApplyResult>, Failure> {
    let declaration = |manifest: &Manifest| v1::ServiceDeclaration {
        service: Some(v1::ServiceKey::from(&manifest.key)),
        labels: manifest.labels.clone().into_iter().collect(),
        annotations: manifest.annotations.clone().into_iter().collect(),
        spec: Some(v1::ServiceSpec::from(&manifest.spec)),
        expects_version: None,
    };
    // What will change is shown by the dry run, and only that is.
    let is_dry = attempt == Try::Dry;
    let services = manifests.iter().map(declaration).collect();
    let response = client.apply(v1::ApplyRequest { services, dry_run: is_dry, brief: !is_dry }).await?;
    Ok(response.into_inner().results)
}
