//! A template that sets every field, one that sets as few as can be, and a spec.

use std::collections::{BTreeMap, BTreeSet};

use model::{probe::ProbePort, *};

use crate::values::{map, name};

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

/// A container of which as little is said as can be.
fn plain_container(container: &str) -> ContainerSpec {
    ContainerSpec {
        name: name(container),
        image: ImageRef { reference: "busybox".into(), digest: None },
        command: None,
        args: None,
        working_dir: None,
        user: None,
        env: BTreeMap::new(),
        resources: Resources::default(),
        health: Health::default(),
        stop_signal: None,
        mounts: Vec::new(),
        read_only_rootfs: false,
        capabilities: Capabilities::default(),
        init: true,
    }
}

pub(crate) fn plain_template() -> ReplicaTemplate {
    ReplicaTemplate {
        main: plain_container("main"),
        sidecars: Vec::new(),
        init: Vec::new(),
        ports: Vec::new(),
        restart: RestartPolicy::default(),
        stop_grace: Millis::from_secs(10),
        on_partition: model::OnPartition::Continue,
        restart_nonce: 0,
    }
}

fn full_container() -> ContainerSpec {
    let probe =
        |action| Probe { action, interval: Millis(2_000), timeout: Millis(500), successes: 1, failures: 3 };
    let http = ProbeAction::Http { port: ProbePort::Named(name("http")), path: "/healthz".into() };
    ContainerSpec {
        image: ImageRef {
            reference: "registry.example/web:1.2".into(),
            digest: Some(format!("sha256:{}", "0f".repeat(32)).parse().unwrap()),
        },
        command: Some(words(&["/bin/web", "--port", "8080"])),
        args: Some(Vec::new()),
        working_dir: Some("/srv".into()),
        user: Some("1000:1000".into()),
        env: map(&[("A", "1"), ("B", "")]),
        resources: Resources { cpu: Some(MilliCpu(250)), memory: Bytes(64 << 20), pids: 100 },
        health: Health {
            startup: Some(probe(ProbeAction::Tcp { port: ProbePort::Number(8080) })),
            readiness: Some(probe(http)),
            liveness: Some(probe(ProbeAction::Exec { command: words(&["/bin/true"]) })),
        },
        stop_signal: Some(2),
        mounts: vec![
            Mount::Tmpfs { target: "/tmp".into(), size: Bytes(1 << 20) },
            Mount::HostPath { source: "/data".into(), target: "/var/data".into(), read_only: true },
        ],
        read_only_rootfs: true,
        capabilities: Capabilities {
            add: BTreeSet::from(["NET_RAW".to_owned(), "CHOWN".to_owned()]),
            drop: BTreeSet::from(["ALL".to_owned()]),
        },
        init: false,
        ..plain_container("main")
    }
}

pub(crate) fn template() -> ReplicaTemplate {
    ReplicaTemplate {
        main: full_container(),
        sidecars: vec![plain_container("proxy")],
        init: vec![plain_container("migrate")],
        ports: vec![
            Port { name: name("http"), port: 8080, protocol: Protocol::Tcp, publish: Some(80) },
            Port { name: name("dns"), port: 53, protocol: Protocol::Udp, publish: None },
        ],
        restart: RestartPolicy { when: RestartWhen::OnFailure, ..RestartPolicy::default() },
        stop_grace: Millis::from_secs(30),
        on_partition: model::OnPartition::Continue,
        restart_nonce: 4,
    }
}

pub(crate) fn spec() -> ServiceSpec {
    let update = UpdatePolicy {
        max_surge: CountOrPercent::Percent(25),
        max_unavailable: CountOrPercent::Count(1),
        order: UpdateOrder::StopFirst,
        min_ready: Millis(1_500),
        on_failure: OnFailure::Pause,
        ..UpdatePolicy::default()
    };
    ServiceSpec {
        replicas: 3,
        update,
        placement: Default::default(),
        node_loss: Default::default(),
        template: template(),
    }
}
