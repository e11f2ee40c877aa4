//! What no field can see alone: names that must differ, names that must exist, limits that contradict each other.
//!
//! The rules look at the finished spec. Each finding says on which values it rests; where one of those was already
//! found to be wrong, the finding is dropped, as it would only repeat that.

use std::collections::BTreeMap;

use model::{ContainerSpec, Mount, Probe, ProbeAction, Protocol, ServiceSpec, UpdateOrder, probe::ProbePort};

use crate::describe::template::MAIN;
use crate::path::Path;
use crate::update::{is_zero, runs_once, writes_to_host};

pub(crate) struct Finding {
    /// Where the caret goes; the nearest that is written when this is not.
    pub(crate) at: Path,
    /// What else it rests on; the first is shown beside, with its label.
    pub(crate) rests_on: Vec<Path>,
    pub(crate) label: Option<&'static str>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

pub(crate) fn service(spec: &ServiceSpec) -> Vec<Finding> {
    let mut findings = Vec::new();
    ports(spec, &mut findings);
    container_names(spec, &mut findings);
    for (path, container) in containers(spec) {
        probes(spec, &path, container, &mut findings);
        mounts(&path, container, &mut findings);
        capabilities(&path, container, &mut findings);
    }
    update(spec, &mut findings);
    backoff(spec, &mut findings);
    findings
}

/// Every container and where its fields stand.
fn containers(spec: &ServiceSpec) -> impl Iterator<Item = (Path, &ContainerSpec)> {
    let root = Path::of("spec");
    let list = |field: &str| root.at(field);
    let (init, sidecars) = (list("initContainers"), list("sidecars"));
    let template = &spec.template;
    let init = template.init.iter().enumerate().map(move |(i, container)| (init.at(i), container));
    let sidecars =
        template.sidecars.iter().enumerate().map(move |(i, container)| (sidecars.at(i), container));
    std::iter::once((Path::of("spec"), &template.main)).chain(init).chain(sidecars)
}

/// A finding for every value that an earlier one has already.
fn repeated<K: Ord>(
    values: impl IntoIterator<Item = (Path, K)>,
    message: impl Fn(&K) -> String,
    help: &str,
    findings: &mut Vec<Finding>,
) {
    let mut seen: BTreeMap<K, Path> = BTreeMap::new();
    for (at, value) in values {
        match seen.get(&value) {
            Some(first) => findings.push(Finding {
                at,
                rests_on: vec![first.clone()],
                label: Some("first used here"),
                message: message(&value),
                help: Some(help.to_owned()),
            }),
            None => {
                seen.insert(value, at);
            }
        }
    }
}

fn ports(spec: &ServiceSpec, findings: &mut Vec<Finding>) {
    let ports = &spec.template.ports;
    let path = |i: usize, field: &str| Path::of("spec.ports").at(i).at(field);
    let names = ports.iter().enumerate().map(|(i, port)| (path(i, "name"), port.name.clone()));
    repeated(
        names,
        |name| format!("two ports are called `{name}`"),
        "give each port a name of its own",
        findings,
    );

    let numbers = ports.iter().enumerate().map(|(i, port)| (path(i, "port"), (port.port, port.protocol)));
    let message = |(port, protocol): &(u16, Protocol)| {
        format!("two ports have the number {port}/{}", protocol.as_str())
    };
    repeated(
        numbers,
        message,
        "one entry is enough: a port is open to every container of the replica",
        findings,
    );

    let published = ports.iter().enumerate();
    let published =
        published.filter_map(|(i, port)| Some((path(i, "publish"), (port.publish?, port.protocol))));
    let message =
        |(port, protocol): &(u16, Protocol)| format!("two ports publish {port}/{}", protocol.as_str());
    repeated(published, message, "publish each at another port of the nodes", findings);
}

fn container_names(spec: &ServiceSpec, findings: &mut Vec<Finding>) {
    let named =
        || containers(spec).skip(1).map(|(path, container)| (path.at("name"), container.name.clone()));
    for (at, _) in named().filter(|(_, name)| name.as_str() == MAIN) {
        findings.push(Finding {
            at,
            rests_on: Vec::new(),
            label: None,
            message: "`main` is the name of the container that `spec` itself describes".to_owned(),
            help: Some("choose another name for this one".to_owned()),
        });
    }
    let message = |name: &model::Name| format!("two containers are called `{name}`");
    let others = named().filter(|(_, name)| name.as_str() != MAIN);
    repeated(others, message, "init containers and sidecars share one set of names", findings);
}

fn probes(spec: &ServiceSpec, path: &Path, container: &ContainerSpec, findings: &mut Vec<Finding>) {
    let health = &container.health;
    let probes =
        [("startup", &health.startup), ("readiness", &health.readiness), ("liveness", &health.liveness)];
    for (name, probe) in probes {
        let Some(probe) = probe else { continue };
        probe_port(spec, &path.at("health").at(name), probe, findings);
    }
}

fn probe_port(spec: &ServiceSpec, path: &Path, probe: &Probe, findings: &mut Vec<Finding>) {
    let (kind, port) = match &probe.action {
        ProbeAction::Http { port: ProbePort::Named(port), .. } => ("http", port),
        ProbeAction::Tcp { port: ProbePort::Named(port) } => ("tcp", port),
        ProbeAction::Http { .. } | ProbeAction::Tcp { .. } | ProbeAction::Exec { .. } => return,
    };
    let ports = &spec.template.ports;
    let known: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    let (message, help) = match ports.iter().find(|known| known.name == *port) {
        Some(port) if port.protocol == Protocol::Udp => (
            format!("the port `{}` is udp; {kind} probes need tcp", port.name),
            "use an `exec` probe".to_owned(),
        ),
        Some(_) => return,
        None => {
            let help = match (crate::suggest::nearest(port.as_str(), &known), known.is_empty()) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, true) => {
                    format!("add it to `spec.ports`: `- {{ name: {port}, port: 8080 }}`, or give its number")
                }
                (None, false) => {
                    format!("`spec.ports` has `{}`; add it there, or give its number", known.join("`, `"))
                }
            };
            (format!("no port is called `{port}`"), help)
        }
    };
    let rests_on = vec![Path::of("spec.ports")];
    findings.push(Finding { at: path.at(kind).at("port"), rests_on, label: None, message, help: Some(help) });
}

