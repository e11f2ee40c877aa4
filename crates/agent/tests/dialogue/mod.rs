//! The language of the scripts: commands become events, actions become lines.

mod fixture;

use std::collections::BTreeMap;

use agent::core::{Action, Change, ContainerId, Core, Event, Found, FoundState, ProbeKind, Record, Setback};
use model::{
    Assignment, Bytes, ContainerState, Desired, Dispatch, Exit, ExitCause, Millis, Observed, ReplicaId,
    Timestamp,
};

use fixture::Templates;

#[derive(Debug)]
pub(crate) struct Dialogue {
    core: Core,
    now: Timestamp,
    templates: Templates,
    ledger: BTreeMap<ReplicaId, Record>,
    last_balance: u64,
    leased_until: Option<Timestamp>,
}

impl Dialogue {
    /// A core that has found an empty ledger and an empty host, at time 0.
    pub(crate) fn new() -> Dialogue {
        let mut dialogue = Dialogue {
            core: Core::new(),
            now: Timestamp(0),
            templates: Templates::default(),
            ledger: BTreeMap::new(),
            last_balance: 0,
            leased_until: None,
        };
        dialogue.send(Event::Restored(vec![]));
        dialogue.send(Event::Adopted(Found::default()));
        dialogue
    }

    /// One command line; the lines of its answer.
    pub(crate) fn say(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (command, rest) = words.split_first().unwrap();
        match *command {
            // template NAME key=value..., container NAME ROLE CONTAINER key=value...
            "template" | "container" => {
                self.templates.define(command, rest);
                vec![]
            }
            // full SEQUENCE TEMPLATE/NUMBER=DESIRED...
            "full" => {
                let assignments = rest[1..].iter().map(|text| self.assignment(text)).collect();
                self.send(Event::Assigned(Dispatch::Full { sequence: number(rest[0]), assignments }))
            }
            // increment FOLLOWS SEQUENCE TEMPLATE/NUMBER=DESIRED... -NUMBER...
            "increment" => {
                let (removed, changed): (Vec<&str>, Vec<&str>) =
                    rest[2..].iter().partition(|text| text.starts_with('-'));
                let removed = removed.iter().map(|text| ReplicaId(number(&text[1..]))).collect();
                let changed = changed.iter().map(|text| self.assignment(text)).collect();
                let (follows, sequence) = (number(rest[0]), number(rest[1]));
                self.send(Event::Assigned(Dispatch::Increment { follows, sequence, changed, removed }))
            }
            // prepared NUMBER ok|[not-now] REASON...
            "prepared" => {
                let replica = ReplicaId(number(rest[0]));
                let result = ok_or_setback(&rest[1..]).map(|()| [10, 0, 0, replica.0 as u8].into());
                self.send(Event::Prepared { replica, result })
            }
            // started ID ok|[not-now] REASON...
            "started" => {
                let id = container(rest[0]);
                let result = ok_or_setback(&rest[1..]).map(|()| 100 + id.attempt);
                self.send(Event::Started { id, result })
            }
            // exited ID CAUSE
            "exited" => {
                let (id, exit) = (container(rest[0]), self.exit(rest[1]));
                self.send(Event::Exited { id, exit })
            }
            // probed ID KIND ok|[not-now] REASON...
            "probed" => {
                let kind = [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness];
                let kind = kind.into_iter().find(|kind| kind.as_str() == rest[1]).unwrap();
                self.send(Event::Probed { id: container(rest[0]), kind, result: ok_or_setback(&rest[2..]) })
            }
            "balanced" => self.send(Event::Balanced { serial: self.last_balance }),
            // cleaned NUMBER ok|REASON...
            "cleaned" => {
                let replica = ReplicaId(number(rest[0]));
                self.send(Event::Cleaned { replica, result: ok_or_words(&rest[1..]) })
            }
            // leased MILLISECONDS
            "leased" => {
                let until = self.now + Millis(number(rest[0]));
                self.leased_until = Some(until);
                self.send(Event::Leased { until })
            }
            "shutdown" => self.send(Event::Shutdown),
            "closed?" => vec![self.core.is_closed().to_string()],
            // pass MILLISECONDS: wakes the core whenever it wants to be woken in that time.
            "pass" => self.pass(number(rest[0])),
            // Another core, from the ledger: what is there is not looked at yet.
            "recall" => {
                self.core = Core::new();
                self.send(Event::Restored(self.ledger.values().cloned().collect()))
            }
            // What a session that is opened now says.
            "hello" => self.core.observed().iter().map(report).collect(),
            // crash [running:ID | CAUSE:ID | sandbox:NUMBER]...: another core, from the ledger and what is there.
            "crash" => self.crash(rest),
            // The same with nothing there, and no lease.
            "reboot" => {
                self.leased_until = None;
                self.crash(&[])
            }
            other => panic!("unknown command {other:?}"),
        }
    }

