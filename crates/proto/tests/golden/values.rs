//! The values that the golden files were made from: together they set every field that there is.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use model::*;
use store::{Apply, Command, Objects, Placement, State, Step, TrustChange};

use crate::templates::{plain_template, spec, template};

const AT: Timestamp = Timestamp(1_790_000_000_000);
const REPLICA: ReplicaId = ReplicaId(0x0123_4567_89ab_cdef);
const NODE: NodeId = NodeId(0xfedc_ba98_7654_3210);
const HASH: RevisionHash = RevisionHash([0xab; 32]);

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn key() -> ServiceKey {
    ServiceKey { namespace: name("shop"), name: name("web") }
}

fn slot(number: u32) -> Slot {
    Slot::new(number).unwrap()
}

pub(crate) fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn exit(cause: ExitCause) -> Exit {
    Exit { cause, at: AT, ran_for: Millis(12_345) }
}

fn node_info() -> NodeInfo {
    NodeInfo {
        id: NODE,
        name: name("node-1"),
        labels: map(&[("zone", "a")]),
        cpu: MilliCpu(3_500),
        memory: Bytes(7 << 30),
        address: Ipv4Addr::new(10, 0, 0, 1),
        subnet: None,
        agent_version: "0.1.0".into(),
    }
}

fn events() -> Vec<Event> {
    let (to, from, reason) = (RevisionNumber(2), RevisionNumber(1), String::from("slot 1: exit code 1"));
    let unplaceable = Unplaceable {
        nodes: 3,
        not_ready: 1,
        too_little_cpu: 1,
        too_little_memory: 2,
        wants_cpu: MilliCpu(250),
        wants_memory: Bytes(64 << 20),
        most_free_cpu: MilliCpu(100),
        most_free_memory: Bytes(1 << 20),
        ..Unplaceable::default()
    };
    let exited = |cause| EventKind::ContainerExited {
        replica: REPLICA,
        slot: slot(1),
        container: name("main"),
        exit: exit(cause),
        restarts: 2,
        stop: None,
    };
    let kinds = vec![
        EventKind::Applied { change: "created".into() },
        EventKind::Deleted,
        EventKind::RolloutStarted { from: Some(from), to },
        EventKind::RolloutStarted { from: None, to: from },
        EventKind::RolloutCompleted { to },
        EventKind::RollbackStarted { from: to, back_to: from, reason: reason.clone() },
        EventKind::RollbackCompleted { back_to: from },
        EventKind::RolloutPaused { to, reason: reason.clone() },
        EventKind::ReplicaPlaced { replica: REPLICA, slot: slot(1), node: NODE },
        EventKind::ReplicaUnplaceable { slot: slot(3), reason: unplaceable },
        EventKind::ReplicaStopping { replica: REPLICA, slot: slot(1), reason: "scaled down".into() },
        EventKind::ReplicaFailed { replica: REPLICA, slot: slot(1), reason },
        exited(ExitCause::Code(137)),
        exited(ExitCause::Signal(9)),
        exited(ExitCause::OutOfMemory { limit: Bytes(64 << 20), peak: Bytes(63 << 20) }),
        exited(ExitCause::ProbeFailed { probe: "liveness".into(), detail: "status 500".into() }),
        exited(ExitCause::NotStarted { reason: "no such file".into() }),
        exited(ExitCause::Unknown),
    ];
    let of_service = kinds.into_iter().map(|kind| Event { at: AT, service: Some(key()), kind });
    let registered = EventKind::NodeRegistered { node: NODE, name: name("node-1") };
    of_service.chain([Event { at: AT, service: None, kind: registered }]).collect()
}

fn stop_reasons() -> [StopReason; 4] {
    [
        StopReason::ScaledDown,
        StopReason::Replaced { by: RevisionNumber(2) },
        StopReason::Failed { reason: "exit code 1".into() },
        StopReason::Deleted,
    ]
}

fn steps() -> Vec<Step> {
    let create = |desired| Step::Create { id: REPLICA, slot: slot(2), revision: RevisionNumber(2), desired };
    let mut steps = vec![
        create(Desired::Prepared),
        create(Desired::Running),
        Step::Start { id: REPLICA },
        Step::Forget { id: REPLICA },
        Step::Progressed { available: 2 },
        Step::Complete,
        Step::RollBack { back_to: RevisionNumber(1), reason: "exit code 1".into() },
        Step::RolledBack,
        Step::Pause { reason: "nothing to go back to".into() },
        Step::Remove,
    ];
    steps.extend(stop_reasons().map(|reason| Step::Stop { id: REPLICA, reason }));
    steps
}

