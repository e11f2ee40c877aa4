//! Dialogues with the reconciler: `scripts/*.txt` say what happens and what it answers.
//!
//! A script is blocks of lines, `----`, and what they print up to the next empty line. `UPDATE_GOLDENS=1` writes the
//! answers anew; read them before they are committed.
//!
//! ```text
//! apply web template=2 [replicas= surge= unavailable= order= min-ready= healthy-deadline= progress-deadline=
//!       on-failure= loss=30s on-partition= needs=disk:ssd]      what is left out stays as it was
//! scale web 5 | undo web 1 | delete web
//! observe web.1@2 WHAT    WHAT: preparing, prepared, started, ready, unready, crashed CODE, restarted, failed CODE,
//!                         failing CODE (its sidecar is still being stopped), completed, stopping, removed, saying WORDS; web.*@1: every such replica that is kept
//! advance 30s | set back 10m          set back: by the leader, with all that was observed
//! node n1 silent | node n1 ready
//! node n1 down | node n1 up | drain n1 [30s] | uncordon n1 | label n1 disk=ssd | label n1 disk-
//! new leader              nothing was observed yet; a node says all again once it is ready
//! placement off | on
//! obey                    every agent does at once what is desired of its replicas
//! settle                  reconcile and obey until nothing is left to do
//! reconcile               one plan: its steps, what the service waits for, and when to look again
//! show                    the replicas and the rollout
//! ```

#![expect(clippy::unwrap_used, reason = "a test fails where it goes wrong")]

#[path = "script/print.rs"]
mod print;
#[path = "script/read.rs"]
mod read;
mod support;

use std::{fmt::Write, fs, path::Path};

use model::{
    ContainerState, Desired, Millis, NodeId, Observed, Phase, ReplicaId, RevisionNumber, ServiceKey,
    ServiceSpec, Timestamp,
};
use orchestrator::Plan;
use store::{Command, NodeChange, NodeStatus, Observations};
use support::{Cluster, NODES, key};

#[test]
fn scripts_answer_as_written() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 20, "the scripts are in {}", folder.display());
    let mut differing = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let answered = Script::run(&name, &text);
        if answered == text {
            continue;
        }
        if update {
            fs::write(&path, &answered).unwrap();
        } else {
            differing.push(format!("{name} answers now:\n{answered}"));
        }
    }
    assert!(differing.is_empty(), "{}\n(UPDATE_GOLDENS=1 writes them)", differing.join("\n"));
}

struct Script {
    cluster: Cluster,
    service: ServiceKey,
    spec: Option<ServiceSpec>,
    places: bool,
    /// What the nodes know, for when they say it to a new leader.
    known: Observations,
    out: String,
}

impl Script {
    /// The script with the answers that it gets now.
    fn run(name: &str, text: &str) -> String {
        let mut script = Script {
            cluster: Cluster::new(1),
            service: key("web"),
            spec: None,
            places: true,
            known: Observations::default(),
            out: String::new(),
        };
        let mut answered = String::new();
        let mut is_answer = false;
        for (number, line) in text.lines().enumerate() {
            match line.trim_end() {
                "----" => {
                    answered.push_str("----\n");
                    answered.push_str(&std::mem::take(&mut script.out));
                    is_answer = true;
                }
                "" => {
                    is_answer = false;
                    answered.push('\n');
                }
                _ if is_answer => {}
                line => {
                    answered.push_str(line);
                    answered.push('\n');
                    if !line.starts_with('#') {
                        script.line(line, &format!("{name}:{}", number + 1));
                    }
                }
            }
        }
        assert_eq!(script.out, "", "{name}: the last block has no answer; end it with ----");
        answered
    }

