//! What `describe` tells: the story of a service, of one slot, or of a node.

use std::fmt::Write;

use model::{ContainerObserved, ContainerState, Observed, Revision, RolloutPhase, Scheduling, Service};
use owo_colors::OwoColorize;

use super::{
    clock::Clock,
    tables::{self, Width},
    words,
};
use crate::answer::{EventView, NodeView, ReplicaView, ServiceView};

/// Text that grows line by line. Writing into a string cannot fail.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, text: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{text}");
    }

    fn heading(&mut self, text: &str) {
        self.line("");
        self.line(text.bold());
    }

    /// A word and what it is, in columns.
    fn fact(&mut self, what: &str, value: impl std::fmt::Display) {
        self.line(format_args!("  {what:<11} {value}"));
    }
}

pub fn service(found: &ServiceView, events: &[EventView], clock: &Clock) -> String {
    let service = &found.service;
    let mut page = Page::default();
    page.line(format!("service {}", service.key).bold());
    for line in manifest::to_yaml(service, manifest::Form::Short).lines() {
        page.line(format_args!("  {line}"));
    }
    page.heading("Status");
    page.fact("created", format_args!("{} ago", clock.age(service.created_at)));
    page.fact("generation", service.generation);
    page.fact("revision", service.revision);
    let (wanted, ServiceView { ready, available, up_to_date, .. }) = (service.spec.replicas, found);
    let counts =
        format_args!("{wanted} wanted, {ready} ready, {available} available, {up_to_date} up to date");
    page.fact("replicas", counts);
    rollout(&mut page, service, clock);
    if !found.waiting_on.is_empty() {
        page.heading("Waiting on");
        found.waiting_on.iter().for_each(|waiting| page.line(format_args!("  {}", waiting.text)));
    }
    page.heading("Replicas");
    if found.replicas.is_empty() {
        page.line("  none");
    }
    found.replicas.iter().for_each(|found| replica(&mut page, found, clock));
    page.heading("Revisions");
    found.revisions.iter().for_each(|of| revision(&mut page, of, service));
    happened(&mut page, events, clock);
    page.0
}

/// One slot: its replicas, an old one that is stopping and a new one perhaps, and what happened to it.
pub fn slot(found: &ServiceView, slot: u32, events: &[EventView], clock: &Clock) -> String {
    let mut page = Page::default();
    page.line(format!("slot {slot} of service {}", found.service.key).bold());
    let in_slot = found.replicas.iter().filter(|found| found.replica.slot.get() == slot);
    in_slot.for_each(|found| replica(&mut page, found, clock));
    let begins = format!("slot {slot}: ");
    let of_slot: Vec<EventView> =
        events.iter().filter(|event| event.what.starts_with(&begins)).cloned().collect();
    happened(&mut page, &of_slot, clock);
    page.0
}

/// How it is heard, and what was decided of it: each with its reason and since when.
fn node_conditions(page: &mut Page, found: &NodeView, clock: &Clock) {
    let since = found.since.map(|since| format!(", for {}", clock.age(since))).unwrap_or_default();
    let because = |reason: Option<&str>| reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let reason = because(found.reason.as_deref());
    page.fact("state", format_args!("{}{since}{reason}", found.reach.as_str()));
    if let Some(reason) = &found.isolated {
        page.fact("", format_args!("isolated: {reason}"));
    }
    match &found.node.scheduling {
        Scheduling::Open => {}
        Scheduling::Cordoned { since, reason } => {
            let reason = because(reason.as_deref());
            page.fact("", format_args!("cordoned, for {}{reason}", clock.age(*since)));
        }
        Scheduling::Draining { since, deadline, reason } => {
            let word = if found.replicas == 0 { "drained" } else { "draining" };
            let by = deadline.map(|at| format!(", until {} at the latest", clock.time(at)));
            let (by, reason) = (by.unwrap_or_default(), because(reason.as_deref()));
            page.fact("", format_args!("{word}, for {}{by}{reason}", clock.age(*since)));
        }
    }
}

