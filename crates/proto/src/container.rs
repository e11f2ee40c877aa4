//! Containers: what they run, their limits, mounts, rights and probes.

use model::{
    Bytes, Capabilities, ContainerSpec, Digest, Health, ImageRef, MilliCpu, Millis, Mount, Probe,
    ProbeAction, Resources, probe::ProbePort,
};

use crate::{error::DecodeError, field, v1};

impl From<&ContainerSpec> for v1::ContainerSpec {
    fn from(spec: &ContainerSpec) -> Self {
        v1::ContainerSpec {
            name: spec.name.to_string(),
            image: Some((&spec.image).into()),
            command: spec.command.clone().map(|items| v1::StringList { items }),
            args: spec.args.clone().map(|items| v1::StringList { items }),
            working_dir: spec.working_dir.clone(),
            user: spec.user.clone(),
            env: spec.env.clone(),
            resources: Some((&spec.resources).into()),
            health: Some((&spec.health).into()),
            stop_signal: spec.stop_signal.map(u32::from),
            mounts: spec.mounts.iter().map(Into::into).collect(),
            read_only_rootfs: spec.read_only_rootfs,
            capabilities: Some((&spec.capabilities).into()),
            init: spec.init,
        }
    }
}

impl TryFrom<v1::ContainerSpec> for ContainerSpec {
    type Error = DecodeError;
    fn try_from(wire: v1::ContainerSpec) -> Result<Self, DecodeError> {
        let signal = |number| field::ranged(number, 1..=64, "stop_signal");
        Ok(ContainerSpec {
            name: field::parsed(&wire.name, "name")?,
            image: field::required(wire.image, "image")?,
            command: wire.command.map(|list| list.items),
            args: wire.args.map(|list| list.items),
            working_dir: wire.working_dir,
            user: wire.user,
            env: wire.env,
            resources: field::required(wire.resources, "resources")?,
            health: field::required(wire.health, "health")?,
            stop_signal: wire.stop_signal.map(signal).transpose()?,
            mounts: field::list(wire.mounts, "mounts")?,
            read_only_rootfs: wire.read_only_rootfs,
            capabilities: field::required(wire.capabilities, "capabilities")?,
            init: wire.init,
        })
    }
}

impl From<&ImageRef> for v1::ImageRef {
    fn from(image: &ImageRef) -> Self {
        v1::ImageRef {
            reference: image.reference.clone(),
            digest: image.digest.as_ref().map(Digest::to_string),
        }
    }
}

impl TryFrom<v1::ImageRef> for ImageRef {
    type Error = DecodeError;
    fn try_from(wire: v1::ImageRef) -> Result<Self, DecodeError> {
        let digest = wire.digest.map(|text| field::parsed(&text, "digest")).transpose()?;
        Ok(ImageRef { reference: wire.reference, digest })
    }
}

impl From<&Resources> for v1::Resources {
    fn from(resources: &Resources) -> Self {
        v1::Resources {
            cpu_millicores: resources.cpu.map(|cpu| cpu.0),
            memory_bytes: resources.memory.0,
            pids: resources.pids,
        }
    }
}

impl TryFrom<v1::Resources> for Resources {
    type Error = DecodeError;
    fn try_from(wire: v1::Resources) -> Result<Self, DecodeError> {
        Ok(Resources {
            cpu: wire.cpu_millicores.map(MilliCpu),
            memory: Bytes(wire.memory_bytes),
            pids: wire.pids,
        })
    }
}

impl From<&Mount> for v1::Mount {
    fn from(mount: &Mount) -> Self {
        use v1::mount::Kind;
        let kind = match mount {
            Mount::Tmpfs { target, size } => {
                Kind::Tmpfs(v1::Tmpfs { target: target.clone(), size_bytes: size.0 })
            }
            Mount::HostPath { source, target, read_only } => Kind::HostPath(v1::HostPath {
                source: source.clone(),
                target: target.clone(),
                read_only: *read_only,
            }),
        };
        v1::Mount { kind: Some(kind) }
    }
}

