//! What is refused, and in which words: one line per way in which a message can be wrong.

use std::sync::Arc;

use model::{Assignment, ContainerSpec, Event, Observed, Replica, ServiceSpec};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use prost::Message;

use crate::{DecodeError, codec, session::AgentSays, strategies, v1};

/// A value that meets the condition; always the same one.
fn sample<S: Strategy>(strategy: S, condition: fn(&S::Value) -> bool) -> S::Value {
    let strategy = strategy.prop_filter("the condition", condition);
    strategy.new_tree(&mut TestRunner::deterministic()).unwrap().current()
}

/// Spoils a message that is right and compares what is then said of it.
fn check<W, M>(right: &W, spoil: impl FnOnce(&mut W), expected: &str)
where
    W: Clone,
    M: TryFrom<W, Error = DecodeError>,
{
    assert!(M::try_from(right.clone()).is_ok(), "it is right before it is spoiled");
    let mut wrong = right.clone();
    spoil(&mut wrong);
    let error = M::try_from(wrong).err().expect("a refusal");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn specs_are_refused_with_the_path_of_the_field() {
    let spec =
        sample(strategies::spec(), |spec| !spec.template.ports.is_empty() && !spec.template.init.is_empty());
    let spec = v1::ServiceSpec::from(&spec);
    fn template(spec: &mut v1::ServiceSpec) -> &mut v1::ReplicaTemplate {
        spec.template.as_mut().unwrap()
    }
    fn update(spec: &mut v1::ServiceSpec) -> &mut v1::UpdatePolicy {
        spec.update.as_mut().unwrap()
    }
    let refused = |spoil: fn(&mut v1::ServiceSpec), expected| {
        check::<_, ServiceSpec>(&spec, spoil, expected);
    };
    refused(|spec| spec.template = None, "field template is required and missing");
    refused(|spec| update(spec).order = 0, "field update.order is required and missing");
    refused(
        |spec| update(spec).on_failure = 9,
        "field update.on_failure has the value 9, which only a newer version of wharf knows",
    );
    refused(
        |spec| update(spec).max_surge = Some(v1::CountOrPercent { amount: None }),
        "field update.max_surge.amount is missing, or of a kind that only a newer version of wharf knows",
    );
    refused(
        |spec| {
            let amount = Some(v1::count_or_percent::Amount::Percent(101));
            update(spec).max_unavailable = Some(v1::CountOrPercent { amount });
        },
        "field update.max_unavailable.percent is 101, expected 0 to 100",
    );
    refused(
        |spec| template(spec).ports[0].port = 65_536,
        "field template.ports[0].port is 65536, expected 1 to 65535",
    );
    refused(
        |spec| template(spec).ports[0].publish = Some(0),
        "field template.ports[0].publish is 0, expected 1 to 65535",
    );
    refused(
        |spec| template(spec).init[0].name = "Web".into(),
        "field template.init[0].name is not a name: a name has only lower-case letters, digits and '-', not 'W'",
    );
    refused(
        |spec| template(spec).main.as_mut().unwrap().stop_signal = Some(65),
        "field template.main.stop_signal is 65, expected 1 to 64",
    );
    refused(
        |spec| template(spec).restart.as_mut().unwrap().backoff = None,
        "field template.restart.backoff is required and missing",
    );
}

#[test]
fn containers_are_refused_with_the_path_of_the_field() {
    let is_probed = |spec: &ServiceSpec| spec.template.main.health.liveness.is_some();
    let container = v1::ContainerSpec::from(&sample(strategies::spec(), is_probed).template.main);
    check::<_, ContainerSpec>(
        &container,
        |container| container.image.as_mut().unwrap().digest = Some("sha256:0".into()),
        "field image.digest \"sha256:0\" is not a digest: expected \"sha256:\" and 64 lower-case hex digits",
    );
    check::<_, ContainerSpec>(
        &container,
        |container| container.mounts.push(v1::Mount { kind: None }),
        &format!(
            "field mounts[{}].kind is missing, or of a kind that only a newer version of wharf knows",
            container.mounts.len()
        ),
    );
    check::<_, ContainerSpec>(
        &container,
        |container| {
            let http = v1::HttpProbe { port: None, path: "/".into() };
            let liveness = container.health.as_mut().unwrap().liveness.as_mut().unwrap();
            liveness.action = Some(v1::probe::Action::Http(http));
        },
        "field health.liveness.http.port is required and missing",
    );
}

#[test]
fn objects_are_refused_with_the_path_of_the_field() {
    let replica = v1::Replica::from(&sample(strategies::replica(), |_| true));
    check::<_, Replica>(&replica, |r| r.slot = 0, "field slot is 0, expected 1 to 4294967295");
    check::<_, Replica>(
        &replica,
        |r| r.desired = 4,
        "field desired has the value 4, which only a newer version of wharf knows",
    );
    let revision = v1::Revision::from(&sample(strategies::revision(), |_| true));
    check::<_, model::Revision>(
        &revision,
        |revision| revision.hash = vec![0; 31].into(),
        "field hash has 31 bytes, expected 32",
    );
    let event = v1::Event::from(&sample(strategies::event(), |event| {
        matches!(event.kind, model::EventKind::ContainerExited { .. })
    }));
    check::<_, Event>(
        &event,
        |event| {
            let Some(v1::event::Kind::ContainerExited(exited)) = &mut event.kind else { return };
            exited.exit.as_mut().unwrap().cause = Some(v1::exit::Cause::Code(256));
        },
        "field kind.exit.code is 256, expected 0 to 255",
    );
    let observed = sample(strategies::observed(), |observed| observed.containers.len() > 1);
    check::<_, Observed>(
        &v1::Observed::from(&observed),
        |observed| observed.containers[1].state = None,
        "field containers[1].state is missing, or of a kind that only a newer version of wharf knows",
    );
}

#[test]
fn an_assignment_without_its_template_is_refused() {
    let assignments = sample(strategies::assignments(), |assignments| assignments.len() == 1);
    let set = v1::AssignmentSet::from(assignments.as_slice());
    check::<_, Vec<Assignment>>(
        &set,
        |set| set.assignments[0].template = 1,
        "field assignments[0].template is 1, expected 0 to 0",
    );
    check::<_, Vec<Assignment>>(
        &set,
        |set| set.templates.clear(),
        "field assignments[0].template is required and missing",
    );
}

#[test]
fn what_an_agent_says_is_refused_with_the_path_of_the_field() {
    let report = sample(
        strategies::agent_says(),
        |says| matches!(says, AgentSays::Report(report) if report.exits.len() == 2),
    );
    let spoil = |message: &mut v1::AgentMessage| {
        let Some(v1::agent_message::Message::Report(report)) = &mut message.message else { return };
        report.exits[1].slot = 0;
    };
    let expected = "field report.exits[1].slot is 0, expected 1 to 4294967295";
    check::<_, AgentSays>(&v1::AgentMessage::from(&report), spoil, expected);
}

#[test]
fn an_exit_becomes_an_event_at_its_time() {
    let AgentSays::Report(report) = sample(
        strategies::agent_says(),
        |says| matches!(says, AgentSays::Report(report) if report.exits.len() == 1),
    ) else {
        unreachable!("the sample is a report")
    };
    let exited = report.exits[0].clone();
    let event = Event::try_from(v1::ContainerExit::from(&exited)).unwrap();
    assert_eq!((event.at, event.service), (exited.exit.at, Some(exited.service)));
}

#[test]
fn formats_that_are_not_known_are_refused() {
    let words = |bytes: &[u8]| codec::decode_command(bytes).unwrap_err().to_string();
    assert_eq!(words(&[]), "the message is empty, not even a format version is there");
    assert_eq!(words(&[0, 1]), "the message was written in format 0, which never was");
    assert_eq!(
        words(&[2, 1]),
        "the message was written in format 2, and this version of wharf knows none above 1: use a newer one"
    );
    assert_eq!(words(&[1]), "field kind is missing, or of a kind that only a newer version of wharf knows");
}

/// A command of a kind that only a newer version knows: field 100, an empty message.
#[test]
fn a_command_of_a_newer_kind_is_refused() {
    let error = codec::decode_command(&[codec::FORMAT, 0xa2, 0x06, 0x00]).unwrap_err();
    assert_eq!((error.field.as_str(), error.problem), ("kind", crate::Problem::UnknownKind));
}

/// The same of an object in a snapshot: what is in it, this build could only lose.
#[test]
fn a_snapshot_with_a_newer_object_is_refused() {
    // The beginning, and a record with field 100.
    let error =
        codec::decode_snapshot(&[codec::FORMAT, 0x02, 0x0a, 0x00, 0x03, 0xa2, 0x06, 0x00]).unwrap_err();
    assert_eq!((error.field.as_str(), error.problem), ("record", crate::Problem::UnknownKind));
}

#[test]
fn snapshots_with_pieces_missing_or_too_many_are_refused() {
    use v1::snapshot_record::{Begin, End, Record};
    let words = |records: &[Record]| {
        let mut bytes = vec![codec::FORMAT];
        for record in records {
            let record = v1::SnapshotRecord { record: Some(record.clone()) };
            bytes.append(&mut record.encode_length_delimited_to_vec());
        }
        codec::decode_snapshot(&bytes).unwrap_err().to_string()
    };
    let begin = || Record::Begin(Begin { version: 1, decided_at_unix_ms: None });
    let end = |objects| Record::End(End { objects });
    let node = || Record::Node(v1::Node::from(&sample(strategies::node(), |_| true)));
    assert_eq!(words(&[]), "the message ends before it is complete");
    assert_eq!(words(&[end(0)]), "field begin is required and missing");
    assert_eq!(words(&[begin(), node()]), "the message ends before it is complete");
    assert_eq!(words(&[begin(), node(), end(2)]), "the message holds 1 objects, and its end says 2");
    assert_eq!(words(&[begin(), end(0), node()]), "the message goes on after its end");
    assert_eq!(
        words(&[begin(), Record::Level(v1::snapshot_record::LevelInUse { level: 0 }), end(1)]),
        "field objects[0].level is 0, expected 1 to 4294967295"
    );
    assert_eq!(words(&[begin(), begin()]), "field objects[0].begin comes a second time");
    assert_eq!(
        words(&[begin(), Record::Node(v1::Node::default())]),
        "field objects[0].node.info is required and missing"
    );
}

#[test]
fn assignments_decoded_from_one_set_share_their_template() {
    let one = sample(strategies::assignments(), |assignments| assignments.len() == 1).remove(0);
    let set = v1::AssignmentSet::from([one.clone(), one.clone(), one].as_slice());
    assert_eq!((set.templates.len(), set.assignments.len()), (1, 3));
    let decoded = Vec::<Assignment>::try_from(set).unwrap();
    assert!(Arc::ptr_eq(&decoded[0].template, &decoded[2].template));
}