pub fn node(found: &NodeView, replicas: &[&ReplicaView], clock: &Clock) -> String {
    let info = &found.node.info;
    let mut page = Page::default();
    page.line(format!("node {}", info.name).bold());
    node_conditions(&mut page, found, clock);
    page.fact("id", info.id);
    page.fact("registered", format_args!("{} ago", clock.age(found.node.registered_at)));
    page.fact("address", info.address);
    if let Some(subnet) = found.node.subnet {
        page.fact("replicas in", subnet);
    }
    page.fact("agent", format_args!("version {}", info.agent_version));
    for (name, value) in &found.labels {
        page.fact("label", format_args!("{name}={value}"));
    }
    page.fact("cpu", format_args!("{} of {} reserved", found.allocated_cpu, info.cpu));
    let (used, all) = (words::mebibytes(found.allocated_memory.0), words::mebibytes(info.memory.0));
    page.fact("memory", format_args!("{used} of {all} reserved"));
    if let Some(used) = found.used {
        let memory = words::mebibytes(used.memory.0);
        page.fact("used", format_args!("cpu {}, memory {memory}, by everything on the host", used.cpu));
    }
    page.heading("Replicas");
    if replicas.is_empty() {
        page.line("  none");
    } else {
        tables::replicas(replicas, clock, Width::Normal)
            .lines()
            .for_each(|line| page.line(format_args!("  {line}")));
    }
    page.0
}

fn rollout(page: &mut Page, service: &Service, clock: &Clock) {
    let rollout = &service.rollout;
    let from = rollout.from.map_or_else(String::new, |from| format!("from revision {from} "));
    let to = format!("{from}to revision {}: {}", rollout.to, words::rollout(service));
    page.fact("rollout", format_args!("{to}, started {} ago", clock.age(rollout.started_at)));
    match &rollout.phase {
        RolloutPhase::RollingBack { reason, .. }
        | RolloutPhase::RolledBack { reason, .. }
        | RolloutPhase::Paused { reason, .. } => page.fact("", reason),
        RolloutPhase::Progressing | RolloutPhase::Completed { .. } => {}
    }
}

/// The timeline tells a slow image from a slow start, and a slow start from a slow warm-up.
fn replica(page: &mut Page, found: &ReplicaView, clock: &Clock) {
    let ReplicaView { replica, observed, node } = found;
    let seen = observed.as_ref();
    let state = words::state(replica, seen);
    let name = words::slot_name(replica);
    let node = node.as_ref().map_or_else(|| "not placed yet".to_owned(), |node| format!("on {node}"));
    page.line(format_args!(
        "  {} revision {} {node}: {state} ({})",
        name.bold(),
        replica.revision,
        replica.id
    ));
    let timeline = seen.map(|seen| seen.timeline).unwrap_or_default();
    let steps = [
        ("placed", words::took(Some(replica.created_at), replica.placed_at)),
        ("image ready", words::took(replica.placed_at, timeline.image_ready)),
        ("started", words::took(timeline.image_ready, timeline.started)),
        ("ready", words::took(timeline.started, timeline.ready)),
    ];
    let mut story = format!("created {}", clock.time(replica.created_at));
    for (step, took) in steps {
        // What has not come yet ends the story.
        let Some(took) = took else { break };
        let _ = write!(story, " · {step} +{took}");
    }
    page.line(format_args!("    {story}"));
    if let Some(reason) = &replica.stop_reason {
        page.line(format_args!("    stops: {reason}"));
    }
    if let Some(seen) = seen {
        seen_by_its_node(page, seen, clock);
    }
}

fn seen_by_its_node(page: &mut Page, seen: &Observed, clock: &Clock) {
    if let Some(address) = seen.address {
        page.line(format_args!("    address {address}"));
    }
    if let Some(message) = &seen.message {
        page.line(format_args!("    {message}"));
    }
    seen.containers.iter().for_each(|of| container(page, of, clock));
}

fn container(page: &mut Page, container: &ContainerObserved, clock: &Clock) {
    let state = match container.state {
        ContainerState::Running { pid, since, ready } => {
            let ready = if ready { "ready" } else { "not ready" };
            format!("running since {} (pid {pid}, {ready})", clock.time(since))
        }
        ContainerState::BackingOff { until } => format!("starts again at {}", clock.time(until)),
        ContainerState::Waiting | ContainerState::Ended => {
            words::container_state(&container.state).to_owned()
        }
    };
    page.line(format_args!("    container {}: {state}, {} restarts", container.name, container.restarts));
    if let Some(exit) = &container.last_exit {
        let ran = model::waiting::roughly(exit.ran_for);
        page.line(format_args!("      last exit at {} after {ran}: {}", clock.time(exit.at), exit.cause));
    }
}

fn revision(page: &mut Page, revision: &Revision, of: &Service) {
    let (fate, reason) = words::fate(&revision.status);
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let star = if revision.number == of.revision { "*" } else { " " };
    let image = &revision.template.main.image.reference;
    page.line(format_args!("  {}{star} {} {image} {fate}{why}", revision.number, revision.hash));
}

fn happened(page: &mut Page, events: &[EventView], clock: &Clock) {
    page.heading("Events");
    if events.is_empty() {
        page.line("  none are kept");
    }
    events.iter().for_each(|event| page.line(format_args!("  {}  {}", clock.time(event.at), event.what)));
}