impl TryFrom<v1::Mount> for Mount {
    type Error = DecodeError;
    fn try_from(wire: v1::Mount) -> Result<Self, DecodeError> {
        use v1::mount::Kind;
        Ok(match field::kind(wire.kind, "kind")? {
            Kind::Tmpfs(tmpfs) => Mount::Tmpfs { target: tmpfs.target, size: Bytes(tmpfs.size_bytes) },
            Kind::HostPath(path) => {
                Mount::HostPath { source: path.source, target: path.target, read_only: path.read_only }
            }
        })
    }
}

impl From<&Capabilities> for v1::Capabilities {
    fn from(capabilities: &Capabilities) -> Self {
        v1::Capabilities {
            add: capabilities.add.iter().cloned().collect(),
            drop: capabilities.drop.iter().cloned().collect(),
        }
    }
}

impl TryFrom<v1::Capabilities> for Capabilities {
    type Error = DecodeError;
    fn try_from(wire: v1::Capabilities) -> Result<Self, DecodeError> {
        Ok(Capabilities { add: wire.add.into_iter().collect(), drop: wire.drop.into_iter().collect() })
    }
}

impl From<&Health> for v1::Health {
    fn from(health: &Health) -> Self {
        v1::Health {
            startup: health.startup.as_ref().map(Into::into),
            readiness: health.readiness.as_ref().map(Into::into),
            liveness: health.liveness.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::Health> for Health {
    type Error = DecodeError;
    fn try_from(wire: v1::Health) -> Result<Self, DecodeError> {
        Ok(Health {
            startup: field::optional(wire.startup, "startup")?,
            readiness: field::optional(wire.readiness, "readiness")?,
            liveness: field::optional(wire.liveness, "liveness")?,
        })
    }
}

impl From<&Probe> for v1::Probe {
    fn from(probe: &Probe) -> Self {
        use v1::probe::Action;
        let action = match &probe.action {
            ProbeAction::Http { port, path } => {
                Action::Http(v1::HttpProbe { port: Some(port.into()), path: path.clone() })
            }
            ProbeAction::Tcp { port } => Action::Tcp(v1::TcpProbe { port: Some(port.into()) }),
            ProbeAction::Exec { command } => Action::Exec(v1::ExecProbe { command: command.clone() }),
        };
        v1::Probe {
            action: Some(action),
            interval_ms: probe.interval.0,
            timeout_ms: probe.timeout.0,
            successes: probe.successes,
            failures: probe.failures,
        }
    }
}

impl TryFrom<v1::Probe> for Probe {
    type Error = DecodeError;
    fn try_from(wire: v1::Probe) -> Result<Self, DecodeError> {
        use v1::probe::Action;
        let action = match field::kind(wire.action, "action")? {
            Action::Http(http) => {
                ProbeAction::Http { port: field::required(http.port, "http.port")?, path: http.path }
            }
            Action::Tcp(tcp) => ProbeAction::Tcp { port: field::required(tcp.port, "tcp.port")? },
            Action::Exec(exec) => ProbeAction::Exec { command: exec.command },
        };
        Ok(Probe {
            action,
            interval: Millis(wire.interval_ms),
            timeout: Millis(wire.timeout_ms),
            successes: wire.successes,
            failures: wire.failures,
        })
    }
}

impl From<&ProbePort> for v1::ProbePort {
    fn from(port: &ProbePort) -> Self {
        use v1::probe_port::Port;
        let port = match port {
            ProbePort::Number(number) => Port::Number((*number).into()),
            ProbePort::Named(name) => Port::Name(name.to_string()),
        };
        v1::ProbePort { port: Some(port) }
    }
}

impl TryFrom<v1::ProbePort> for ProbePort {
    type Error = DecodeError;
    fn try_from(wire: v1::ProbePort) -> Result<Self, DecodeError> {
        use v1::probe_port::Port;
        Ok(match field::kind(wire.port, "port")? {
            Port::Number(number) => ProbePort::Number(field::port(number, "number")?),
            Port::Name(name) => ProbePort::Named(field::parsed(&name, "name")?),
        })
    }
}
