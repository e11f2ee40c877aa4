//! Health: three probes with three meanings, each with the defaults that suit it.
//!
//! Startup and readiness ask every second, so that a rollout goes on as soon as a replica can serve; liveness asks
//! every ten, as a restart is never urgent enough to be hasty about.

use model::{Health, Millis, Probe, ProbeAction, probe::ProbePort};

use super::container::words;
use super::template::HOUR;
use crate::leaf::Int;
use crate::leaf::amount::Span;
use crate::leaf::word::{PROBE_PORT, URL_PATH};
use crate::shape::Via;
use crate::shape::record::{Fields, Record, lens};

pub(crate) fn health() -> Record<Health> {
    let fields = Fields::<Health>::new()
        .optional(
            "startup",
            "Until it succeeds the other two do not run; when it fails for good the container is restarted.",
            probe("StartupProbe", "Asks whether the program has started.", defaults(1, 30)),
            lens!(startup),
        )
        .optional(
            "readiness",
            "Only a ready replica gets traffic and lets a rollout go on.",
            probe("ReadinessProbe", "Asks whether the program can serve now.", defaults(1, 3)),
            lens!(readiness),
        )
        .optional(
            "liveness",
            "When it fails for good the container is restarted.",
            probe("LivenessProbe", "Asks whether the program is past helping itself.", defaults(10, 3)),
            lens!(liveness),
        );
    let about = "How to tell whether a container works. Without probes, one that runs is ready.";
    Record::new("Health", about, Health::default(), fields)
}

fn defaults(interval_s: u64, failures: u32) -> Probe {
    let action = ProbeAction::Exec { command: Vec::new() };
    let (interval, timeout) = (Millis::from_secs(interval_s), Millis::from_secs(1));
    Probe { action, interval, timeout, successes: 1, failures }
}

/// A probe as it is written: the kind of action is the name of a field.
#[derive(Clone, Debug)]
struct Written {
    http: Option<Http>,
    tcp: Option<Tcp>,
    exec: Option<Exec>,
    /// Its action is not used.
    timing: Probe,
}

#[derive(Clone, Debug)]
struct Http {
    port: ProbePort,
    path: String,
}

#[derive(Clone, Debug)]
struct Tcp {
    port: ProbePort,
}

#[derive(Clone, Debug)]
struct Exec {
    command: Vec<String>,
}

fn probe(name: &'static str, about: &'static str, defaults: Probe) -> Via<Record<Written>, Probe> {
    let span = || Span { min: Millis(10), max: HOUR };
    let times = || Int { min: 1u32, max: 1_000 };
    let fields = Fields::<Written>::new()
        .optional(
            "http",
            "Succeeds when a GET is answered with a status from 200 to 399.",
            http(),
            lens!(http),
        )
        .optional("tcp", "Succeeds when a connection opens.", tcp(), lens!(tcp))
        .optional("exec", "Succeeds when a command inside the container exits with 0.", exec(), lens!(exec))
        .field(
            "interval",
            "From the start of one attempt to the start of the next.",
            span(),
            lens!(timing.interval),
        )
        .field("timeout", "An attempt that takes longer has failed.", span(), lens!(timing.timeout))
        .field(
            "successes",
            "So many in a row, and it counts as succeeding.",
            times(),
            lens!(timing.successes),
        )
        .field("failures", "So many in a row, and it counts as failing.", times(), lens!(timing.failures));
    let base = Written { http: None, tcp: None, exec: None, timing: defaults };
    let shape = Record::new(name, about, base, fields).exactly_one_of(&["http", "tcp", "exec"]);
    Via { shape, into: Written::into_probe, from: |probe, _| Written::of(probe) }
}

impl Written {
    fn into_probe(self) -> Option<Probe> {
        let action = match self {
            Written { http: Some(Http { port, path }), .. } => ProbeAction::Http { port, path },
            Written { tcp: Some(Tcp { port }), .. } => ProbeAction::Tcp { port },
            Written { exec, .. } => ProbeAction::Exec { command: exec?.command },
        };
        Some(Probe { action, ..self.timing })
    }

    fn of(probe: &Probe) -> Written {
        let mut written = Written { http: None, tcp: None, exec: None, timing: probe.clone() };
        match probe.action.clone() {
            ProbeAction::Http { port, path } => written.http = Some(Http { port, path }),
            ProbeAction::Tcp { port } => written.tcp = Some(Tcp { port }),
            ProbeAction::Exec { command } => written.exec = Some(Exec { command }),
        }
        written
    }
}

fn http() -> Record<Http> {
    let fields = Fields::<Http>::new()
        .required("port", "The name of one of the service's ports, or a number.", PROBE_PORT, lens!(port))
        .field("path", "What is asked for.", URL_PATH, lens!(path));
    let base = Http { port: ProbePort::Number(0), path: "/".to_owned() };
    Record::new("HttpProbe", "A GET to the replica; redirects are not followed.", base, fields)
}

fn tcp() -> Record<Tcp> {
    let about = "The name of one of the service's ports, or a number.";
    let fields = Fields::<Tcp>::new().required("port", about, PROBE_PORT, lens!(port));
    Record::new("TcpProbe", "A connection to the replica.", Tcp { port: ProbePort::Number(0) }, fields)
}

fn exec() -> Record<Exec> {
    let about = "The program and its arguments. A list: no shell takes it apart.";
    let fields = Fields::<Exec>::new().required("command", about, words(1), lens!(command));
    Record::new("ExecProbe", "A command inside the container.", Exec { command: Vec::new() }, fields)
}
