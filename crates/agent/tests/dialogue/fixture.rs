//! Templates as scripts define them.

use std::{collections::BTreeMap, sync::Arc};

use model::{
    Assignment, Backoff, Bytes, Capabilities, ContainerSpec, Desired, Health, ImageRef, MilliCpu, Millis,
    Name, OnPartition, Port, Probe, ProbeAction, Protocol, ReplicaId, ReplicaTemplate, Resources,
    RestartPolicy, RestartWhen, RevisionNumber, ServiceKey, Slot, probe::ProbePort,
};

#[derive(Debug, Default)]
pub(super) struct Templates(BTreeMap<String, ReplicaTemplate>);

impl Templates {
    pub(super) fn define(&mut self, command: &str, words: &[&str]) {
        match (command, words) {
            ("template", [name, options @ ..]) => {
                self.0.insert(name.to_string(), template(options));
            }
            ("container", [template, role, name, options @ ..]) => {
                let template = self.0.get_mut(*template).expect("defined before");
                let container = container(name, options);
                match *role {
                    "init" => template.init.push(container),
                    "sidecar" => template.sidecars.push(container),
                    "main" => template.main = container,
                    other => panic!("{other}"),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn assignment(&self, template: &str, number: u64, desired: Desired) -> Assignment {
        Assignment {
            replica: ReplicaId(number),
            service: ServiceKey { namespace: name("default"), name: name(template) },
            slot: Slot::new(number as u32).unwrap(),
            revision: RevisionNumber(1),
            desired,
            template: Arc::new(self.0[template].clone()),
        }
    }
}

/// `partition=stop publish=8080 restart=never grace=3000 base=10000 max=300000 reset=600000`
fn template(options: &[&str]) -> ReplicaTemplate {
    let mut template = ReplicaTemplate {
        main: container("main", &[]),
        sidecars: vec![],
        init: vec![],
        ports: vec![],
        restart: RestartPolicy::default(),
        stop_grace: Millis(10_000),
        on_partition: model::OnPartition::Continue,
        restart_nonce: 0,
    };
    for option in options {
        let (key, value) = option.split_once('=').unwrap();
        let ms = || Millis(value.parse().unwrap());
        let Backoff { base, max, reset_after } = &mut template.restart.backoff;
        match key {
            "publish" => template.ports.push(Port {
                name: name("http"),
                port: 80,
                protocol: Protocol::Tcp,
                publish: Some(value.parse().unwrap()),
            }),
            "restart" => template.restart.when = restart(value),
            "grace" => template.stop_grace = ms(),
            "base" => *base = ms(),
            "max" => *max = ms(),
            "partition" if value == "stop" => template.on_partition = OnPartition::Stop,
            "reset" => *reset_after = ms(),
            other => panic!("{other}"),
        }
    }
    template
}

fn restart(text: &str) -> RestartWhen {
    match text {
        "always" => RestartWhen::Always,
        "on-failure" => RestartWhen::OnFailure,
        "never" => RestartWhen::Never,
        other => panic!("{other}"),
    }
}

/// `startup=INTERVAL/SUCCESSES/FAILURES readiness=... liveness=... signal=3`
fn container(container_name: &str, options: &[&str]) -> ContainerSpec {
    let mut health = Health::default();
    let mut stop_signal = Some(15);
    for option in options {
        let (key, value) = option.split_once('=').unwrap();
        match key {
            "startup" => {
                health.startup = Some(probe(value, ProbeAction::Exec { command: vec!["true".into()] }))
            }
            "readiness" => {
                let http = ProbeAction::Http { port: ProbePort::Named(name("http")), path: "/ready".into() };
                health.readiness = Some(probe(value, http));
            }
            "liveness" => {
                health.liveness = Some(probe(value, ProbeAction::Tcp { port: ProbePort::Number(80) }))
            }
            "signal" if value == "image" => stop_signal = None,
            "signal" => stop_signal = Some(value.parse().unwrap()),
            other => panic!("{other}"),
        }
    }
    ContainerSpec {
        name: name(container_name),
        image: ImageRef { reference: "x".into(), digest: None },
        command: None,
        args: None,
        working_dir: None,
        user: None,
        env: BTreeMap::new(),
        resources: Resources { cpu: Some(MilliCpu(100)), memory: Bytes(64 << 20), pids: 10 },
        health,
        stop_signal,
        mounts: vec![],
        read_only_rootfs: false,
        capabilities: Capabilities::default(),
        init: true,
    }
}

fn probe(text: &str, action: ProbeAction) -> Probe {
    let numbers: Vec<u64> = text.split('/').map(|part| part.parse().unwrap()).collect();
    let (successes, failures) = (numbers[1] as u32, numbers[2] as u32);
    Probe { action, interval: Millis(numbers[0]), timeout: Millis(1_000), successes, failures }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}
