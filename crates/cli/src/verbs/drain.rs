//! `wharf node drain --wait`: until nodes are empty, with what holds each of them up.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use model::Scheduling;

use crate::{
    answer::{Answer, NodeView},
    ask::Question,
    connect::Client,
    exit::{Code, Failure},
    output::{
        progress::{Progress, Step},
        remark,
        text::count,
    },
    watching::Watching,
};

/// How one node stands.
enum Stands {
    Open(Step),
    Ended(Code, String),
}

/// Waits until nothing is left on any of the nodes; Ctrl-C ends the waiting and nothing else.
pub async fn wait(client: &mut Client, nodes: &[String], timeout: Duration) -> Result<Code, Failure> {
    tokio::select! {
        code = follow(client, nodes, timeout) => code,
        pressed = tokio::signal::ctrl_c() => {
            pressed.map_err(|error| Failure::new("signals cannot be received").caused_by(error))?;
            remark("\nno longer waiting; the drain goes on, `wharf node uncordon` ends it\n");
            Ok(Code::Interrupted)
        }
    }
}

async fn follow(client: &mut Client, nodes: &[String], timeout: Duration) -> Result<Code, Failure> {
    let deadline = Instant::now() + timeout;
    let mut watching = Watching::of_a_change(client, &Question::all());
    let mut progress = Progress::new();
    let mut open: BTreeSet<&String> = nodes.iter().collect();
    let mut worst = Code::Done;
    while !open.is_empty() {
        let pause = deadline.saturating_duration_since(Instant::now()).min(Progress::TICK);
        let Ok(answer) = tokio::time::timeout(pause, watching.next()).await else {
            watching.is_quiet();
            progress.tick();
            if Instant::now() < deadline {
                continue;
            }
            for node in std::mem::take(&mut open) {
                progress.end(node, false, "is not drained in time, and the drain goes on");
            }
            return Ok(Code::DeadlinePassed);
        };
        let answer = answer?;
        for node in open.clone() {
            match stands(&answer, node) {
                Stands::Open(step) => progress.show(node, &step),
                Stands::Ended(code, text) => {
                    open.remove(node);
                    worst = worst.max(code);
                    progress.end(node, code == Code::Done, &text);
                }
            }
        }
    }
    Ok(worst)
}

fn stands(answer: &Answer, named: &str) -> Stands {
    let is_meant = |node: &&NodeView| node.name() == named || node.node.info.id.to_string() == named;
    let Some(node) = answer.nodes.iter().find(is_meant) else {
        return Stands::Ended(Code::Superseded, "was removed meanwhile".to_owned());
    };
    match node.node.scheduling {
        Scheduling::Draining { .. } if node.replicas == 0 => {
            Stands::Ended(Code::Done, "is drained".to_owned())
        }
        Scheduling::Draining { .. } => {
            let headline = format!("{} left", count(node.replicas, "replica"));
            Stands::Open(Step { headline, detail: what_holds_up(answer, node) })
        }
        Scheduling::Open | Scheduling::Cordoned { .. } => {
            Stands::Ended(Code::Superseded, "is not drained any more: it was uncordoned".to_owned())
        }
    }
}

/// What the first service waits for that still has a replica on the node.
fn what_holds_up(answer: &Answer, node: &NodeView) -> Option<String> {
    let id = node.node.info.id;
    let is_there = |found: &&crate::answer::ServiceView| {
        found.replicas.iter().any(|replica| replica.replica.node == Some(id))
    };
    let mut waits = answer.services.iter().filter(is_there).filter_map(|found| {
        let first = found.waiting_on.first()?;
        Some(format!("{}: {}", found.service.key, first.text))
    });
    waits.next()
}
