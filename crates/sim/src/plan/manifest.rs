//! What users wish for: services of many kinds.

use std::collections::BTreeMap;

use model::{
    Backoff, Bytes, Capabilities, ContainerSpec, CountOrPercent, Digest, Health, ImageRef, MilliCpu, Millis,
    Name, NodeLoss, OnFailure, OnPartition, Port, Probe, ProbeAction, Protocol, ReplicaTemplate, Resources,
    RestartPolicy, RestartWhen, ServiceKey, ServiceSpec, UpdateOrder, UpdatePolicy, probe::ProbePort,
};

use crate::{behaviour::Behaviour, random::Random};

/// The images that every node has.
const IMAGES: u64 = 4;

/// A service as a user would write it.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) behaviour: Behaviour,
    pub(crate) spec: ServiceSpec,
}

pub(crate) fn key(number: u64) -> ServiceKey {
    ServiceKey { namespace: name("default"), name: name(&format!("svc-{number}")) }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn reference(number: u64) -> String {
    format!("app:{number}")
}

/// As every agent lists them.
pub(crate) fn images() -> Vec<(String, Digest)> {
    let digest = |number: u64| format!("sha256:{number:064x}").parse::<Digest>();
    (1..=IMAGES).filter_map(|number| Some((reference(number), digest(number).ok()?))).collect()
}

impl Wish {
    pub(crate) fn draw(service: u64, behaviours: &[Behaviour], random: &mut Random) -> Wish {
        // Mostly healthy ones: otherwise rollouts hardly ever get anywhere.
        let behaviour = if random.one_in(2) { Behaviour::Healthy } else { random.pick(behaviours) };
        let gentle = behaviours.len() == Behaviour::SOUND.len();
        let (mut update, mut template) =
            (draw_policy(random), draw_template(service, behaviour, gentle, random));
        if random.one_in(3) {
            template.on_partition = OnPartition::Stop;
            update.order = UpdateOrder::StopFirst;
        }
        let spec = ServiceSpec {
            replicas: random.between(0, 4) as u32,
            update,
            placement: model::PlacementRules::default(),
            node_loss: NodeLoss { replace_after: random.pick(&[Millis::ZERO, Millis::ZERO, Millis(20_000)]) },
            template,
        };
        Wish { behaviour, spec }
    }
}

fn draw_policy(random: &mut Random) -> UpdatePolicy {
    let amounts = [
        CountOrPercent::Count(0),
        CountOrPercent::Count(1),
        CountOrPercent::Count(2),
        CountOrPercent::Percent(25),
    ];
    UpdatePolicy {
        max_surge: random.pick(&amounts),
        max_unavailable: random.pick(&amounts),
        order: random.pick(&[UpdateOrder::StartFirst, UpdateOrder::StartFirst, UpdateOrder::StopFirst]),
        min_ready: random.pick(&[Millis::ZERO, Millis(500), Millis(3_000)]),
        healthy_deadline: Millis::from_secs(random.between(15, 40)),
        progress_deadline: Millis::from_secs(random.between(20, 60)),
        on_failure: random.pick(&[
            OnFailure::Rollback,
            OnFailure::Rollback,
            OnFailure::Pause,
            OnFailure::Continue,
        ]),
    }
}

fn draw_template(service: u64, behaviour: Behaviour, gentle: bool, random: &mut Random) -> ReplicaTemplate {
    let mut main = draw_container("main", random);
    main.args = Some(vec![behaviour.as_str().to_owned()]);
    main.health = draw_health(gentle, random);
    let sidecars = if random.one_in(5) { vec![draw_container("proxy", random)] } else { Vec::new() };
    // In a gentle world an init container would be a fault of the replica: it may fail.
    let has_init = !gentle && random.one_in(6);
    let init = if has_init { vec![draw_container("fetch", random)] } else { Vec::new() };
    let publish = random.one_in(2).then_some(8_000 + service as u16);
    let port = Port { name: name("http"), port: 80, protocol: Protocol::Tcp, publish };
    let when = match random.between(1, 8) {
        1 if !gentle => RestartWhen::Never,
        2 if !gentle => RestartWhen::OnFailure,
        _ => RestartWhen::Always,
    };
    let backoff = Backoff { base: Millis(200), max: Millis(5_000), reset_after: Millis(10_000) };
    ReplicaTemplate {
        main,
        sidecars,
        init,
        ports: vec![port],
        restart: RestartPolicy { when, backoff },
        stop_grace: random.millis(200, 5_000),
        on_partition: OnPartition::Continue,
        restart_nonce: 0,
    }
}

/// A hanging program is found out by its liveness probe alone, so there mostly is one.
fn draw_health(gentle: bool, random: &mut Random) -> Health {
    let mut probe = |failures| {
        let action = ProbeAction::Http { port: ProbePort::Number(80), path: "/".to_owned() };
        let interval = random.millis(200, 2_000);
        Probe { action, interval, timeout: Millis(500), successes: 1, failures }
    };
    let (startup, readiness, liveness) = (probe(60), probe(2), probe(3));
    Health {
        startup: random.one_in(4).then_some(startup),
        readiness: (gentle || !random.one_in(5)).then_some(readiness),
        liveness: (!random.one_in(4)).then_some(liveness),
    }
}

fn draw_container(container: &str, random: &mut Random) -> ContainerSpec {
    let memory = Bytes(random.between(1, 3) * (64 << 20));
    let cpu = random.one_in(3).then(|| MilliCpu(random.between(1, 8) * 100));
    ContainerSpec {
        name: name(container),
        image: ImageRef { reference: reference(random.between(1, IMAGES)), digest: None },
        command: None,
        args: None,
        working_dir: None,
        user: None,
        env: BTreeMap::new(),
        resources: Resources { cpu, memory, pids: 64 },
        health: Health::default(),
        stop_signal: None,
        mounts: Vec::new(),
        read_only_rootfs: false,
        capabilities: Capabilities::default(),
        init: true,
    }
}
