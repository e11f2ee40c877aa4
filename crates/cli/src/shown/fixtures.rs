//! A small cluster with some of everything: a rollback, a crash, an OOM kill, a replica without a place.

use std::{net::Ipv4Addr, sync::Arc};

use manifest::Manifest;
use model::{
    Bytes, ContainerObserved, ContainerState, Desired, Exit, ExitCause, Generation, MilliCpu, Millis, Name,
    Node, NodeId, NodeInfo, Observed, Phase, Reach, Replica, ReplicaId, Revision, RevisionHash,
    RevisionNumber, RevisionStatus, Rollout, RolloutPhase, Service, Slot, StopReason, Timeline, Timestamp,
    Unplaceable, Usage, Version, WaitingOn,
};

use crate::{
    answer::{Answer, EventView, NodeView, ReplicaView, ServiceView, Waiting},
    output::clock::Clock,
};

/// The beginning of the story, and a moment of it.
const START: u64 = 1_795_414_700_000;

pub fn at(ms: u64) -> Timestamp {
    Timestamp(START + ms)
}

pub fn clock() -> Clock {
    Clock::utc(at(95_000))
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// A service of the namespace `shop`; `changes` is YAML for the end of `spec`.
pub fn manifest(changes: &str) -> Manifest {
    let text = format!(
        "apiVersion: wharf/v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec:\n  image: app:1\n  \
         ports:\n  - {{name: http, port: 80, publish: 8080}}\n  - {{name: dns, port: 53, protocol: udp, publish: 53}}\n{changes}"
    );
    manifest::parse("web.yaml", &text).expect("a manifest").remove(0)
}

pub fn service(manifest: &Manifest) -> Service {
    Service {
        key: manifest.key.clone(),
        labels: manifest.labels.clone(),
        annotations: manifest.annotations.clone(),
        spec: manifest.spec.clone(),
        generation: Generation(2),
        version: Version(41),
        created_at: at(0),
        revision: RevisionNumber(1),
        rollout: Rollout {
            generation: Generation(2),
            from: Some(RevisionNumber(1)),
            to: RevisionNumber(2),
            started_at: at(60_000),
            progressed_at: at(60_000),
            available: 0,
            phase: RolloutPhase::RolledBack {
                back_to: RevisionNumber(1),
                reason: "web.1@2 was not ready within 3s of its start".to_owned(),
                at: at(64_000),
            },
        },
        deleting_since: None,
    }
}

fn revision(number: u64, status: RevisionStatus, of: &Service) -> Revision {
    Revision {
        number: RevisionNumber(number),
        hash: RevisionHash([number as u8; 32]),
        template: Arc::new(of.spec.template.clone()),
        generation: Generation(number),
        created_at: at(number * 1_000),
        status,
    }
}

fn replica(id: u64, slot: u32, node: Option<NodeId>) -> Replica {
    Replica {
        id: ReplicaId(id),
        service: manifest("").key,
        slot: Slot::new(slot).expect("a slot"),
        revision: RevisionNumber(1),
        node,
        desired: Desired::Running,
        created_at: at(1_000),
        placed_at: node.map(|_| at(1_002)),
        stop_reason: None,
    }
}

fn observed(replica: &Replica, state: ContainerState, last_exit: Option<ExitCause>) -> Observed {
    let is_ready = matches!(state, ContainerState::Running { ready: true, .. });
    let exit = last_exit.map(|cause| Exit { cause, at: at(80_000), ran_for: Millis(1_500) });
    Observed {
        replica: replica.id,
        phase: Phase::Running,
        ready_since: is_ready.then(|| at(1_450)),
        timeline: Timeline {
            received: Some(at(1_004)),
            image_ready: Some(at(1_316)),
            started: Some(at(1_355)),
            ready: is_ready.then(|| at(1_450)),
        },
        address: Some(Ipv4Addr::new(10, 201, 0, replica.slot.get() as u8 + 1)),
        message: exit.as_ref().map(|_| "waits before it is started again".to_owned()),
        containers: vec![ContainerObserved {
            name: name("main"),
            state,
            restarts: u32::from(exit.is_some()) * 3,
            last_exit: exit,
        }],
    }
}

pub fn node() -> NodeView {
    let info = NodeInfo {
        id: NodeId(7),
        name: name("vm"),
        labels: [("disk".to_owned(), "ssd".to_owned())].into(),
        cpu: MilliCpu(1_900),
        memory: Bytes(24 << 30),
        address: Ipv4Addr::new(192, 0, 2, 2),
        subnet: "10.64.2.0/23".parse().ok(),
        agent_version: "0.1.0".to_owned(),
    };
    NodeView {
        labels: info.labels.clone(),
        node: Node::new(info, at(0), Version(3)),
        reach: Reach::Ready,
        since: Some(at(0)),
        reason: None,
        allocated_cpu: MilliCpu(600),
        used: Some(Usage { cpu: MilliCpu(250), memory: Bytes(700 << 20) }),
        allocated_memory: Bytes(192 << 20),
        replicas: 3,
        isolated: None,
    }
}

fn replicas() -> Vec<ReplicaView> {
    let on_node = |id, slot| replica(id, slot, Some(NodeId(7)));
    let seen = |replica: Replica, state, exit| ReplicaView {
        observed: Some(observed(&replica, state, exit)),
        replica,
        node: Some("vm".to_owned()),
    };
    let runs = ContainerState::Running { pid: 4_242, since: at(1_355), ready: true };
    let oom = ExitCause::OutOfMemory { limit: Bytes(64 << 20), peak: Bytes(64 << 20) };
    let mut old = on_node(11, 2);
    old.desired = Desired::Stopped;
    old.stop_reason = Some(StopReason::Replaced { by: RevisionNumber(1) });
    vec![
        seen(on_node(10, 1), runs, None),
        seen(old, runs, None),
        seen(on_node(12, 2), ContainerState::BackingOff { until: at(100_000) }, Some(oom)),
        ReplicaView { replica: replica(13, 3, None), observed: None, node: None },
        ReplicaView { replica: on_node(14, 4), observed: None, node: Some("vm".to_owned()) },
    ]
}

pub fn view(service: Service) -> ServiceView {
    let failed = RevisionStatus::Failed { reason: "web.1@2 was not ready within 3s of its start".to_owned() };
    let reason = Unplaceable {
        nodes: 1,
        too_little_memory: 1,
        wants_memory: Bytes(4 << 30),
        most_free_memory: Bytes(1 << 30),
        ..Unplaceable::default()
    };
    let on = WaitingOn::Placement { slot: Slot::new(3).expect("a slot"), reason };
    ServiceView {
        revisions: vec![revision(1, RevisionStatus::Stable, &service), revision(2, failed, &service)],
        replicas: replicas(),
        waiting_on: vec![Waiting { text: on.to_string(), on }],
        ready: 1,
        available: 1,
        up_to_date: 4,
        service,
    }
}

pub fn answer() -> Answer {
    let key = manifest("").key;
    let event = |ms, what: &str| EventView { at: at(ms), service: Some(key.clone()), what: what.to_owned() };
    Answer {
        narrowed_to: Vec::new(),
        stale: None,
        services: vec![view(service(&manifest("  replicas: 4\n")))],
        nodes: vec![node()],
        events: vec![
            EventView { at: at(0), service: None, what: "node vm (0000000000007) registered".to_owned() },
            event(1_000, "created"),
            event(1_002, "slot 2: replica 000000000000b placed on node vm"),
            event(64_000, "gone back to revision 1"),
        ],
        now: at(95_000),
    }
}
