//! How long words may be that come from outside and are kept: in the state, in messages to other hosts, on a screen.
//!
//! What users say too much of is refused, with what to do. What an agent says of its host and of its replicas is cut, since
//! nobody is there to say it shorter, and the beginning of a reason says most. What has a form, such as a name, an address or
//! a digest, has its limit from that; manifests have theirs in `manifest`.

use std::collections::BTreeSet;

use model::{
    ExitCause, Node, NodeInfo, Observed,
    node::{check_label_value, is_label_name},
};
use proto::session::ContainerExit;
use tonic::Status;

use crate::control::refuse::invalid;

/// Of a reason that a user gives, in characters.
const REASON: usize = 1_024;
/// Of a message of an agent on a replica: an error with what caused it, the last words of a probe. In bytes.
const MESSAGE: usize = 4 << 10;
/// Of a version or of a probe's name, in bytes.
const NAME: usize = 64;
/// Of one node, whoever says them.
const LABELS: usize = 64;

/// Why a user wants it, for the others who look after the cluster.
pub(crate) fn check_reason(reason: Option<String>) -> Result<Option<String>, Status> {
    let length = reason.as_ref().map_or(0, |reason| reason.chars().count());
    match length > REASON {
        true => Err(invalid(format!(
            "the reason has {length} characters, and {REASON} are the most: say it shorter, or say where it is written"
        ))),
        false => Ok(reason),
    }
}

/// What a user makes of the labels of a node.
pub(crate) fn check_relabelled<'a>(
    node: &'a Node,
    set: impl IntoIterator<Item = &'a String>,
    unset: impl IntoIterator<Item = &'a String>,
) -> Result<(), Status> {
    let mut all: BTreeSet<&String> = node.info.labels.keys().chain(node.labels.keys()).collect();
    for name in unset {
        all.remove(name);
    }
    all.extend(set);
    let (count, name) = (all.len(), &node.info.name);
    match count > LABELS {
        true => Err(invalid(format!(
            "node {name} would have {count} labels, and {LABELS} are the most: take some away with `wharf node label \
             {name} KEY-`"
        ))),
        false => Ok(()),
    }
}

/// What an agent says of its host.
pub(crate) fn bound_node(info: &mut NodeInfo) -> Result<(), Status> {
    cut(&mut info.agent_version, NAME);
    let (name, count) = (&info.name, info.labels.len());
    if count > LABELS {
        return Err(invalid(format!(
            "the agent of node {name} says {count} labels of it, and {LABELS} are the most: let it say fewer"
        )));
    }
    if let Some(bad) = info.labels.keys().find(|name| !is_label_name(name)) {
        let mut shown = bad.clone();
        cut(&mut shown, NAME);
        return Err(invalid(format!(
            "the agent of node {name} says a label of it that cannot be one: {shown:?}"
        )));
    }
    for (label, value) in &info.labels {
        let of_label = |error| invalid(format!("the agent of node {name}, label {label}: {error}"));
        check_label_value(value).map_err(of_label)?;
    }
    Ok(())
}

/// What an agent says of its replicas.
pub(crate) fn bound_observed(observed: &mut [Observed]) {
    for one in observed {
        one.message.iter_mut().for_each(|message| cut(message, MESSAGE));
        let exits = one.containers.iter_mut().filter_map(|container| container.last_exit.as_mut());
        exits.for_each(|exit| bound_cause(&mut exit.cause));
    }
}

pub(crate) fn bound_exits(exits: &mut [ContainerExit]) {
    exits.iter_mut().for_each(|exited| bound_cause(&mut exited.exit.cause));
}

fn bound_cause(cause: &mut ExitCause) {
    match cause {
        ExitCause::ProbeFailed { probe, detail } => {
            cut(probe, NAME);
            cut(detail, MESSAGE);
        }
        ExitCause::NotStarted { reason } => cut(reason, MESSAGE),
        ExitCause::Code(_) | ExitCause::Signal(_) | ExitCause::OutOfMemory { .. } | ExitCause::Unknown => {}
    }
}