pub(crate) fn commands() -> Vec<(&'static str, Command)> {
    let (service, at) = (key(), AT);
    let apply = Apply {
        service: key(),
        labels: map(&[("team", "shop"), ("app", "web")]),
        annotations: map(&[("note", "grüße")]),
        spec: spec(),
        hash: HASH,
        expects: Some(Version(0)),
        at,
    };
    vec![
        ("apply", Command::Apply(apply)),
        ("delete", Command::Delete { service: service.clone(), at }),
        ("scale", Command::Scale { service: service.clone(), replicas: 0, at }),
        ("raise", Command::Raise { to: Level(2) }),
        ("undo", Command::Undo { service: service.clone(), to: RevisionNumber(1), at }),
        ("register", Command::Register { info: node_info(), at }),
        ("place", Command::Place { placements: vec![Placement { replica: REPLICA, node: NODE }], at }),
        ("progress", Command::Progress { service, based_on: Version(41), steps: steps(), at }),
        ("record", Command::Record { events: events() }),
        ("put-member", Command::PutMember { member: member() }),
        ("found", Command::Trust(TrustChange::Found { trust: trust(), tokens: vec![join_token()] })),
        (
            "put-join-token",
            Command::Trust(TrustChange::PutJoinToken { token: join_token(), replaces: Some(join_token()) }),
        ),
        ("put-access-token", Command::Trust(TrustChange::PutAccessToken { token: access_token() })),
        ("remove-access-token", Command::Trust(TrustChange::RemoveAccessToken { id: TokenId(6) })),
        (
            "rotate",
            Command::Trust(TrustChange::Rotate { trust: rotating_trust(), replaces: "a bundle".into() }),
        ),
        ("believe", Command::Trust(TrustChange::Believe { host: NodeId(8), belief: belief() })),
        ("remove-join-token", Command::Trust(TrustChange::RemoveJoinToken { id: TokenId(5) })),
    ]
}

fn service(service: &str, phase: RolloutPhase) -> Service {
    Service {
        key: ServiceKey { name: name(service), ..key() },
        labels: map(&[("app", service)]),
        annotations: BTreeMap::new(),
        spec: ServiceSpec { template: plain_template(), ..spec() },
        generation: Generation(3),
        version: Version(41),
        created_at: AT,
        revision: RevisionNumber(2),
        rollout: Rollout {
            generation: Generation(3),
            from: Some(RevisionNumber(1)),
            to: RevisionNumber(2),
            started_at: AT,
            progressed_at: AT + Millis(5_000),
            available: 1,
            phase,
        },
        deleting_since: None,
    }
}

fn services() -> Vec<Service> {
    let (back_to, reason, at) = (RevisionNumber(1), String::from("exit code 1"), AT);
    let deleted = service("gone", RolloutPhase::Completed { at });
    vec![
        Service { deleting_since: Some(AT), ..deleted },
        service("api", RolloutPhase::Progressing),
        service("db", RolloutPhase::RollingBack { back_to, reason: reason.clone() }),
        service("mail", RolloutPhase::RolledBack { back_to, reason: reason.clone(), at }),
        service("web", RolloutPhase::Paused { reason, at }),
    ]
}

fn revision(number: u64, status: RevisionStatus) -> (ServiceKey, Revision) {
    let template = Arc::new(if number == 1 { template() } else { plain_template() });
    let generation = Generation(number);
    let number = RevisionNumber(number);
    (key(), Revision { number, hash: HASH, template, generation, created_at: AT, status })
}

fn replicas() -> Vec<Replica> {
    let waiting = Replica {
        id: ReplicaId(1),
        service: key(),
        slot: slot(1),
        revision: RevisionNumber(2),
        node: None,
        desired: Desired::Prepared,
        created_at: AT,
        placed_at: None,
        stop_reason: None,
    };
    let placed = Replica { node: Some(NODE), placed_at: Some(AT), ..waiting.clone() };
    let running = Replica { id: ReplicaId(2), slot: slot(2), desired: Desired::Running, ..placed.clone() };
    let stopping = stop_reasons().map(Some).into_iter().zip(10..).map(|(stop_reason, id)| Replica {
        id: ReplicaId(id),
        desired: Desired::Stopped,
        stop_reason,
        ..placed.clone()
    });
    [waiting, running].into_iter().chain(stopping).collect()
}

