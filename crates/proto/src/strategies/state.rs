//! The objects of the store, events, and whole states.

use std::{collections::BTreeMap, sync::Arc};

use model::{
    AccessRole, AccessToken, Belief, ClusterTrust, Down, Event, EventKind, Generation, Grant, HostRole,
    JoinToken, Member, MemberId, MemberPart, Node, NodeId, NodeInfo, Pin, Replica, ReplicaRange, Revision,
    RevisionHash, RevisionStatus, Rollout, RolloutPhase, Scheduling, Scope, SecretHash, SecretText, Service,
    Settings, StopReason, Subnet, TokenId, Unplaceable, Uses, Version, WaitingOn,
};
use proptest::{
    collection::{btree_map, btree_set, vec},
    option,
    prelude::*,
};
use store::{Objects, State};

use super::{
    address, cpu, desired, exit, key, level, map, name, node_id, number, replica_id, size, slot, span, spec,
    stop, template, text, time,
};

pub(crate) fn service() -> impl Strategy<Value = Service> {
    let counters = (any::<u64>(), any::<u64>(), number());
    (key(), map(), map(), spec(), counters, time(), rollout(), option::of(time())).prop_map(
        |(key, labels, annotations, spec, counters, created_at, rollout, deleting_since)| Service {
            key,
            labels,
            annotations,
            spec,
            generation: Generation(counters.0),
            version: Version(counters.1),
            created_at,
            revision: counters.2,
            rollout,
            deleting_since,
        },
    )
}

fn rollout() -> impl Strategy<Value = Rollout> {
    let phase = prop_oneof![
        Just(RolloutPhase::Progressing),
        time().prop_map(|at| RolloutPhase::Completed { at }),
        (number(), text()).prop_map(|(back_to, reason)| RolloutPhase::RollingBack { back_to, reason }),
        (number(), text(), time()).prop_map(|(back_to, reason, at)| RolloutPhase::RolledBack {
            back_to,
            reason,
            at
        }),
        (text(), time()).prop_map(|(reason, at)| RolloutPhase::Paused { reason, at }),
    ];
    (any::<u64>(), option::of(number()), number(), time(), time(), any::<u32>(), phase).prop_map(
        |(generation, from, to, started_at, progressed_at, available, phase)| Rollout {
            generation: Generation(generation),
            from,
            to,
            started_at,
            progressed_at,
            available,
            phase,
        },
    )
}

pub(crate) fn revision() -> impl Strategy<Value = Revision> {
    let status = prop_oneof![
        Just(RevisionStatus::Untried),
        Just(RevisionStatus::Stable),
        text().prop_map(|reason| RevisionStatus::Failed { reason }),
    ];
    (number(), hash(), template(), any::<u64>(), time(), status).prop_map(
        |(number, hash, template, generation, created_at, status)| Revision {
            number,
            hash,
            template: Arc::new(template),
            generation: Generation(generation),
            created_at,
            status,
        },
    )
}

pub(crate) fn hash() -> impl Strategy<Value = RevisionHash> {
    any::<[u8; 32]>().prop_map(RevisionHash)
}

pub(crate) fn replica() -> impl Strategy<Value = Replica> {
    let placed = (option::of(node_id()), option::of(time()));
    (replica_id(), key(), slot(), number(), placed, desired(), time(), option::of(stop_reason())).prop_map(
        |(id, service, slot, revision, (node, placed_at), desired, created_at, stop_reason)| Replica {
            id,
            service,
            slot,
            revision,
            node,
            desired,
            created_at,
            placed_at,
            stop_reason,
        },
    )
}

pub(crate) fn stop_reason() -> impl Strategy<Value = StopReason> {
    prop_oneof![
        Just(StopReason::ScaledDown),
        number().prop_map(|by| StopReason::Replaced { by }),
        text().prop_map(|reason| StopReason::Failed { reason }),
        Just(StopReason::Deleted),
        node_id().prop_map(|node| StopReason::NodeDown { node }),
        node_id().prop_map(|node| StopReason::NodeDrained { node }),
        node_id().prop_map(|node| StopReason::Misplaced { node }),
        Just(StopReason::Surplus),
    ]
}

pub(crate) fn subnet() -> impl Strategy<Value = Subnet> {
    (address(), 0u8..=32).prop_map(|(address, prefix)| Subnet::containing(address, prefix).unwrap())
}

pub(crate) fn node_info() -> impl Strategy<Value = NodeInfo> {
    (node_id(), name(), map(), cpu(), size(), address(), option::of(subnet()), text()).prop_map(
        |(id, name, labels, cpu, memory, address, subnet, agent_version)| NodeInfo {
            id,
            name,
            labels,
            cpu,
            memory,
            address,
            subnet,
            agent_version,
        },
    )
}