    fn assignment(&self, text: &str) -> Assignment {
        let (name, desired) = text.split_once('=').unwrap();
        let (template, number_text) = name.split_once('/').unwrap();
        let desired = [Desired::Prepared, Desired::Running, Desired::Stopped]
            .into_iter()
            .find(|known| known.as_str() == desired)
            .unwrap();
        self.templates.assignment(template, number(number_text), desired)
    }

    fn exit(&self, cause: &str) -> Exit {
        let (kind, value) = cause.split_once('=').unwrap_or((cause, "0"));
        let cause = match kind {
            "code" => ExitCause::Code(number(value) as u8),
            "signal" => ExitCause::Signal(number(value) as u8),
            "oom" => ExitCause::OutOfMemory { limit: Bytes(64 << 20), peak: Bytes(64 << 20) },
            "unknown" => ExitCause::Unknown,
            other => panic!("{other}"),
        };
        Exit { cause, at: self.now, ran_for: Millis(1) }
    }

    fn pass(&mut self, ms: u64) -> Vec<String> {
        let end = self.now + Millis(ms);
        let mut lines = Vec::new();
        while let Some(at) = self.core.next_wake().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let answer = self.send(Event::Wake);
            lines.push(format!("at {}ms:", self.now.0));
            lines.extend(answer.into_iter().map(|line| format!("  {line}")));
            assert!(
                self.core.next_wake().is_none_or(|next| next > self.now),
                "a wake must be followed by progress"
            );
        }
        self.now = end;
        lines
    }

    fn crash(&mut self, found: &[&str]) -> Vec<String> {
        self.core = Core::new();
        let mut there = Found::default();
        for text in found {
            let (state, what) = text.split_once(':').unwrap();
            match state {
                "sandbox" => {
                    there.sandboxes.insert(ReplicaId(number(what)));
                }
                "running" => {
                    let id = container(what);
                    let state = FoundState::Running { pid: 100 + id.attempt, since: self.now };
                    there.containers.push((id, state));
                }
                cause => there.containers.push((container(what), FoundState::Exited(self.exit(cause)))),
            }
        }
        if let Some(until) = self.leased_until {
            self.send(Event::Leased { until });
        }
        let mut answer = self.send(Event::Restored(self.ledger.values().cloned().collect()));
        answer.extend(self.send(Event::Adopted(there)));
        answer
    }

    fn send(&mut self, event: Event) -> Vec<String> {
        let actions = self.core.handle(self.now, event);
        let saves = actions.iter().filter(|action| matches!(action, Action::Save(_))).count();
        assert!(saves <= 1 && (saves == 0 || matches!(actions[0], Action::Save(_))), "{actions:?}");
        let mut lines = Vec::new();
        for action in actions {
            match &action {
                Action::Save(changes) => self.save(changes),
                Action::Report(all) => lines.extend(all.iter().map(report)),
                Action::Balance { serial, .. } => {
                    self.last_balance = *serial;
                    lines.push(short(&action.to_string()));
                }
                _ => lines.push(short(&action.to_string())),
            }
        }
        lines
    }

    fn save(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(record) => self.ledger.insert(record.id(), (**record).clone()),
                Change::Forget(id) => self.ledger.remove(id),
            };
        }
    }
}

fn report(observed: &Observed) -> String {
    let mut line = format!("report {} {}", observed.replica, observed.phase.as_str());
    if let Some(since) = observed.ready_since {
        line += &format!(" ready since {}", since.0);
    }
    for container in &observed.containers {
        let state = match container.state {
            ContainerState::Waiting => "waiting".to_owned(),
            ContainerState::Running { pid, ready, .. } => {
                format!("running as {pid}{}", if ready { ", ready" } else { "" })
            }
            ContainerState::BackingOff { until } => format!("backing off until {}", until.0),
            ContainerState::Ended => "ended".to_owned(),
        };
        let restarts =
            if container.restarts > 0 { format!(", restarts {}", container.restarts) } else { String::new() };
        let exit =
            container.last_exit.as_ref().map(|exit| format!(", last {}", exit.cause)).unwrap_or_default();
        line += &format!("; {}: {state}{restarts}{exit}", container.name);
    }
    if let Some(message) = &observed.message {
        line += &format!(" ({message})");
    }
    short(&line)
}

/// Small ids are shown as numbers.
fn short(line: &str) -> String {
    line.replace("000000000000", "")
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}

/// `1.main.2`
fn container(text: &str) -> ContainerId {
    let parts: Vec<&str> = text.split('.').collect();
    ContainerId {
        replica: ReplicaId(number(parts[0])),
        container: parts[1].parse().unwrap(),
        attempt: number(parts[2]) as u32,
    }
}

fn ok_or_words(words: &[&str]) -> Result<(), String> {
    if words == ["ok"] { Ok(()) } else { Err(words.join(" ")) }
}

/// What the replica is blamed for in words, after `not-now` what the node could not do.
fn ok_or_setback(words: &[&str]) -> Result<(), Setback> {
    match words {
        ["ok"] => Ok(()),
        ["not-now", reason @ ..] => Err(Setback::of_node(reason.join(" "))),
        reason => Err(Setback::of_replica(reason.join(" "))),
    }
}
