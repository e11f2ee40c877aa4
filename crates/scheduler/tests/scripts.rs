//! Placements as text: `scripts/*.txt` say which nodes there are and what is to be placed, and what comes of it.
//!
//! Blocks of lines, `----`, and the answer up to the next empty line; each block begins with no nodes.
//! `UPDATE_GOLDENS=1` writes the answers anew; read them before they are committed.
//!
//! ```text
//! node 1 cpu=4000 memory=1024 [used-cpu=] [used-memory=] [has=web@1x2] [silent] [cordoned] [disk=ssd]
//! want web@1 [cpu=] [memory=] [x=3] [frees=1] [needs=disk:ssd] [spread=zone]
//!                                               millicores and MiB
//!                                               frees: what it wants is freed for it on that node
//! place
//! ```
#![expect(clippy::unwrap_used, reason = "a test fails where it goes wrong")]

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use model::{Bytes, Level, MilliCpu, Name, NodeId, PlacementRules, ReplicaId, RevisionNumber, ServiceKey};
use scheduler::{Amount, Decision, NodeView, Pending, place};

#[test]
fn scripts_answer_as_written() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut differing = Vec::new();
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let answered: Vec<String> = text.split("\n\n").map(answer).collect();
        let answered = answered.join("\n\n") + "\n";
        if answered != text && update {
            fs::write(&path, answered).unwrap();
        } else if answered != text {
            differing.push(format!("{} answers now:\n{answered}", path.display()));
        }
    }
    assert!(differing.is_empty(), "{}\n(UPDATE_GOLDENS=1 writes them)", differing.join("\n"));
}

/// One block, with the answer that it gets now.
fn answer(block: &str) -> String {
    let asked = block.split_once("----").map_or(block, |(asked, _)| asked).trim_end();
    let mut nodes = Vec::new();
    let mut pending: Vec<Pending> = Vec::new();
    for line in asked.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "node" => nodes.push(node(&words[1..])),
            "want" => want(&words[1..], &mut pending),
            "place" => {}
            _ => panic!("{line:?} is not a command"),
        }
    }
    let mut out = format!("{asked}\n----");
    for (decision, wanted) in place(&pending, &nodes).iter().zip(&pending) {
        let what = format!("{}@{}", wanted.service, wanted.revision);
        match decision {
            Decision::Placed { node, .. } => write!(out, "\n{what} on node {}", node.0).unwrap(),
            Decision::Unplaceable { reason, .. } => write!(out, "\n{what}: {reason}").unwrap(),
        }
    }
    out
}

fn node(words: &[&str]) -> NodeView {
    let mut node = NodeView {
        id: NodeId(words[0].parse().unwrap()),
        ready: true,
        open: true,
        level: Level::FIRST,
        labels: BTreeMap::new(),
        capacity: Amount::NOTHING,
        allocated: Amount::NOTHING,
        replicas_of: BTreeMap::new(),
        replicas: 0,
    };
    for word in &words[1..] {
        match word.split_once('=') {
            Some(("cpu", value)) => node.capacity.cpu = cpu(value),
            Some(("memory", value)) => node.capacity.memory = memory(value),
            Some(("used-cpu", value)) => node.allocated.cpu = cpu(value),
            Some(("used-memory", value)) => node.allocated.memory = memory(value),
            Some(("has", value)) => {
                let (what, count) = value.split_once('x').unwrap();
                let (service, revision) = service(what);
                let count = count.parse().unwrap();
                node.replicas += count;
                node.replicas_of.entry(service).or_default().insert(revision, count);
            }
            Some(("level", level)) => node.level = Level(level.parse().unwrap()),
            Some((label, value)) => drop(node.labels.insert(label.to_owned(), value.to_owned())),
            None if *word == "silent" => node.ready = false,
            None if *word == "cordoned" => node.open = false,
            _ => panic!("{word:?} says nothing of a node"),
        }
    }
    node
}

fn want(words: &[&str], pending: &mut Vec<Pending>) {
    let (service, revision) = service(words[0]);
    let mut wants = Amount::NOTHING;
    let mut times = 1;
    let mut frees = Vec::new();
    let mut rules = PlacementRules::default();
    let mut needs = Level::FIRST;
    for word in &words[1..] {
        match word.split_once('=').unwrap() {
            ("cpu", value) => wants.cpu = cpu(value),
            ("memory", value) => wants.memory = memory(value),
            ("x", value) => times = value.parse().unwrap(),
            ("needs", label) => {
                let (key, value) = label.split_once(':').unwrap();
                rules.nodes.insert(key.to_owned(), value.to_owned());
            }
            ("level", level) => needs = Level(level.parse().unwrap()),
            ("spread", label) => rules.spread = Some(label.to_owned()),
            ("frees", value) => frees.push((NodeId(value.parse().unwrap()), wants)),
            _ => panic!("{word:?} says nothing of a replica"),
        }
    }
    for _ in 0..times {
        let (replica, service, frees) = (ReplicaId(pending.len() as u64), service.clone(), frees.clone());
        pending.push(Pending { replica, service, revision, rules: rules.clone(), needs, wants, frees });
    }
}

fn service(text: &str) -> (ServiceKey, RevisionNumber) {
    let (name, revision) = text.split_once('@').unwrap();
    let key = ServiceKey { namespace: Name::new("default").unwrap(), name: Name::new(name).unwrap() };
    (key, RevisionNumber(revision.parse().unwrap()))
}

fn cpu(text: &str) -> MilliCpu {
    MilliCpu(text.parse().unwrap())
}

fn memory(text: &str) -> Bytes {
    Bytes(text.parse::<u64>().unwrap() << 20)
}