fn mounts(path: &Path, container: &ContainerSpec, findings: &mut Vec<Finding>) {
    let list = path.at("mounts");
    let target = |mount: &Mount| match mount.target().trim_end_matches('/') {
        "" => "/".to_owned(),
        target => target
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .fold(String::new(), |path, part| path + "/" + part),
    };
    let targets =
        || container.mounts.iter().enumerate().map(|(i, mount)| (list.at(i).at("target"), target(mount)));
    let message = |target: &String| format!("two mounts have the target `{target}`");
    repeated(targets(), message, "only the second would be seen; remove one", findings);
    for (at, target) in targets() {
        let kernel =
            ["/proc", "/sys"].iter().any(|dir| target == *dir || target.starts_with(&format!("{dir}/")));
        if kernel || matches!(target.as_str(), "/" | "" | "/dev") {
            let shown = if target.is_empty() { "/" } else { &target };
            findings.push(Finding {
                at,
                rests_on: Vec::new(),
                label: None,
                message: format!("nothing can be mounted at `{shown}`"),
                help: Some(
                    "`/`, `/dev`, `/proc` and `/sys` are made by wharf; choose another target".to_owned(),
                ),
            });
        }
    }
}

fn capabilities(path: &Path, container: &ContainerSpec, findings: &mut Vec<Finding>) {
    let capabilities = &container.capabilities;
    if let Some(name) = capabilities.add.intersection(&capabilities.drop).next() {
        findings.push(Finding {
            at: path.at("capabilities").at("drop"),
            rests_on: vec![path.at("capabilities").at("add")],
            label: Some("added here"),
            message: format!("the capability `{name}` is both added and dropped"),
            help: Some("remove it from one of the two".to_owned()),
        });
    }
}

