//! Services that a manifest can say, at random.
//!
//! Every model type is built field by field, so that a new field does not compile until it is thought of here; the
//! round trip then fails until the crate can read and write it.

use std::collections::BTreeMap;

use model::probe::ProbePort;
use model::*;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

#[derive(Clone, Debug)]
pub(crate) struct Declaration {
    pub(crate) key: ServiceKey,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) spec: ServiceSpec,
}

impl Declaration {
    pub(crate) fn declared(&self) -> manifest::Declared<'_> {
        let Declaration { key, labels, annotations, spec } = self;
        manifest::Declared { key, labels, annotations, spec }
    }
}

pub(crate) fn declaration() -> BoxedStrategy<Declaration> {
    let label_name = "[A-Za-z0-9]([A-Za-z0-9_./-]{0,10}[A-Za-z0-9])?";
    let labels = btree_map(label_name, "[^\\x00-\\x1f\\x7f-\\x9f]{0,12}", 0..3);
    (name(), name(), labels, btree_map(label_name, text(), 0..3), spec())
        .prop_map(|(namespace, name, labels, annotations, spec)| Declaration {
            key: ServiceKey { namespace, name },
            labels,
            annotations,
            spec,
        })
        .boxed()
}

fn name() -> BoxedStrategy<Name> {
    prop_oneof![Just("default".to_owned()), "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?"]
        .prop_map(|name| Name::new(&name).unwrap())
        .boxed()
}

/// Text that YAML could take for something else, and any other.
fn text() -> BoxedStrategy<String> {
    let traps = [
        "",
        " ",
        "no",
        "null",
        "~",
        "true",
        "1",
        "1.5",
        "0x1f",
        "12:30",
        "-",
        "- a",
        "a: b",
        "a #b",
        "'",
        "\"",
        "|",
        ">-",
        "&a",
        "*a",
        "!a",
        "%a",
        "@a",
        "`a`",
        "{}",
        "[]",
        "a\n",
        "a\nb",
        "\na",
        "a\n\n",
        " a\nb",
        "a \nb",
        "a\r\nb",
        "a\tb",
        "\u{feff}a",
        "\u{85}",
        "\u{2028}",
        "---",
        "...",
        "--- a\n--- b",
        "#",
        "?",
        "? a",
        ":",
        "\\",
        "\u{7}",
        "ü✓🦀",
    ];
    prop_oneof![
        3 => select(traps.to_vec()).prop_map(str::to_owned),
        2 => "[^\\x00]{0,16}",
        2 => "[ -~\n]{0,30}",
        1 => "[a-z /._=-]{0,20}",
    ]
    .boxed()
}

fn spec() -> BoxedStrategy<ServiceSpec> {
    (0u32..=10_000, template(), placement(), millis(0, 86_400_000))
        .prop_flat_map(|(replicas, template, placement, replace_after)| {
            let node_loss = NodeLoss { replace_after };
            let only_stop_first = template.on_partition == OnPartition::Stop;
            update(replicas, only_stop_first).prop_map(move |update| ServiceSpec {
                replicas,
                update,
                placement: placement.clone(),
                node_loss,
                template: template.clone(),
            })
        })
        .boxed()
}

fn placement() -> impl Strategy<Value = PlacementRules> {
    let name = || "[A-Za-z0-9]([A-Za-z0-9_./-]{0,8}[A-Za-z0-9])?";
    (btree_map(name(), "[ -~]{0,12}", 0..3), prop::option::of(name()))
        .prop_map(|(nodes, spread)| PlacementRules { nodes, spread })
}