    fn line(&mut self, line: &str, place: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["apply", service, fields @ ..] => self.apply(service, fields, place),
            ["scale", service, replicas] => {
                let (service, replicas, at) = (key(service), replicas.parse().unwrap(), self.cluster.now);
                if let Some(spec) = &mut self.spec {
                    spec.replicas = replicas;
                }
                self.user(Command::Scale { service, replicas, at });
            }
            ["undo", service, to] => {
                let (service, to, at) = (key(service), RevisionNumber(to.parse().unwrap()), self.cluster.now);
                self.user(Command::Undo { service, to, at });
            }
            ["delete", service] => {
                let (service, at) = (key(service), self.cluster.now);
                self.user(Command::Delete { service, at });
            }
            ["observe", which, what @ ..] => self.observe(which, what, place),
            ["advance", span] => self.cluster.now = self.cluster.now + read::millis(span),
            ["set", "back", span] => {
                let span = read::millis(span);
                self.cluster.observed.translate(|at| Timestamp(at.0 - span.0));
                self.cluster.now = Timestamp(self.cluster.now.0 - span.0);
            }
            ["node", node, status] => self.node(node, status, place),
            ["drain", node] => self.decide(node, NodeChange::Drain { deadline: None, reason: None }),
            ["drain", node, deadline] => {
                let deadline = Some(self.cluster.now + read::millis(deadline));
                self.decide(node, NodeChange::Drain { deadline, reason: None });
            }
            ["uncordon", node] => self.decide(node, NodeChange::Uncordon),
            ["label", node, label] => {
                let set = label.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
                let unset = label.strip_suffix('-').map(ToOwned::to_owned);
                let (set, unset) = (set.into_iter().collect(), unset.into_iter().collect());
                self.decide(node, NodeChange::Label { set, unset });
            }
            ["new", "leader"] => {
                self.known = std::mem::take(&mut self.cluster.observed);
            }
            ["placement", switch] => self.places = *switch == "on",
            ["obey"] => self.obey(),
            ["settle"] => self.settle(place),
            ["reconcile"] => self.reconcile(),
            ["show"] => self.show(),
            _ => panic!("{place}: {line:?} is not a command"),
        }
    }

    fn apply(&mut self, service: &str, fields: &[&str], place: &str) {
        self.service = key(service);
        let mut spec = self.spec.take().unwrap_or_else(|| support::spec(1));
        for field in fields {
            read::field(&mut spec, field).unwrap_or_else(|| panic!("{place}: {field:?} is no field"));
        }
        self.spec = Some(spec.clone());
        if let Err(rejected) = self.cluster.apply(&self.service.clone(), spec) {
            writeln!(self.out, "rejected: {rejected}").unwrap();
        }
    }

    fn user(&mut self, command: Command) {
        if let Err(rejected) = self.cluster.commit(command) {
            writeln!(self.out, "rejected: {rejected}").unwrap();
        }
    }

    fn observe(&mut self, which: &str, what: &[&str], place: &str) {
        let ids = self.select(which);
        assert!(!ids.is_empty(), "{place}: there is no {which}");
        for id in ids {
            self.cluster.observe(id, |seen, now| match what {
                ["preparing"] => seen.phase = Phase::Preparing,
                ["prepared"] => support::prepared(seen, now),
                ["started"] => support::started(seen, now),
                ["ready"] => support::ready(seen, now),
                ["unready"] => seen.ready_since = None,
                ["crashed", code] => support::crashed(seen, now, code.parse().unwrap()),
                ["restarted"] => support::restarted(seen, now),
                ["failed", code] => support::failed(seen, now, code.parse().unwrap()),
                ["failing", code] => support::failing(seen, now, code.parse().unwrap()),
                ["completed"] => support::completed(seen, now),
                ["stopping"] => support::stopping(seen, now),
                ["removed"] => support::removed(seen, now),
                ["saying", words @ ..] => seen.message = Some(words.join(" ")),
                _ => panic!("{place}: {what:?} cannot be observed"),
            });
        }
    }

    /// `web.1@2`, or `web.*@2` for all that are kept.
    fn select(&self, which: &str) -> Vec<ReplicaId> {
        let replicas = self.cluster.state.replicas_of(&self.service);
        let named = |id| self.cluster.label(id) == which;
        let Some((_, revision)) = which.split_once("*@") else {
            return replicas.map(|replica| replica.id).filter(|&id| named(id)).collect();
        };
        replicas
            .filter(|replica| replica.revision.to_string() == revision && replica.desired != Desired::Stopped)
            .map(|replica| replica.id)
            .collect()
    }

    fn decide(&mut self, node: &str, change: NodeChange) {
        self.cluster.decide(NodeId(node[1..].parse().unwrap()), change);
    }

    fn node(&mut self, node: &str, status: &str, place: &str) {
        let id = NodeId(node[1..].parse().unwrap());
        match status {
            "down" => return self.cluster.decide(id, NodeChange::Down { silent_for: Millis::from_secs(15) }),
            "up" => return self.cluster.decide(id, NodeChange::Up),
            _ => {}
        }
        let status = match status {
            "silent" => NodeStatus::Unknown,
            "ready" => NodeStatus::Ready,
            _ => panic!("{place}: a node is silent or ready"),
        };
        let on_node: Vec<ReplicaId> = self.cluster.state.replicas_on(id).map(|replica| replica.id).collect();
        self.cluster.observed.set_node(id, status, self.cluster.now);
        for replica in on_node.into_iter().filter(|_| status == NodeStatus::Ready) {
            if let (None, Some(seen)) = (self.cluster.observed.replica(replica), self.known.replica(replica))
            {
                self.cluster.observed.observe((**seen).clone());
            }
        }
    }

    fn obey(&mut self) {
        for node in (1..=NODES).map(NodeId) {
            if !self.cluster.observed.is_ready(node) {
                continue;
            }
            let replicas: Vec<_> = self.cluster.state.replicas_on(node).cloned().collect();
            for replica in replicas {
                self.cluster.observe(replica.id, |seen, now| match replica.desired {
                    Desired::Prepared => support::prepared(seen, now),
                    Desired::Running if can_be_ready(seen) => support::ready(seen, now),
                    Desired::Running => {}
                    Desired::Stopped => support::removed(seen, now),
                });
            }
        }
    }

    fn settle(&mut self, place: &str) {
        for _ in 0..100 {
            let plan = self.step();
            if plan.steps.is_empty() && plan.waiting_on.is_empty() {
                return;
            }
            self.obey();
        }
        panic!("{place}: does not settle");
    }

    fn step(&mut self) -> Plan {
        let service = self.service.clone();
        let plan = self.cluster.plan(&service);
        self.cluster.commit_plan(&service, &plan);
        if self.places {
            self.cluster.place_all();
        }
        plan
    }
}

/// Not over, and not just waiting to be started again.
fn can_be_ready(seen: &Observed) -> bool {
    let waits = matches!(seen.containers[0].state, ContainerState::BackingOff { .. });
    seen.phase <= Phase::Running && !waits
}
