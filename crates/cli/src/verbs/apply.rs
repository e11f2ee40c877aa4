//! `wharf apply`: shows what will change, then makes it so.

use anstream::println;
use manifest::{Declared, Manifest, Style};
use owo_colors::OwoColorize;
use proto::v1::{self, apply_result::Outcome};

use crate::{
    args,
    connect::Client,
    deploy::{self, Goal},
    exit::{Code, Failure},
};

pub async fn run(client: &mut Client, args: args::Apply) -> Result<Code, Failure> {
    let manifests = deploy::read_manifests(&args.files)?;
    apply(client, &manifests, args.dry_run, &args.waiting).await
}

/// Applies manifests that were read, and waits if asked to.
pub async fn apply(
    client: &mut Client,
    manifests: &[Manifest],
    dry_run: bool,
    waiting: &args::Waiting,
) -> Result<Code, Failure> {
    let planned = deploy::apply(client, manifests, true).await?;
    for (manifest, result) in manifests.iter().zip(&planned) {
        print_plan(manifest, result)?;
    }
    if dry_run {
        println!("{}", "dry run: nothing was changed".dimmed());
        return Ok(Code::Done);
    }
    let applied = deploy::apply(client, manifests, false).await?;
    if !waiting.wait {
        return Ok(Code::Done);
    }
    let goals = applied.iter().filter_map(goal).collect();
    deploy::wait(client, goals, waiting.timeout).await
}

fn goal(result: &v1::ApplyResult) -> Option<Goal> {
    let service = result.service.clone()?;
    Some(Goal { service, generation: result.generation, revision: result.revision })
}

/// One service: what happens to it, and the fields that differ.
pub fn print_plan(manifest: &Manifest, result: &v1::ApplyResult) -> Result<(), Failure> {
    let name = &manifest.key;
    match result.outcome() {
        Outcome::Created => println!("service {name} {} (revision {})", "created".green(), result.revision),
        Outcome::Changed if result.rollout => {
            println!(
                "service {name} {} (new revision {}, its replicas are replaced)",
                "changed".yellow(),
                result.revision
            );
        }
        Outcome::Changed => {
            println!("service {name} {} (revision {} stays)", "changed".yellow(), result.revision)
        }
        Outcome::Unchanged => {
            println!("service {name} unchanged (revision {})", result.revision);
            return Ok(());
        }
        Outcome::Unspecified => println!("service {name}"),
    }
    let not_understood =
        |error: proto::DecodeError| Failure::new("the server's answer is not understood").caused_by(error);
    let previous =
        result.previous.clone().map(model::Service::try_from).transpose().map_err(not_understood)?;
    let resolved =
        result.resolved.clone().map(model::ServiceSpec::try_from).transpose().map_err(not_understood)?;
    let Manifest { key, labels, annotations, spec, .. } = manifest;
    let new = Declared { key, labels, annotations, spec: resolved.as_ref().unwrap_or(spec) };
    let changes = manifest::diff(previous.as_ref().map(Declared::from), new);
    let style = if colours() { Style::COLOURS } else { Style::PLAIN };
    for line in manifest::render_diff(&changes, &style).lines() {
        println!("  {line}");
    }
    Ok(())
}

fn colours() -> bool {
    use std::io::IsTerminal;
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// For verbs whose change may be waited for.
pub async fn wait_if_asked(
    client: &mut Client,
    goal: Goal,
    waiting: &args::Waiting,
) -> Result<Code, Failure> {
    if waiting.wait { deploy::wait(client, vec![goal], waiting.timeout).await } else { Ok(Code::Done) }
}
