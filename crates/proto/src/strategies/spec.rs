//! Specs and templates.

use model::{
    Backoff, Capabilities, ContainerSpec, CountOrPercent, Health, ImageRef, Mount, NodeLoss, OnFailure,
    OnPartition, PlacementRules, Port, Probe, ProbeAction, Protocol, ReplicaTemplate, Resources,
    RestartPolicy, RestartWhen, ServiceKey, ServiceSpec, UpdateOrder, UpdatePolicy, probe::ProbePort,
};
use proptest::{
    collection::{btree_set, vec},
    option,
    prelude::*,
};

use super::{cpu, digest, map, name, size, span, text};

/// Often one of a few, so that commands and objects meet.
pub(crate) fn key() -> impl Strategy<Value = ServiceKey> {
    let few = proptest::sample::select(&["web", "api", "db"][..]).prop_map(|name| name.parse().unwrap());
    let few = few.prop_map(|name| ServiceKey { namespace: "default".parse().unwrap(), name });
    let any = (name(), name()).prop_map(|(namespace, name)| ServiceKey { namespace, name });
    prop_oneof![3 => few, 1 => any]
}

pub(crate) fn spec() -> impl Strategy<Value = ServiceSpec> {
    (any::<u32>(), update_policy(), placement(), span(), template()).prop_map(
        |(replicas, update, placement, replace_after, template)| ServiceSpec {
            replicas,
            update,
            placement,
            node_loss: NodeLoss { replace_after },
            template,
        },
    )
}

fn placement() -> impl Strategy<Value = PlacementRules> {
    (map(), option::of(text())).prop_map(|(nodes, spread)| PlacementRules { nodes, spread })
}

fn update_policy() -> impl Strategy<Value = UpdatePolicy> {
    let order = prop_oneof![Just(UpdateOrder::StartFirst), Just(UpdateOrder::StopFirst)];
    let on_failure =
        prop_oneof![Just(OnFailure::Rollback), Just(OnFailure::Pause), Just(OnFailure::Continue)];
    (amount(), amount(), order, span(), span(), span(), on_failure).prop_map(
        |(max_surge, max_unavailable, order, min_ready, healthy_deadline, progress_deadline, on_failure)| {
            UpdatePolicy {
                max_surge,
                max_unavailable,
                order,
                min_ready,
                healthy_deadline,
                progress_deadline,
                on_failure,
            }
        },
    )
}

fn amount() -> impl Strategy<Value = CountOrPercent> {
    prop_oneof![any::<u32>().prop_map(CountOrPercent::Count), (0_u8..=100).prop_map(CountOrPercent::Percent),]
}

pub(crate) fn template() -> impl Strategy<Value = ReplicaTemplate> {
    let containers = || vec(container(), 0..2);
    let on_partition = prop_oneof![Just(OnPartition::Continue), Just(OnPartition::Stop)];
    let rest = (on_partition, any::<u64>());
    (container(), containers(), containers(), vec(port(), 0..3), restart(), span(), rest).prop_map(
        |(main, sidecars, init, ports, restart, stop_grace, (on_partition, restart_nonce))| ReplicaTemplate {
            main,
            sidecars,
            init,
            ports,
            restart,
            stop_grace,
            on_partition,
            restart_nonce,
        },
    )
}

fn port() -> impl Strategy<Value = Port> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    (name(), 1_u16.., protocol, option::of(1_u16..)).prop_map(|(name, port, protocol, publish)| Port {
        name,
        port,
        protocol,
        publish,
    })
}

fn restart() -> impl Strategy<Value = RestartPolicy> {
    let when = prop_oneof![Just(RestartWhen::Always), Just(RestartWhen::OnFailure), Just(RestartWhen::Never)];
    (when, span(), span(), span()).prop_map(|(when, base, max, reset_after)| RestartPolicy {
        when,
        backoff: Backoff { base, max, reset_after },
    })
}

fn container() -> impl Strategy<Value = ContainerSpec> {
    let command = || option::of(vec(text(), 0..3));
    let process = (command(), command(), option::of(text()), option::of(text()), map());
    let rights = (option::of(1_u8..=64), vec(mount(), 0..3), any::<bool>(), capabilities(), any::<bool>());
    (name(), image(), process, resources(), health(), rights).prop_map(
        |(name, image, (command, args, working_dir, user, env), resources, health, rights)| {
            let (stop_signal, mounts, read_only_rootfs, capabilities, init) = rights;
            ContainerSpec {
                name,
                image,
                command,
                args,
                working_dir,
                user,
                env,
                resources,
                health,
                stop_signal,
                mounts,
                read_only_rootfs,
                capabilities,
                init,
            }
        },
    )
}

fn image() -> impl Strategy<Value = ImageRef> {
    (text(), option::of(digest())).prop_map(|(reference, digest)| ImageRef { reference, digest })
}

fn resources() -> impl Strategy<Value = Resources> {
    (option::of(cpu()), size(), any::<u32>()).prop_map(|(cpu, memory, pids)| Resources { cpu, memory, pids })
}

fn mount() -> impl Strategy<Value = Mount> {
    prop_oneof![
        (text(), size()).prop_map(|(target, size)| Mount::Tmpfs { target, size }),
        (text(), text(), any::<bool>()).prop_map(|(source, target, read_only)| Mount::HostPath {
            source,
            target,
            read_only
        }),
    ]
}

fn capabilities() -> impl Strategy<Value = Capabilities> {
    let some = || btree_set(proptest::sample::select(&Capabilities::ALL[..]).prop_map(str::to_owned), 0..3);
    (some(), some()).prop_map(|(add, drop)| Capabilities { add, drop })
}

fn health() -> impl Strategy<Value = Health> {
    (option::of(probe()), option::of(probe()), option::of(probe()))
        .prop_map(|(startup, readiness, liveness)| Health { startup, readiness, liveness })
}

fn probe() -> impl Strategy<Value = Probe> {
    let action = prop_oneof![
        (probe_port(), text()).prop_map(|(port, path)| ProbeAction::Http { port, path }),
        probe_port().prop_map(|port| ProbeAction::Tcp { port }),
        vec(text(), 0..3).prop_map(|command| ProbeAction::Exec { command }),
    ];
    (action, span(), span(), any::<u32>(), any::<u32>()).prop_map(
        |(action, interval, timeout, successes, failures)| Probe {
            action,
            interval,
            timeout,
            successes,
            failures,
        },
    )
}

fn probe_port() -> impl Strategy<Value = ProbePort> {
    prop_oneof![(1_u16..).prop_map(ProbePort::Number), name().prop_map(ProbePort::Named)]
}
