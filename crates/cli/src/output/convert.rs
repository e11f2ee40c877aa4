//! From a server's answer to rows and JSON. A service's JSON is its manifest and a `status` beside it.

use manifest::Form;
use model::{
    Bytes, ContainerState, MilliCpu, Observed, Phase, Revision, RevisionStatus, Service, waiting::roughly,
};
use proto::{DecodeError, v1};
use serde_json::{Value as Json, json};

use crate::{deploy::name_of, exit::Failure, output::text::age};

pub fn understood<T>(result: Result<T, DecodeError>) -> Result<T, Failure> {
    let help = "this program and the server should have the same version: see `wharf version`";
    result.map_err(|error| Failure::new("the server's answer is not understood").caused_by(error).help(help))
}

pub fn rollout_phase(service: &v1::Service) -> &'static str {
    use v1::rollout::Phase;
    if service.deleting_since_unix_ms.is_some() {
        return "deleting";
    }
    match service.rollout.as_ref().and_then(|rollout| rollout.phase.as_ref()) {
        Some(Phase::Progressing(_)) => "progressing",
        Some(Phase::Completed(_)) => "completed",
        Some(Phase::RollingBack(_)) => "rolling-back",
        Some(Phase::RolledBack(_)) => "rolled-back",
        Some(Phase::Paused(_)) => "paused",
        None => "-",
    }
}

/// `8080->http/tcp`, or a dash.
pub fn published(spec: &v1::ServiceSpec) -> String {
    let ports = spec.template.iter().flat_map(|template| &template.ports);
    let shown: Vec<String> =
        ports.filter_map(|port| Some(format!("{}->{}", port.publish?, port.port))).collect();
    if shown.is_empty() { "-".to_owned() } else { shown.join(",") }
}

pub fn main_image(spec: &v1::ServiceSpec) -> String {
    let main = spec.template.as_ref().and_then(|template| template.main.as_ref());
    main.and_then(|main| main.image.as_ref()).map_or_else(|| "-".to_owned(), |image| image.reference.clone())
}

pub fn service(found: &v1::ServiceStatus) -> Result<Json, Failure> {
    let service = found.service.clone().unwrap_or_default();
    let phase = rollout_phase(&service);
    let service = understood(Service::try_from(service))?;
    let mut json = manifest::to_json(&service, Form::Short);
    let replicas: Vec<Json> = found.replicas.iter().map(replica).collect::<Result<_, _>>()?;
    json["status"] = json!({
        "generation": service.generation.0,
        "version": service.version.0,
        "revision": service.revision.0,
        "rollout": {
            "phase": phase,
            "from": service.rollout.from.map(|revision| revision.0),
            "to": service.rollout.to.0,
            "startedAt": service.rollout.started_at.0,
        },
        "ready": found.ready,
        "available": found.available,
        "upToDate": found.up_to_date,
        "waitingOn": found.waiting_on.iter().map(|waiting| waiting.text.clone()).collect::<Vec<_>>(),
        "createdAt": service.created_at.0,
        "replicas": replicas,
    });
    Ok(json)
}

/// How a replica stands, in one word.
pub fn state_word(desired: v1::Desired, observed: Option<&Observed>) -> String {
    let Some(observed) = observed else {
        return if desired == v1::Desired::Stopped { "stopping".to_owned() } else { "unknown".to_owned() };
    };
    let backing_off =
        observed.containers.iter().any(|c| matches!(c.state, ContainerState::BackingOff { .. }));
    match observed.phase {
        Phase::Running if backing_off => "backing-off".to_owned(),
        Phase::Running if desired == v1::Desired::Stopped => "stopping".to_owned(),
        phase => phase.as_str().to_owned(),
    }
}

pub fn observed(found: &v1::ReplicaStatus) -> Result<Option<Observed>, Failure> {
    found.observed.clone().map(|observed| understood(Observed::try_from(observed))).transpose()
}

pub fn replica(found: &v1::ReplicaStatus) -> Result<Json, Failure> {
    let replica = understood(model::Replica::try_from(found.replica.clone().unwrap_or_default()))?;
    let seen = observed(found)?;
    let containers: Vec<Json> = seen.iter().flat_map(|seen| &seen.containers).map(container).collect();
    let timeline = seen.as_ref().map(|seen| seen.timeline).unwrap_or_default();
    Ok(json!({
        "id": replica.id.to_string(),
        "service": replica.service.to_string(),
        "slot": replica.slot.get(),
        "revision": replica.revision.0,
        "node": found.node_name,
        "desired": replica.desired.as_str(),
        "state": state_word(v1::Desired::from(replica.desired), seen.as_ref()),
        "ready": seen.as_ref().is_some_and(|seen| seen.ready_since.is_some()),
        "address": seen.as_ref().and_then(|seen| seen.address).map(|address| address.to_string()),
        "restarts": seen.as_ref().map_or(0, restarts),
        "message": seen.as_ref().and_then(|seen| seen.message.clone()),
        "timeline": {
            "created": replica.created_at.0,
            "placed": replica.placed_at.map(|at| at.0),
            "received": timeline.received.map(|at| at.0),
            "imageReady": timeline.image_ready.map(|at| at.0),
            "started": timeline.started.map(|at| at.0),
            "ready": timeline.ready.map(|at| at.0),
        },
        "containers": containers,
    }))
}

fn container(container: &model::ContainerObserved) -> Json {
    let (state, pid) = match container.state {
        ContainerState::Waiting => ("waiting", None),
        ContainerState::Running { pid, .. } => ("running", Some(pid)),
        ContainerState::BackingOff { .. } => ("backing-off", None),
        ContainerState::Ended => ("ended", None),
    };
    json!({
        "name": container.name.to_string(),
        "state": state,
        "pid": pid,
        "restarts": container.restarts,
        "lastExit": container.last_exit.as_ref().map(|exit| json!({
            "cause": exit.cause.to_string(),
            "at": exit.at.0,
            "ranForMs": exit.ran_for.0,
        })),
    })
}

