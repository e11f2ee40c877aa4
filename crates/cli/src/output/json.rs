//! What `-o json` and `-o yaml` print. A service's JSON is its manifest and a `status` beside it; times are RFC 3339 in
//! UTC, spans are milliseconds and say so in their names.

use manifest::Form;
use model::{ContainerObserved, Revision, RolloutPhase, Scheduling, Timestamp};
use proto::v1;
use serde_json::{Value as Json, json};

use super::{clock::utc, words};
use crate::answer::{EventView, NodeView, ReplicaView, ServiceView};

fn time(at: Option<Timestamp>) -> Option<String> {
    at.map(utc)
}

pub fn service(found: &ServiceView) -> Json {
    let service = &found.service;
    let mut json = manifest::to_json(service, Form::Short);
    json["status"] = json!({
        "generation": service.generation.0,
        "version": service.version.0,
        "revision": service.revision.0,
        "rollout": {
            "phase": words::rollout(service),
            "from": service.rollout.from.map(|revision| revision.0),
            "to": service.rollout.to.0,
            "startedAt": utc(service.rollout.started_at),
            "reason": failure(&service.rollout.phase),
        },
        "ready": found.ready,
        "available": found.available,
        "upToDate": found.up_to_date,
        "waitingOn": found.waiting_on.iter().map(|waiting| waiting.text.clone()).collect::<Vec<_>>(),
        "createdAt": utc(service.created_at),
        "replicas": found.replicas.iter().map(replica).collect::<Vec<_>>(),
    });
    json
}

fn failure(phase: &RolloutPhase) -> Option<&str> {
    match phase {
        RolloutPhase::Progressing | RolloutPhase::Completed { .. } => None,
        RolloutPhase::RollingBack { reason, .. }
        | RolloutPhase::RolledBack { reason, .. }
        | RolloutPhase::Paused { reason, .. } => Some(reason),
    }
}

pub fn replica(found: &ReplicaView) -> Json {
    let ReplicaView { replica, observed, node } = found;
    let seen = observed.as_ref();
    let timeline = seen.map(|seen| seen.timeline).unwrap_or_default();
    json!({
        "id": replica.id.to_string(),
        "service": replica.service.to_string(),
        "slot": replica.slot.get(),
        "revision": replica.revision.0,
        "node": node,
        "desired": replica.desired.as_str(),
        "state": words::state(replica, seen),
        "ready": seen.is_some_and(|seen| seen.ready_since.is_some()),
        "address": seen.and_then(|seen| seen.address).map(|address| address.to_string()),
        "restarts": seen.map_or(0, words::restarts),
        "message": seen.and_then(|seen| seen.message.clone()),
        "stopReason": replica.stop_reason.as_ref().map(|reason| reason.to_string()),
        "timeline": {
            "created": utc(replica.created_at),
            "placed": time(replica.placed_at),
            "received": time(timeline.received),
            "imageReady": time(timeline.image_ready),
            "started": time(timeline.started),
            "ready": time(timeline.ready),
        },
        "containers": seen.iter().flat_map(|seen| &seen.containers).map(container).collect::<Vec<_>>(),
    })
}

fn container(container: &ContainerObserved) -> Json {
    json!({
        "name": container.name.to_string(),
        "state": words::container_state(&container.state),
        "pid": words::pid(container),
        "restarts": container.restarts,
        "lastExit": container.last_exit.as_ref().map(|exit| json!({
            "cause": exit.cause.to_string(),
            "at": utc(exit.at),
            "ranForMs": exit.ran_for.0,
        })),
    })
}

pub fn node(found: &NodeView) -> Json {
    let info = &found.node.info;
    json!({
        "id": info.id.to_string(),
        "name": info.name.to_string(),
        "state": words::node_state(found),
        "conditions": conditions(found),
        "address": info.address.to_string(),
        "subnet": found.node.subnet.map(|subnet| subnet.to_string()),
        "labels": found.labels,
        "agentVersion": info.agent_version,
        "capacity": { "cpu": info.cpu.to_string(), "memory": info.memory.to_string() },
        "allocated": {
            "cpu": found.allocated_cpu.to_string(),
            "memory": found.allocated_memory.to_string(),
        },
        "used": found.used.map(|used| {
            json!({ "cpu": used.cpu.to_string(), "memory": used.memory.to_string() })
        }),
        "replicas": found.replicas,
        "registeredAt": utc(found.node.registered_at),
    })
}

/// How the node is heard, and what was decided of it: each with its reason and since when.
fn conditions(found: &NodeView) -> Vec<Json> {
    let reach = json!({
        "type": found.reach.as_str(),
        "since": time(found.since),
        "reason": found.reason,
    });
    let decided = match &found.node.scheduling {
        Scheduling::Open => None,
        Scheduling::Cordoned { since, reason } => {
            Some(json!({ "type": "cordoned", "since": utc(*since), "reason": reason }))
        }
        Scheduling::Draining { since, deadline, reason } => Some(json!({
            "type": if found.replicas == 0 { "drained" } else { "draining" },
            "since": utc(*since),
            "reason": reason,
            "deadline": time(*deadline),
        })),
    };
    let isolated = found.isolated.as_ref().map(|reason| json!({ "type": "isolated", "reason": reason }));
    [Some(reach), decided, isolated].into_iter().flatten().collect()
}

pub fn revision(of: &ServiceView, revision: &Revision) -> Json {
    let (status, reason) = words::fate(&revision.status);
    json!({
        "service": of.service.key.to_string(),
        "revision": revision.number.0,
        "current": revision.number == of.service.revision,
        "hash": revision.hash.to_string(),
        "status": status,
        "reason": reason,
        "createdAt": utc(revision.created_at),
        "image": revision.template.main.image.reference,
        "digest": revision.template.main.image.digest.as_ref().map(|digest| digest.to_string()),
    })
}

pub fn event(event: &EventView) -> Json {
    json!({
        "at": utc(event.at),
        "service": event.service.as_ref().map(|service| service.to_string()),
        "what": event.what,
    })
}

pub fn image(image: &v1::Image) -> Json {
    let created = Some(Timestamp(image.created_at_unix_ms)).filter(|at| at.0 > 0);
    json!({
        "reference": image.reference,
        "digest": image.digest,
        "node": image.node_name,
        "sizeBytes": image.size_bytes,
        "createdAt": time(created),
    })
}
