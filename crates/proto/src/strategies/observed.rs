//! What agents see, and what they are told.

use std::{net::SocketAddrV4, sync::Arc};

use model::{
    Assignment, Bytes, ContainerObserved, ContainerState, Desired, DirectoryNews, Dispatch, Endpoint, Exit,
    ExitCause, Listing, MilliCpu, Observed, Phase, Protocol, Stop, Timeline, Timestamp, Usage,
};
use proptest::{
    bool,
    collection::{btree_map, btree_set, vec},
    option,
    prelude::*,
};

use crate::session::{AgentSays, ContainerExit, Hello, Report};

use super::{
    address, digest, key, level, name, node_id, node_info, number, replica_id, size, slot, span, subnet,
    template, text, time,
};

pub(crate) fn observed() -> impl Strategy<Value = Observed> {
    let containers = vec(container(), 0..3);
    let address = option::of(address());
    (replica_id(), phase(), option::of(time()), timeline(), address, containers, option::of(text())).prop_map(
        |(replica, phase, ready_since, timeline, address, containers, message)| Observed {
            replica,
            phase,
            ready_since,
            timeline,
            address,
            containers,
            message,
        },
    )
}

fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        Just(Phase::Assigned),
        Just(Phase::Preparing),
        Just(Phase::Prepared),
        Just(Phase::Running),
        Just(Phase::Stopping),
        Just(Phase::Completed),
        Just(Phase::Failed),
        Just(Phase::Removed),
    ]
}

fn timeline() -> impl Strategy<Value = Timeline> {
    let step = || option::of(time());
    (step(), step(), step(), step()).prop_map(|(received, image_ready, started, ready)| Timeline {
        received,
        image_ready,
        started,
        ready,
    })
}

fn container() -> impl Strategy<Value = ContainerObserved> {
    let state = prop_oneof![
        Just(ContainerState::Waiting),
        (any::<u32>(), time(), any::<bool>()).prop_map(|(pid, since, ready)| ContainerState::Running {
            pid,
            since,
            ready
        }),
        time().prop_map(|until| ContainerState::BackingOff { until }),
        Just(ContainerState::Ended),
    ];
    (name(), state, any::<u32>(), option::of(exit()))
        .prop_map(|(name, state, restarts, last_exit)| ContainerObserved { name, state, restarts, last_exit })
}

pub(crate) fn stop() -> impl Strategy<Value = Stop> {
    (span(), any::<bool>()).prop_map(|(took, killed)| Stop { took, killed })
}

pub(crate) fn exit() -> impl Strategy<Value = Exit> {
    let cause = prop_oneof![
        any::<u8>().prop_map(ExitCause::Code),
        any::<u8>().prop_map(ExitCause::Signal),
        (size(), size()).prop_map(|(limit, peak)| ExitCause::OutOfMemory { limit, peak }),
        (text(), text()).prop_map(|(probe, detail)| ExitCause::ProbeFailed { probe, detail }),
        text().prop_map(|reason| ExitCause::NotStarted { reason }),
        Just(ExitCause::Unknown),
    ];
    (cause, time(), span()).prop_map(|(cause, at, ran_for)| Exit { cause, at, ran_for })
}

pub(crate) fn desired() -> impl Strategy<Value = Desired> {
    prop_oneof![Just(Desired::Prepared), Just(Desired::Running), Just(Desired::Stopped)]
}

/// Replicas of few revisions, so that some share a template.
pub(crate) fn assignments() -> impl Strategy<Value = Vec<Assignment>> {
    let templates = vec(template().prop_map(Arc::new), 1..3);
    let replicas = vec((replica_id(), key(), slot(), number(), desired(), any::<usize>()), 0..5);
    (templates, replicas).prop_map(|(templates, replicas)| {
        let assignment = |(replica, service, slot, revision, desired, pick)| Assignment {
            replica,
            service,
            slot,
            revision,
            desired,
            template: Arc::clone(&templates[pick % templates.len()]),
        };
        replicas.into_iter().map(assignment).collect()
    })
}

pub(crate) fn dispatch() -> impl Strategy<Value = Dispatch> {
    let removed = vec(replica_id(), 0..3);
    prop_oneof![
        (any::<u64>(), assignments())
            .prop_map(|(sequence, assignments)| Dispatch::Full { sequence, assignments }),
        (any::<u64>(), any::<u64>(), assignments(), removed).prop_map(
            |(follows, sequence, changed, removed)| Dispatch::Increment {
                follows,
                sequence,
                changed,
                removed
            }
        ),
    ]
}

pub(crate) fn agent_says() -> impl Strategy<Value = AgentSays> {
    let observed = || vec(observed(), 0..3);
    let images = || vec((text(), digest()), 0..3);
    let said_at = || option::of(any::<u64>().prop_map(Timestamp));
    let hello = (any::<u64>(), node_info(), observed(), images(), level(), said_at()).prop_map(
        |(protocol_version, node, observed, images, level, said_at)| Hello {
            protocol_version,
            node,
            observed,
            images,
            level,
            said_at,
        },
    );
    let report = (observed(), vec(container_exit(), 0..3), said_at())
        .prop_map(|(observed, exits, said_at)| Report { observed, exits, said_at });
    prop_oneof![
        hello.prop_map(AgentSays::Hello),
        report.prop_map(AgentSays::Report),
        images().prop_map(AgentSays::Images),
        (any::<u64>(), option::of((any::<u64>(), any::<u64>()))).prop_map(|(number, usage)| {
            let usage = usage.map(|(cpu, memory)| Usage { cpu: MilliCpu(cpu), memory: Bytes(memory) });
            AgentSays::Heartbeat { number, usage }
        }),
        any::<u64>().prop_map(|sequence| AgentSays::Acknowledged { sequence }),
        (any::<u64>(), node_info())
            .prop_map(|(protocol_version, node)| AgentSays::Introduction { protocol_version, node }),
        any::<u64>().prop_map(|version| AgentSays::InForce { version }),
    ]
}

pub(crate) fn directory_news() -> impl Strategy<Value = DirectoryNews> {
    let version = any::<u64>;
    let endpoint =
        (bool::ANY, 1u16.., address(), 1u16..).prop_map(|(udp, published, address, port)| Endpoint {
            protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
            published,
            backend: SocketAddrV4::new(address, port),
        });
    let endpoints = option::of(btree_set(endpoint, 0..4));
    let listing = (name(), address(), option::of(subnet()), endpoints).prop_map(
        |(name, address, subnet, endpoints)| Arc::new(Listing { name, address, subnet, endpoints }),
    );
    let nodes = btree_map(node_id(), listing, 0..4).boxed();
    prop_oneof![
        (version(), nodes.clone()).prop_map(|(version, nodes)| DirectoryNews::Full { version, nodes }),
        (version(), version(), nodes, btree_set(node_id(), 0..3)).prop_map(
            |(follows, version, changed, removed)| DirectoryNews::Change {
                follows,
                version,
                changed,
                removed
            }
        ),
    ]
}

fn container_exit() -> impl Strategy<Value = ContainerExit> {
    (replica_id(), slot(), key(), name(), exit(), any::<u32>(), option::of(stop())).prop_map(
        |(replica, slot, service, container, exit, restarts, stop)| ContainerExit {
            replica,
            slot,
            service,
            container,
            exit,
            restarts,
            stop,
        },
    )
}
