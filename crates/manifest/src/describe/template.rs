//! The replica around its containers: ports, restarts, stopping.

use std::collections::BTreeMap;

use model::{
    Backoff, Capabilities, ContainerSpec, Health, ImageRef, Millis, Name, NodeLoss, OnPartition,
    PlacementRules, Port, Protocol, ReplicaTemplate, Resources, RestartPolicy, RestartWhen, ServiceSpec,
    UpdatePolicy,
};

use super::{container, known_name, no_name};
use crate::leaf::amount::Span;
use crate::leaf::word::NAME;
use crate::leaf::{Int, OneOf};
use crate::shape::List;
use crate::shape::record::{Fields, Record, lens};

/// The name of the container that the spec itself describes.
pub(crate) const MAIN: &str = "main";

pub(crate) const HOUR: Millis = Millis::from_secs(3_600);
pub(crate) const DAY: Millis = Millis::from_secs(24 * 3_600);

/// A service of which nothing is said.
pub(crate) fn base_service() -> ServiceSpec {
    let template = ReplicaTemplate {
        main: base_container(known_name(MAIN)),
        sidecars: Vec::new(),
        init: Vec::new(),
        ports: Vec::new(),
        restart: RestartPolicy::default(),
        stop_grace: Millis::from_secs(10),
        on_partition: OnPartition::Continue,
        restart_nonce: 0,
    };
    ServiceSpec {
        replicas: 1,
        update: UpdatePolicy::default(),
        placement: PlacementRules::default(),
        node_loss: NodeLoss::default(),
        template,
    }
}

/// A container of which nothing is said.
pub(crate) fn base_container(name: Name) -> ContainerSpec {
    ContainerSpec {
        name,
        image: ImageRef { reference: String::new(), digest: None },
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

pub(crate) fn ports() -> Fields<ReplicaTemplate> {
    let about = "The ports that the replica listens on, whichever of its containers does.";
    Fields::<ReplicaTemplate>::new().field(
        "ports",
        about,
        List { item: port(), min: 0, max: 64 },
        lens!(ports),
    )
}

fn port() -> Record<Port> {
    let number = || Int { min: 1, max: u16::MAX };
    let fields = Fields::<Port>::new()
        .required("name", "What probes call the port: a DNS label.", NAME, lens!(name))
        .required("port", "The number that the program listens on.", number(), lens!(port))
        .field(
            "protocol",
            "`tcp` or `udp`.",
            OneOf(&[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)]),
            lens!(protocol),
        )
        .optional(
            "publish",
            "A port of every node that is balanced over the ready replicas of the service.",
            number(),
            lens!(publish),
        );
    let base = Port { name: no_name(), port: 0, protocol: Protocol::Tcp, publish: None };
    Record::new("Port", "A port that the replica listens on.", base, fields)
}

pub(crate) fn lifecycle() -> Fields<ReplicaTemplate> {
    Fields::<ReplicaTemplate>::new()
        .field(
            "stopGrace",
            "How long a replica may take to end after its stop signal, before it is killed.",
            Span { min: Millis::ZERO, max: HOUR },
            lens!(stop_grace),
        )
        .field("restart", "When a container that ended is started again.", restart(), lens!(restart))
        .field(
            "onPartition",
            "`continue`: a replica goes on running while its node cannot reach the servers; when it is replaced \
             elsewhere, two may run for a while. `stop`: its node stops it when no server has heard the node for as long \
             as it takes to count as lost (15s by default), and only then is it replaced, so that at most one runs.",
            ON_PARTITION,
            lens!(on_partition),
        )
}

const ON_PARTITION: OneOf<OnPartition> =
    OneOf(&[("continue", OnPartition::Continue), ("stop", OnPartition::Stop)]);

fn restart() -> Record<RestartPolicy> {
    const WHEN: OneOf<RestartWhen> = OneOf(&[
        ("always", RestartWhen::Always),
        ("on-failure", RestartWhen::OnFailure),
        ("never", RestartWhen::Never),
    ]);
    let fields = Fields::<RestartPolicy>::new()
        .field(
            "policy",
            "`always`, `on-failure` (after an exit code other than 0, or a signal) or `never`.",
            WHEN,
            lens!(when),
        )
        .field("backoff", "The pause before a restart.", backoff(), lens!(backoff));
    Record::new("Restart", "When the node starts a container again.", RestartPolicy::default(), fields)
}

fn backoff() -> Record<Backoff> {
    let span = || Span { min: Millis(100), max: DAY };
    let fields = Fields::<Backoff>::new()
        .field("base", "The pause before the second restart; the first has none.", span(), lens!(base))
        .field("max", "The pause doubles with each restart up to this.", span(), lens!(max))
        .field(
            "resetAfter",
            "A container that ran healthy for this long begins again without a pause.",
            span(),
            lens!(reset_after),
        );
    let about = "The pause before a restart: none before the first, then `base`, doubling up to `max`.";
    Record::new("Backoff", about, RestartPolicy::default().backoff, fields)
}

pub(crate) fn other_containers() -> Fields<ReplicaTemplate> {
    Fields::<ReplicaTemplate>::new()
        .field(
            "initContainers",
            "Run to completion, one after the other, before the sidecars and the main container start.",
            List { item: container::init_container(), min: 0, max: 16 },
            lens!(init),
        )
        .field(
            "sidecars",
            "Run beside the main container and share its network; started before it and stopped after it.",
            List { item: container::sidecar(), min: 0, max: 16 },
            lens!(sidecars),
        )
}