pub(crate) fn node() -> impl Strategy<Value = Node> {
    let labels = btree_map("[a-z]{1,3}", option::of(text()), 0..3);
    let down = option::of(time().prop_map(|since| Down { since }));
    (node_info(), option::of(subnet()), labels, scheduling(), down, time(), any::<u64>()).prop_map(
        |(info, subnet, labels, scheduling, down, registered_at, version)| Node {
            info,
            subnet,
            labels,
            scheduling,
            down,
            registered_at,
            version: Version(version),
        },
    )
}

fn scheduling() -> impl Strategy<Value = Scheduling> {
    prop_oneof![
        Just(Scheduling::Open),
        (time(), option::of(text())).prop_map(|(since, reason)| Scheduling::Cordoned { since, reason }),
        (time(), option::of(time()), option::of(text()))
            .prop_map(|(since, deadline, reason)| Scheduling::Draining { since, deadline, reason }),
    ]
}

pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    let range = (address(), 8..=ReplicaRange::NODE_PREFIX).prop_map(|(address, prefix)| {
        ReplicaRange::new(Subnet::containing(address, prefix).unwrap()).unwrap()
    });
    (span(), span(), range).prop_map(|(node_lost_after, longest_lease, replica_range)| Settings {
        node_lost_after,
        longest_lease,
        replica_range,
    })
}

pub(crate) fn member() -> impl Strategy<Value = Member> {
    let part = prop_oneof![Just(MemberPart::Voter), Just(MemberPart::Learner), Just(MemberPart::Removed)];
    (any::<u64>(), name(), text(), part, time()).prop_map(|(id, name, address, part, since)| Member {
        id: MemberId(id),
        name,
        address,
        part,
        since,
    })
}

pub(crate) fn trust() -> impl Strategy<Value = ClusterTrust> {
    let beliefs = btree_map(any::<u64>().prop_map(NodeId), belief(), 0..3);
    (text(), text(), option::of(text()), beliefs).prop_map(|(bundle, authority, next, beliefs)| {
        ClusterTrust {
            bundle,
            authority: SecretText(authority),
            next_authority: next.map(SecretText),
            beliefs,
        }
    })
}

pub(crate) fn belief() -> impl Strategy<Value = Belief> {
    let pin = option::of(any::<[u8; 32]>().prop_map(Pin));
    (any::<u64>(), pin).prop_map(|(generation, signed_by)| Belief { generation, signed_by })
}

pub(crate) fn join_token() -> impl Strategy<Value = JoinToken> {
    let role = prop_oneof![Just(HostRole::Server), Just(HostRole::Agent)];
    let uses = option::of(any::<u32>()).prop_map(|left| left.map_or(Uses::Unlimited, Uses::Left));
    (any::<u64>(), any::<[u8; 32]>(), role, option::of(time()), uses).prop_map(
        |(id, secret, role, expires_at, uses)| JoinToken {
            id: TokenId(id),
            secret: SecretHash(secret),
            role,
            expires_at,
            uses,
        },
    )
}

pub(crate) fn access_token() -> impl Strategy<Value = AccessToken> {
    let role = prop_oneof![Just(AccessRole::Viewer), Just(AccessRole::Deployer), Just(AccessRole::Admin)];
    let scope = option::of(btree_set(name(), 0..3)).prop_map(|names| match names {
        None => Scope::Everywhere,
        Some(names) => Scope::Namespaces(names),
    });
    (any::<u64>(), any::<[u8; 32]>(), name(), role, scope, option::of(time()), time()).prop_map(
        |(id, secret, name, role, scope, expires_at, created_at)| AccessToken {
            id: TokenId(id),
            secret: SecretHash(secret),
            name,
            grant: Grant { role, scope },
            expires_at,
            created_at,
        },
    )
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    (time(), option::of(key()), prop_oneof![rollout_event(), replica_event()])
        .prop_map(|(at, service, kind)| Event { at, service, kind })
}

fn rollout_event() -> impl Strategy<Value = EventKind> {
    prop_oneof![
        text().prop_map(|change| EventKind::Applied { change }),
        Just(EventKind::Deleted),
        (option::of(number()), number()).prop_map(|(from, to)| EventKind::RolloutStarted { from, to }),
        number().prop_map(|to| EventKind::RolloutCompleted { to }),
        (number(), number(), text()).prop_map(|(from, back_to, reason)| EventKind::RollbackStarted {
            from,
            back_to,
            reason
        }),
        number().prop_map(|back_to| EventKind::RollbackCompleted { back_to }),
        (number(), text()).prop_map(|(to, reason)| EventKind::RolloutPaused { to, reason }),
    ]
}