pub(crate) fn state() -> State {
    let revisions = [
        revision(1, RevisionStatus::Stable),
        revision(2, RevisionStatus::Failed { reason: "exit code 1".into() }),
        revision(3, RevisionStatus::Untried),
    ];
    let objects = Objects {
        services: services().into_iter().collect(),
        revisions: revisions.into_iter().collect(),
        replicas: replicas(),
        nodes: vec![Node::new(node_info(), AT, Version(7))],
        events: events(),
        ..Objects::default()
    };
    State::restore(Version(42), objects)
}

fn member() -> Member {
    let (id, part) = (MemberId(77), MemberPart::Learner);
    Member { id, name: name("server-2"), address: "192.0.2.2:7410".into(), part, since: AT }
}

fn trust() -> ClusterTrust {
    ClusterTrust {
        bundle: "a bundle".into(),
        authority: SecretText("an authority".into()),
        next_authority: None,
        beliefs: BTreeMap::new(),
    }
}

fn rotating_trust() -> ClusterTrust {
    ClusterTrust {
        bundle: "the next bundle".into(),
        next_authority: Some(SecretText("the next authority".into())),
        beliefs: BTreeMap::from([(NodeId(8), belief()), (NodeId(9), Belief { signed_by: None, ..belief() })]),
        ..trust()
    }
}

fn belief() -> Belief {
    Belief { generation: 2, signed_by: Some(Pin([7; 32])) }
}

fn join_token() -> JoinToken {
    let (secret, role, uses) = (SecretHash([7; 32]), HostRole::Agent, Uses::Left(3));
    JoinToken { id: TokenId(5), secret, role, expires_at: Some(AT), uses }
}

fn access_token() -> AccessToken {
    let scope = Scope::Namespaces([name("shop"), name("warehouse")].into());
    AccessToken {
        id: TokenId(6),
        secret: SecretHash([8; 32]),
        name: name("ci"),
        grant: Grant { role: AccessRole::Deployer, scope },
        expires_at: Some(AT),
        created_at: AT,
    }
}

/// What a snapshot held before people had tokens must be read as well: so they have a file of their own.
pub(crate) fn state_with_access() -> State {
    let everywhere = Grant { role: AccessRole::Admin, scope: Scope::Everywhere };
    let admin = AccessToken {
        id: TokenId(7),
        name: name("alice"),
        grant: everywhere,
        expires_at: None,
        ..access_token()
    };
    let objects = Objects { access_tokens: vec![access_token(), admin], ..Objects::default() };
    State::restore(Version(42), objects)
}

/// What a snapshot held before hosts could join must be read as well: so this has a file of its own.
pub(crate) fn state_with_trust() -> State {
    let objects = Objects { trust: Some(trust()), join_tokens: vec![join_token()], ..Objects::default() };
    State::restore(Version(42), objects)
}

/// The same, with a level in use that is not the first.
pub(crate) fn state_with_level() -> State {
    State::restore(Version(42), Objects { level: Level(2), ..Objects::default() })
}

/// The same, with the time of its last command.
pub(crate) fn state_with_time() -> State {
    State::restore(Version(42), Objects { decided_at: Some(AT), ..Objects::default() })
}

/// What a snapshot held before there were members must be read as well: so they have a file of their own.
pub(crate) fn state_with_members() -> State {
    let removed = Member { id: MemberId(78), part: MemberPart::Removed, ..member() };
    let voter = Member { id: MemberId(79), part: MemberPart::Voter, ..member() };
    let members = vec![member(), removed, voter];
    State::restore(Version(42), Objects { members, ..Objects::default() })
}

pub(crate) fn assignments() -> Vec<Assignment> {
    let first = Assignment {
        replica: REPLICA,
        service: key(),
        slot: slot(1),
        revision: RevisionNumber(1),
        desired: Desired::Running,
        template: Arc::new(template()),
    };
    let second = Assignment { replica: ReplicaId(2), slot: slot(2), ..first.clone() };
    let other =
        Assignment { template: Arc::new(plain_template()), revision: RevisionNumber(2), ..first.clone() };
    vec![first, second, other]
}
