//! `wharf describe`: everything about a service, a slot of it, or a node.

use anstream::println;
use model::{ContainerState, Observed, Service};
use owo_colors::OwoColorize;
use proto::v1;

use crate::{
    args::{self, Global},
    connect::Client,
    exit::{Code, Failure},
    output::{convert, text},
    target::Target,
    verbs::rollout,
};

pub async fn run(client: &mut Client, global: &Global, args: args::Describe) -> Result<Code, Failure> {
    match args.what.strip_prefix("node/") {
        Some(name) => node(client, name).await,
        None => service(client, global, &args.what.parse::<Target>().map_err(Failure::new)?).await,
    }
}

async fn node(client: &mut Client, name: &str) -> Result<Code, Failure> {
    let request = v1::StatusRequest { nodes: true, ..v1::StatusRequest::default() };
    let status = client.status(request).await?.into_inner();
    let is_it = |node: &&v1::NodeStatus| {
        node.node.as_ref().and_then(|n| n.info.as_ref()).is_some_and(|i| i.name == name)
    };
    let Some(found) = status.nodes.iter().find(is_it) else {
        return Err(Failure::new(format!("there is no node {name}")).help("`wharf get nodes` lists them"));
    };
    text::print_yaml(&convert::node(found)?);
    Ok(Code::Done)
}

async fn service(client: &mut Client, global: &Global, target: &Target) -> Result<Code, Failure> {
    let found = rollout::one(client, global, target).await?;
    let service = convert::understood(Service::try_from(found.service.clone().unwrap_or_default()))?;
    let now = text::now_unix_ms();
    println!("{} {}", "service".bold(), service.key.to_string().bold());
    println!("{}", manifest::to_yaml(&service, manifest::Form::Short).trim_end());
    heading("Status");
    println!("  created     {} ago", text::age(now, service.created_at.0));
    println!("  generation  {}", service.generation);
    println!("  revision    {}", service.revision);
    println!(
        "  replicas    {} wanted, {} ready, {} available, {} up to date",
        service.spec.replicas, found.ready, found.available, found.up_to_date
    );
    print_rollout(&service, now);
    if !found.waiting_on.is_empty() {
        heading("Waiting on");
        found.waiting_on.iter().for_each(|waiting| println!("  {}", waiting.text));
    }
    heading("Replicas");
    for replica in &found.replicas {
        if target.slot.is_none_or(|slot| replica.replica.as_ref().is_some_and(|r| r.slot == slot)) {
            print_replica(replica)?;
        }
    }
    print_revisions(&found)?;
    print_events(client, global, target).await
}

fn heading(text: &str) {
    println!("\n{}", text.bold());
}

fn print_rollout(service: &Service, now: u64) {
    let rollout = &service.rollout;
    let from = rollout.from.map_or_else(String::new, |from| format!("from revision {from} "));
    let started = text::age(now, rollout.started_at.0);
    println!(
        "  rollout     {from}to revision {}: {}, started {started} ago",
        rollout.to,
        rollout.phase.as_str()
    );
    match &rollout.phase {
        model::RolloutPhase::RollingBack { reason, .. }
        | model::RolloutPhase::RolledBack { reason, .. }
        | model::RolloutPhase::Paused { reason, .. } => println!("              {reason}"),
        model::RolloutPhase::Progressing | model::RolloutPhase::Completed { .. } => {}
    }
}

/// The timeline tells a slow image from a slow start, and a slow start from a slow warm-up.
fn print_replica(found: &v1::ReplicaStatus) -> Result<(), Failure> {
    let replica = convert::understood(model::Replica::try_from(found.replica.clone().unwrap_or_default()))?;
    let seen = convert::observed(found)?;
    let state = convert::state_word(v1::Desired::from(replica.desired), seen.as_ref());
    let node = found.node_name.as_deref().unwrap_or("no node yet");
    println!("  {} revision {} on {node}: {state} ({})", slot(&replica), replica.revision, replica.id);
    let timeline = seen.as_ref().map(|seen| seen.timeline).unwrap_or_default();
    println!(
        "    created {} · placed +{} · image ready +{} · started +{} · ready +{}",
        text::time_of(replica.created_at.0),
        convert::span(Some(replica.created_at), replica.placed_at),
        convert::span(replica.placed_at, timeline.image_ready),
        convert::span(timeline.image_ready, timeline.started),
        convert::span(timeline.started, timeline.ready),
    );
    if let Some(reason) = &replica.stop_reason {
        println!("    stops: {reason}");
    }
    if let Some(seen) = seen {
        print_observed(&seen);
    }
    Ok(())
}

fn slot(replica: &model::Replica) -> String {
    format!("{}.{}", replica.service.name, replica.slot).bold().to_string()
}

fn print_observed(seen: &Observed) {
    if let Some(address) = seen.address {
        println!("    address {address}");
    }
    if let Some(message) = &seen.message {
        println!("    {message}");
    }
    for container in &seen.containers {
        let state = match container.state {
            ContainerState::Waiting => "waiting".to_owned(),
            ContainerState::Running { pid, since, ready } => {
                let ready = if ready { "ready" } else { "not ready" };
                format!("running since {} (pid {pid}, {ready})", text::time_of(since.0))
            }
            ContainerState::BackingOff { until } => format!("starts again at {}", text::time_of(until.0)),
            ContainerState::Ended => "ended".to_owned(),
        };
        println!("    container {}: {state}, {} restarts", container.name, container.restarts);
        if let Some(exit) = &container.last_exit {
            let ran = model::waiting::roughly(exit.ran_for);
            println!("      last exit at {} after {ran}: {}", text::time_of(exit.at.0), exit.cause);
        }
    }
}

fn print_revisions(found: &v1::ServiceStatus) -> Result<(), Failure> {
    heading("Revisions");
    for revision in &found.revisions {
        let json = convert::revision(revision)?;
        let text = |field: &str| json[field].as_str().unwrap_or_default().to_owned();
        let reason = if text("reason").is_empty() { String::new() } else { format!(": {}", text("reason")) };
        println!("  {} {} {} {}{reason}", revision.number, text("hash"), text("image"), text("status"));
    }
    Ok(())
}

async fn print_events(client: &mut Client, global: &Global, target: &Target) -> Result<Code, Failure> {
    let named = v1::status_request::ServiceKeys { keys: vec![target.key(&global.namespace)] };
    let services = Some(v1::status_request::Services::Named(named));
    let request = v1::StatusRequest { services, nodes: false, events: true, event_limit: 20 };
    heading("Events");
    for event in client.status(request).await?.into_inner().events {
        let event = convert::understood(model::Event::try_from(event))?;
        println!("  {}  {}", text::time_of(event.at.0), event.kind);
    }
    Ok(Code::Done)
}
