//! Services as small as they can be.

use std::collections::BTreeMap;

use manager::Declaration;
use model::{
    Bytes, Capabilities, ContainerSpec, Health, ImageRef, Millis, Name, OnFailure, OnPartition, Port,
    Protocol, ReplicaTemplate, Resources, RestartPolicy, ServiceKey, ServiceSpec, UpdatePolicy, Version,
};

use crate::codec::{BYTES, LEVEL};

pub(crate) fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: Name::new("default").unwrap(), name: Name::new(name).unwrap() }
}

pub(crate) fn declaration(name: &str) -> Declaration {
    let main = ContainerSpec {
        name: Name::new("main").unwrap(),
        image: ImageRef { reference: "hello".to_owned(), digest: None },
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
    };
    let template = ReplicaTemplate {
        main,
        sidecars: Vec::new(),
        init: Vec::new(),
        ports: Vec::new(),
        restart: RestartPolicy::default(),
        stop_grace: Millis::from_secs(10),
        on_partition: model::OnPartition::Continue,
        restart_nonce: 0,
    };
    Declaration {
        service: key(name),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        spec: ServiceSpec {
            replicas: 1,
            update: UpdatePolicy::default(),
            placement: Default::default(),
            node_loss: Default::default(),
            template,
        },
        expects: None,
    }
}

/// Sets what `name=value` says; none if it says nothing known.
pub(crate) fn set(declaration: &mut Declaration, field: &str) -> Option<()> {
    let (name, value) = field.split_once('=')?;
    let template = &mut declaration.spec.template;
    match name {
        "needs" => {
            let (label, value) = value.split_once(':')?;
            declaration.spec.placement.nodes.insert(label.to_owned(), value.to_owned());
        }
        "replicas" => declaration.spec.replicas = value.parse().ok()?,
        "ready" => {
            let seconds = value.strip_suffix('s')?.parse().ok()?;
            declaration.spec.update.min_ready = Millis::from_secs(seconds);
        }
        "failure" => {
            declaration.spec.update.on_failure = match value {
                "continue" => OnFailure::Continue,
                "rollback" => OnFailure::Rollback,
                _ => return None,
            }
        }
        "partition" if value == "stop" => template.on_partition = OnPartition::Stop,
        "image" => template.main.image.reference = value.to_owned(),
        // Another value is another revision.
        "say" => drop(template.main.env.insert("SAY".to_owned(), value.to_owned())),
        "memory" => {
            template.main.resources.memory = Bytes(value.strip_suffix("Mi")?.parse::<u64>().ok()? << 20)
        }
        "port" => template.ports.push(Port {
            name: Name::new("http").unwrap(),
            port: 80,
            protocol: Protocol::Tcp,
            publish: Some(value.parse().ok()?),
        }),
        "expects" => declaration.expects = Some(Version(value.parse().ok()?)),
        "level" => drop(declaration.annotations.insert(LEVEL.to_owned(), value.to_owned())),
        "bytes" => drop(declaration.annotations.insert(BYTES.to_owned(), value.to_owned())),
        _ => return None,
    }
    Some(())
}