/// Whether a rollout could ever make a step, and what else in the policy contradicts itself.
fn update(spec: &ServiceSpec, findings: &mut Vec<Finding>) {
    let path = Path::of("spec.update");
    let mut found = |field: &str, message: String, help: &str, also: &[&str]| {
        let rests_on = also.iter().map(|path| Path::of(path)).chain([path.clone()]).collect();
        let help = Some(help.to_owned());
        findings.push(Finding { at: path.at(field), rests_on, label: None, message, help });
    };
    let policy = &spec.update;
    let missing = policy.max_unavailable.of_rounded_down(spec.replicas);
    if let Some((field, message, help)) = contradiction(spec) {
        found(field, message, help, &["spec.onPartition", "spec.mounts"]);
    } else if policy.order == UpdateOrder::StopFirst && missing == 0 && spec.replicas > 0 {
        let (share, replicas) = (policy.max_unavailable, spec.replicas);
        let message =
            format!("{share} of {replicas} replicas is rounded down to none: none could ever be replaced");
        found("maxUnavailable", message, "write `maxUnavailable: 1`", &["spec.mounts", "spec.replicas"]);
    }
    if policy.progress_deadline <= policy.min_ready {
        let (deadline, ready) = (policy.progress_deadline, policy.min_ready);
        let message = format!(
            "the `progressDeadline` of {deadline} passes before any replica has been ready for {ready}"
        );
        found("progressDeadline", message, "make it longer than `minReady` and a start together", &[]);
    }
}

/// The field that contradicts the others, what it says, and the way out.
fn contradiction(spec: &ServiceSpec) -> Option<(&'static str, String, &'static str)> {
    let policy = &spec.update;
    match (policy.order, is_zero(policy.max_surge), is_zero(policy.max_unavailable)) {
        (_, true, true) => Some((
            "maxUnavailable",
            "`maxSurge` and `maxUnavailable` are both 0: no replica could ever be replaced".to_owned(),
            "allow one less meanwhile (`order: stop-first`, `maxUnavailable: 1`) or one more (`order: start-first`, `maxSurge: 1`)",
        )),
        (UpdateOrder::StartFirst, true, false) => Some((
            "maxSurge",
            "`order: start-first` needs a `maxSurge` of at least 1".to_owned(),
            "a new replica runs beside the old one for a while; or write `order: stop-first`",
        )),
        (UpdateOrder::StopFirst, false, _) => {
            let otherwise = "remove it and use `maxUnavailable`; or write `order: start-first`";
            let (why, help) = match (writes_to_host(&spec.template), runs_once(&spec.template)) {
                (_, true) => (" (which `onPartition: stop` needs)", "remove it and use `maxUnavailable`"),
                (true, false) => (" (the default with a writable hostPath)", otherwise),
                (false, false) => ("", otherwise),
            };
            let message = format!("`maxSurge` has no meaning with `order: stop-first`{why}");
            Some(("maxSurge", message, help))
        }
        (UpdateOrder::StartFirst, false, _) if runs_once(&spec.template) => Some((
            "order",
            "`order: start-first` runs two replicas in one slot for a while, and `onPartition: stop` promises that at \
             most one runs"
                .to_owned(),
            "write `order: stop-first`, or remove the line",
        )),
        (UpdateOrder::StartFirst, false, _) | (UpdateOrder::StopFirst, true, false) => None,
    }
}

fn backoff(spec: &ServiceSpec, findings: &mut Vec<Finding>) {
    let backoff = spec.template.restart.backoff;
    if backoff.base > backoff.max {
        let path = Path::of("spec.restart.backoff");
        findings.push(Finding {
            at: path.at("max"),
            rests_on: vec![path.at("base")],
            label: None,
            message: format!("the `max` of {} is less than the `base` of {}", backoff.max, backoff.base),
            help: Some("the pause begins with `base` and doubles up to `max`".to_owned()),
        });
    }
}