pub fn restarts(seen: &Observed) -> u32 {
    seen.containers.iter().map(|container| container.restarts).sum()
}

pub fn node(found: &v1::NodeStatus) -> Result<Json, Failure> {
    let node = understood(model::Node::try_from(found.node.clone().unwrap_or_default()))?;
    Ok(json!({
        "id": node.info.id.to_string(),
        "name": node.info.name.to_string(),
        "state": readiness(found),
        "since": found.since_unix_ms,
        "address": node.info.address.to_string(),
        "labels": node.info.labels,
        "agentVersion": node.info.agent_version,
        "capacity": { "cpu": node.info.cpu.to_string(), "memory": node.info.memory.to_string() },
        "allocated": {
            "cpu": MilliCpu(found.allocated_cpu_millicores).to_string(),
            "memory": Bytes(found.allocated_memory_bytes).to_string(),
        },
        "replicas": found.replicas,
    }))
}

fn readiness(found: &v1::NodeStatus) -> &'static str {
    match found.readiness() {
        v1::node_status::Readiness::Ready => "ready",
        v1::node_status::Readiness::Unknown | v1::node_status::Readiness::Unspecified => "unknown",
    }
}

fn status_words(status: &RevisionStatus) -> (&'static str, String) {
    match status {
        RevisionStatus::Untried => ("untried", String::new()),
        RevisionStatus::Stable => ("stable", String::new()),
        RevisionStatus::Failed { reason } => ("failed", reason.clone()),
    }
}

pub fn revision(found: &v1::Revision) -> Result<Json, Failure> {
    let revision = understood(Revision::try_from(found.clone()))?;
    let (status, reason) = status_words(&revision.status);
    Ok(json!({
        "revision": revision.number.0,
        "hash": revision.hash.to_string(),
        "status": status,
        "reason": reason,
        "createdAt": revision.created_at.0,
        "image": revision.template.main.image.reference,
        "digest": revision.template.main.image.digest.as_ref().map(|digest| digest.to_string()),
    }))
}

pub fn replica_row(found: &v1::ReplicaStatus, now_unix_ms: u64, wide: bool) -> Option<Vec<String>> {
    let replica = found.replica.as_ref()?;
    let seen = observed(found).ok()?;
    let dash = || "-".to_owned();
    let mut row = vec![
        format!("{}.{}", replica.service.as_ref().map(name_of)?, replica.slot),
        replica.revision.to_string(),
        state_word(replica.desired(), seen.as_ref()),
        if seen.as_ref().is_some_and(|seen| seen.ready_since.is_some()) { "yes" } else { "no" }.to_owned(),
        seen.as_ref().map_or_else(dash, |seen| restarts(seen).to_string()),
        found.node_name.clone().unwrap_or_else(dash),
        seen.as_ref().and_then(|seen| seen.address).map_or_else(dash, |address| address.to_string()),
        age(now_unix_ms, replica.created_at_unix_ms),
    ];
    if wide {
        let main = seen.as_ref().and_then(|seen| seen.containers.last());
        let pid = main.and_then(|main| match main.state {
            ContainerState::Running { pid, .. } => Some(pid.to_string()),
            ContainerState::Waiting | ContainerState::BackingOff { .. } | ContainerState::Ended => None,
        });
        row.push(model::ReplicaId(replica.id).to_string());
        row.push(pid.unwrap_or_else(dash));
        row.push(
            main.and_then(|main| main.last_exit.as_ref()).map_or_else(dash, |exit| exit.cause.to_string()),
        );
    }
    Some(row)
}

pub fn node_row(found: &v1::NodeStatus, now_unix_ms: u64) -> Option<Vec<String>> {
    let node = model::Node::try_from(found.node.clone()?).ok()?;
    let cpu = format!("{}/{}", MilliCpu(found.allocated_cpu_millicores), node.info.cpu);
    let memory = format!("{}/{}", mebibytes(found.allocated_memory_bytes), mebibytes(node.info.memory.0));
    Some(vec![
        node.info.name.to_string(),
        readiness(found).to_owned(),
        found.since_unix_ms.map_or_else(|| "-".to_owned(), |since| age(now_unix_ms, since)),
        found.replicas.to_string(),
        cpu,
        memory,
        node.info.address.to_string(),
        node.info.agent_version,
    ])
}

fn mebibytes(bytes: u64) -> String {
    format!("{}Mi", bytes >> 20)
}

pub fn revision_row(found: &v1::Revision, service: &v1::ServiceStatus) -> Option<Vec<String>> {
    let revision = Revision::try_from(found.clone()).ok()?;
    let (status, reason) = status_words(&revision.status);
    let number = revision.number.0;
    let running =
        service.replicas.iter().filter(|r| r.replica.as_ref().is_some_and(|r| r.revision == number)).count();
    let current = service.service.as_ref().is_some_and(|service| service.revision == number);
    Some(vec![
        if current { format!("{number} *") } else { number.to_string() },
        revision.hash.to_string(),
        status.to_owned(),
        running.to_string(),
        crate::output::text::time_of(revision.created_at.0),
        revision.template.main.image.reference.clone(),
        reason,
    ])
}

/// `1.2s`, or a dash while one of the two has not come yet.
pub fn span(from: Option<model::Timestamp>, to: Option<model::Timestamp>) -> String {
    match (from, to) {
        (Some(from), Some(to)) => roughly(to.since(from)),
        (None, _) | (_, None) => "-".to_owned(),
    }
}