fn replica_event() -> impl Strategy<Value = EventKind> {
    prop_oneof![
        (replica_id(), slot(), node_id()).prop_map(|(replica, slot, node)| EventKind::ReplicaPlaced {
            replica,
            slot,
            node
        }),
        (slot(), unplaceable()).prop_map(|(slot, reason)| EventKind::ReplicaUnplaceable { slot, reason }),
        (replica_id(), slot(), text()).prop_map(|(replica, slot, reason)| EventKind::ReplicaStopping {
            replica,
            slot,
            reason
        }),
        (replica_id(), slot(), text()).prop_map(|(replica, slot, reason)| EventKind::ReplicaFailed {
            replica,
            slot,
            reason
        }),
        (replica_id(), slot(), name(), exit(), any::<u32>(), option::of(stop())).prop_map(
            |(replica, slot, container, exit, restarts, stop)| EventKind::ContainerExited {
                replica,
                slot,
                container,
                exit,
                restarts,
                stop,
            }
        ),
        (node_id(), name()).prop_map(|(node, name)| EventKind::NodeRegistered { node, name }),
        (node_id(), name(), text()).prop_map(|(node, name, change)| EventKind::NodeChanged {
            node,
            name,
            change
        }),
        text().prop_map(|change| EventKind::SettingsChanged { change }),
    ]
}

fn unplaceable() -> impl Strategy<Value = Unplaceable> {
    let lacking = btree_map("[a-z]{1,3}=[a-z]{1,3}", any::<u32>(), 0..3);
    (any::<[u32; 6]>(), lacking, cpu(), size(), cpu(), size()).prop_map(
        |(
            [nodes, not_ready, cordoned, too_old, too_little_cpu, too_little_memory],
            lacking,
            wants_cpu,
            wants_memory,
            free,
            most_free,
        )| {
            Unplaceable {
                nodes,
                not_ready,
                cordoned,
                lacking,
                too_old,
                too_little_cpu,
                too_little_memory,
                wants_cpu,
                wants_memory,
                most_free_cpu: free,
                most_free_memory: most_free,
            }
        },
    )
}

pub(crate) fn waiting_on() -> impl Strategy<Value = WaitingOn> {
    prop_oneof![
        (slot(), unplaceable()).prop_map(|(slot, reason)| WaitingOn::Placement { slot, reason }),
        (slot(), node_id(), option::of(text())).prop_map(|(slot, node, message)| WaitingOn::Preparation {
            slot,
            node,
            message
        }),
        (slot(), time(), time(), option::of(text())).prop_map(|(slot, since, deadline, message)| {
            WaitingOn::Readiness { slot, since, deadline, message }
        }),
        (slot(), time()).prop_map(|(slot, until)| WaitingOn::MinReady { slot, until }),
        (slot(), number()).prop_map(|(slot, revision)| WaitingOn::Stop { slot, revision }),
        any::<(u32, u32)>().prop_map(|(ready, must_be)| WaitingOn::Availability { ready, must_be }),
        (slot(), node_id()).prop_map(|(slot, node)| WaitingOn::Node { slot, node }),
        text().prop_map(|reason| WaitingOn::Decision { reason }),
        (slot(), node_id(), time()).prop_map(|(slot, node, until)| WaitingOn::NodeReturn {
            slot,
            node,
            until
        }),
        (slot(), node_id(), time()).prop_map(|(slot, node, until)| WaitingOn::Lease { slot, node, until }),
    ]
}

/// Objects in the order of their keys: two services that publish one port are told apart by who comes last.
pub(crate) fn state() -> impl Strategy<Value = State> {
    let revisions = vec((key(), revision()), 0..3);
    (
        any::<u64>(),
        vec(service(), 0..3),
        revisions,
        vec(replica(), 0..4),
        vec(node(), 0..3),
        vec((node_id(), time()), 0..3),
        settings(),
        vec(event(), 0..4),
        (
            vec(member(), 0..3),
            option::of(trust()),
            vec(join_token(), 0..3),
            vec(access_token(), 0..3),
            level(),
            option::of(time()),
        ),
    )
        .prop_map(
            |(version, services, revisions, replicas, nodes, removed_nodes, settings, events, hosts)| {
                let (members, trust, join_tokens, access_tokens, level, decided_at) = hosts;
                let services: BTreeMap<_, _> = services.into_iter().map(|s| (s.key.clone(), s)).collect();
                let replicas: BTreeMap<_, _> = replicas.into_iter().map(|r| (r.id, r)).collect();
                let (services, replicas) =
                    (services.into_values().collect(), replicas.into_values().collect());
                let objects = Objects {
                    services,
                    revisions,
                    replicas,
                    nodes,
                    removed_nodes,
                    settings,
                    events,
                    members,
                    trust,
                    join_tokens,
                    access_tokens,
                    level,
                    decided_at,
                };
                State::restore(Version(version), objects)
            },
        )
}