/// To so many bytes, with a sign that there was more. What is cut off is not kept in memory either.
fn cut(text: &mut String, most: usize) {
    const MORE: char = '…';
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most - MORE.len_utf8()));
        text.push(MORE);
        text.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::Ipv4Addr};

    use model::{
        Bytes, ContainerObserved, ContainerState, Exit, MilliCpu, Millis, Name, NodeId, Phase, ReplicaId,
        Timeline, Timestamp, Version,
    };

    use super::*;

    fn info(labels: BTreeMap<String, String>) -> NodeInfo {
        NodeInfo {
            id: NodeId(1),
            name: Name::new("n1").unwrap(),
            labels,
            cpu: MilliCpu(1_000),
            memory: Bytes(1 << 30),
            address: Ipv4Addr::LOCALHOST,
            subnet: None,
            agent_version: "1".repeat(1_000),
        }
    }

    fn labels(count: usize) -> BTreeMap<String, String> {
        (0..count).map(|number| (format!("label-{number}"), "yes".to_owned())).collect()
    }

    #[test]
    fn a_text_is_cut_between_characters_and_says_so() {
        let check = |text: &str, most, expected: &str| {
            let mut cut_off = text.to_owned();
            cut(&mut cut_off, most);
            assert_eq!(cut_off, expected);
        };
        check("short", 5, "short");
        check("longer", 5, "lo…");
        check("éééé", 6, "é…");
    }

    #[test]
    fn an_agent_says_so_much_of_its_host_and_no_more() {
        let mut good = info(labels(LABELS));
        bound_node(&mut good).unwrap();
        assert_eq!((good.agent_version.len(), good.labels.len()), (NAME, LABELS));
        let long = "x".repeat(100_000);
        let too_much: [BTreeMap<_, _>; 3] =
            [labels(LABELS + 1), [(long.clone(), String::new())].into(), [("zone".to_owned(), long)].into()];
        for labels in too_much {
            let refused = bound_node(&mut info(labels)).unwrap_err();
            assert!(refused.message().len() < 500, "{refused:?}");
        }
    }

    #[test]
    fn what_is_said_of_a_replica_is_cut_and_not_refused() {
        let cause = ExitCause::ProbeFailed { probe: "p".repeat(1_000), detail: "d".repeat(100_000) };
        let exit = Exit { cause, at: Timestamp(1), ran_for: Millis(1) };
        let container = ContainerObserved {
            name: Name::new("main").unwrap(),
            state: ContainerState::Ended,
            restarts: 0,
            last_exit: Some(exit),
        };
        let mut observed = [Observed {
            replica: ReplicaId(1),
            phase: Phase::Failed,
            ready_since: None,
            timeline: Timeline::default(),
            address: None,
            containers: vec![container],
            message: Some("m".repeat(100_000)),
        }];
        bound_observed(&mut observed);
        let [one] = observed;
        let message = one.message.unwrap();
        assert_eq!(message.len(), MESSAGE);
        assert!(message.capacity() < 2 * MESSAGE, "room is kept for {} bytes", message.capacity());
        let cause = one.containers[0].last_exit.as_ref().map(|exit| &exit.cause);
        let Some(ExitCause::ProbeFailed { probe, detail }) = cause else { panic!("{cause:?}") };
        assert_eq!((probe.len(), detail.len()), (NAME, MESSAGE));
    }

    #[test]
    fn users_are_told_what_is_too_much() {
        assert!(check_reason(Some("x".repeat(REASON))).is_ok());
        let refused = check_reason(Some("x".repeat(REASON + 1))).unwrap_err();
        assert!(refused.message().contains("1025 characters, and 1024 are the most"), "{refused:?}");
        let node = Node::new(info(labels(LABELS)), Timestamp(0), Version(1));
        let (known, other) = ("label-0".to_owned(), "other".to_owned());
        check_relabelled(&node, [&known], []).unwrap();
        check_relabelled(&node, [&other], [&known]).unwrap();
        let refused = check_relabelled(&node, [&other], []).unwrap_err();
        assert!(
            refused.message().contains("node n1 would have 65 labels, and 64 are the most"),
            "{refused:?}"
        );
    }
}