fn millis(min: u64, max: u64) -> impl Strategy<Value = Millis> {
    prop_oneof![min..=max, (min.div_ceil(1_000)..=max / 1_000).prop_map(|s| s * 1_000)].prop_map(Millis)
}

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// Policies that do not contradict themselves.
fn update(replicas: u32, only_stop_first: bool) -> BoxedStrategy<UpdatePolicy> {
    let amount = || {
        prop_oneof![
            (0u32..=10_000).prop_map(CountOrPercent::Count),
            (0u8..=100).prop_map(CountOrPercent::Percent)
        ]
    };
    let some =
        || prop_oneof![(1u32..=10_000).prop_map(CountOrPercent::Count), Just(CountOrPercent::Percent(100))];
    let zero = || prop_oneof![Just(CountOrPercent::Count(0)), Just(CountOrPercent::Percent(0))];
    let limits = prop_oneof![
        Just((UpdateOrder::StartFirst, CountOrPercent::Percent(25), CountOrPercent::Count(0))),
        Just((UpdateOrder::StopFirst, CountOrPercent::Count(0), CountOrPercent::Count(1))),
        (some(), amount()).prop_map(|(surge, unavailable)| (UpdateOrder::StartFirst, surge, unavailable)),
        (zero(), some()).prop_map(|(surge, unavailable)| (UpdateOrder::StopFirst, surge, unavailable)),
    ];
    let limits = limits.prop_filter("at most one runs", move |(order, ..)| {
        !only_stop_first || *order == UpdateOrder::StopFirst
    });
    let on_failure = select(vec![OnFailure::Rollback, OnFailure::Pause, OnFailure::Continue]);
    let rest = (millis(0, HOUR), millis(1_000, DAY), millis(1_000, DAY), on_failure);
    let consistent = move |policy: &UpdatePolicy| {
        let missing = policy.max_unavailable.of_rounded_down(replicas);
        policy.progress_deadline > policy.min_ready
            && (policy.order == UpdateOrder::StartFirst || replicas == 0 || missing > 0)
    };
    (limits, rest)
        .prop_map(
            |(
                (order, max_surge, max_unavailable),
                (min_ready, healthy_deadline, progress_deadline, on_failure),
            )| {
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
        .prop_filter("contradicts itself", consistent)
        .boxed()
}

fn template() -> BoxedStrategy<ReplicaTemplate> {
    let on_partition = select(vec![OnPartition::Continue, OnPartition::Stop]);
    let parts = (ports(), btree_set("[b-l][a-z0-9]{0,4}", 0..4), restart(), millis(0, HOUR), on_partition);
    parts
        .prop_flat_map(|(ports, names, restart, stop_grace, on_partition)| {
            let names: Vec<Name> = names.iter().map(|name| Name::new(name).unwrap()).collect();
            let (first, second) = names.split_at(names.len() / 2);
            let main = container(Name::new("main").unwrap(), ports.clone(), true);
            let containers = |names: &[Name], probed: bool| -> Vec<BoxedStrategy<ContainerSpec>> {
                names.iter().map(|name| container(name.clone(), ports.clone(), probed).boxed()).collect()
            };
            let (init, sidecars) = (containers(first, false), containers(second, true));
            let ports = ports.clone();
            (main, init, sidecars).prop_map(move |(main, init, sidecars)| ReplicaTemplate {
                main,
                sidecars,
                init,
                ports: ports.clone(),
                restart,
                stop_grace,
                on_partition,
                restart_nonce: 0,
            })
        })
        .boxed()
}

fn ports() -> BoxedStrategy<Vec<Port>> {
    let all = ["http", "dns", "x", "metrics-1"];
    let port = (1u16.., option::of(1u16..), any::<bool>());
    (subsequence(all.to_vec(), 0..=4), vec(port, 4))
        .prop_map(|(names, values)| {
            let mut ports: Vec<Port> = Vec::new();
            for (name, (port, publish, udp)) in names.into_iter().zip(values) {
                let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
                let clashes =
                    |known: &Port| known.port == port || (publish.is_some() && known.publish == publish);
                if !ports.iter().any(clashes) {
                    ports.push(Port { name: Name::new(name).unwrap(), port, protocol, publish });
                }
            }
            ports
        })
        .boxed()
}

fn restart() -> BoxedStrategy<RestartPolicy> {
    let when = select(vec![RestartWhen::Always, RestartWhen::OnFailure, RestartWhen::Never]);
    let spans = (millis(100, DAY), millis(100, DAY), millis(100, DAY));
    prop_oneof![
        Just(RestartPolicy::default()),
        (when, spans).prop_map(|(when, (a, b, reset_after))| {
            let backoff = Backoff { base: a.min(b), max: a.max(b), reset_after };
            RestartPolicy { when, backoff }
        }),
    ]
    .boxed()
}

fn container(name: Name, ports: Vec<Port>, probed: bool) -> BoxedStrategy<ContainerSpec> {
    let image = "([a-z]{1,5}\\.example(:[0-9]{1,5})?/)?[a-z0-9]{1,8}(/[a-z0-9]{1,5}([._-][a-z0-9]{1,3})?)?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,8})?";
    let words = || option::of(vec(text(), 1..4));
    let path = || {
        "/[^\\x00/]{0,9}(/[a-z]{0,4})?"
            .prop_filter("leads up", |path| !path.split('/').any(|part| part == ".."))
    };
    let user = "([a-z_][a-z0-9_-]{0,8}|0|[1-9][0-9]{0,8})(:([a-z]{1,8}|0|[1-9][0-9]{0,8}))?";
    let program = (image, words(), option::of(vec(text(), 0..3)), option::of(path()), option::of(user));
    let env = btree_map("[A-Za-z_][A-Za-z0-9_.-]{0,8}", text(), 0..4);
    let health = if probed { health(ports).boxed() } else { Just(Health::default()).boxed() };
    let rights = (option::of(1u8..=64), mounts(), any::<bool>(), capabilities(), any::<bool>());
    (program, env, resources(), health, rights)
        .prop_map(move |((image, command, args, working_dir, user), env, resources, health, rights)| {
            let (stop_signal, mounts, read_only_rootfs, capabilities, init) = rights;
            ContainerSpec {
                name: name.clone(),
                image: ImageRef { reference: image, digest: None },
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
        })
        .boxed()
}

fn resources() -> BoxedStrategy<Resources> {
    let memory = prop_oneof![(4u64 << 20)..=(64 << 40), (4u64..10_000).prop_map(|mi| mi << 20)];
    let cpu = option::of((1u64..=1_024_000).prop_map(MilliCpu));
    (cpu, memory, 1u32..=4_194_304)
        .prop_map(|(cpu, memory, pids)| Resources { cpu, memory: Bytes(memory), pids })
        .boxed()
}

fn health(ports: Vec<Port>) -> BoxedStrategy<Health> {
    let probe = || option::weighted(0.4, probe(&ports));
    (probe(), probe(), probe())
        .prop_map(|(startup, readiness, liveness)| Health { startup, readiness, liveness })
        .boxed()
}

fn probe(ports: &[Port]) -> BoxedStrategy<Probe> {
    let tcp = ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    let mut named: Vec<ProbePort> = tcp.map(|port| ProbePort::Named(port.name.clone())).collect();
    named.extend([ProbePort::Number(1), ProbePort::Number(u16::MAX)]);
    let port = || select(named.clone());
    let action = prop_oneof![
        (port(), "/[!-~]{0,12}").prop_map(|(port, path)| ProbeAction::Http { port, path }),
        port().prop_map(|port| ProbeAction::Tcp { port }),
        vec(text(), 1..3).prop_map(|command| ProbeAction::Exec { command }),
    ];
    let times = || prop_oneof![Just(1u32), Just(3), Just(30), 1u32..=1_000];
    let span = || prop_oneof![Just(Millis(1_000)), Just(Millis(10_000)), millis(10, HOUR)];
    (action, span(), span(), times(), times())
        .prop_map(|(action, interval, timeout, successes, failures)| Probe {
            action,
            interval,
            timeout,
            successes,
            failures,
        })
        .boxed()
}

fn mounts() -> BoxedStrategy<Vec<Mount>> {
    let targets = subsequence(vec!["/a", "/a/b", "/dev/shm", "/with space", "/var.lib"], 0..=3);
    let path = "/[a-z ]{0,6}";
    let kind = || (any::<bool>(), 4_096u64..(64 << 40), path, any::<bool>());
    (targets, vec(kind(), 3))
        .prop_map(|(targets, kinds)| {
            let mounts = targets.into_iter().zip(kinds).map(|(target, (tmpfs, size, source, read_only))| {
                let target = target.to_owned();
                match tmpfs {
                    true => Mount::Tmpfs { target, size: Bytes(size) },
                    false => Mount::HostPath { source, target, read_only },
                }
            });
            mounts.collect()
        })
        .boxed()
}

fn capabilities() -> BoxedStrategy<Capabilities> {
    let some = || subsequence(Capabilities::ALL.to_vec(), 0..4);
    (some(), some(), any::<bool>())
        .prop_map(|(add, drop, all)| {
            let drop = drop.iter().filter(|name| !add.contains(name)).map(|name| (*name).to_owned());
            let drop = drop.chain(all.then(|| "ALL".to_owned())).collect();
            Capabilities { add: add.iter().map(|name| (*name).to_owned()).collect(), drop }
        })
        .boxed()
}
