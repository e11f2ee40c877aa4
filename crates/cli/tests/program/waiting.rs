//! The exit codes that CI relies on, for every verb that can wait.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use model::{RevisionNumber, RolloutPhase, Timestamp};
use proto::v1;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Ended, command, ended,
    server::{Fake, MANIFEST, Script, completed, service, unplaceable},
    wharf,
};

/// The verbs that wait, on the service `web`; all of them are told the same by this server.
const VERBS: [&[&str]; 5] = [
    &["apply", "-f", "MANIFEST", "--wait"],
    &["scale", "web", "2", "--wait"],
    &["rollout", "undo", "web", "--wait"],
    &["rollout", "restart", "web", "--wait"],
    &["rollout", "status", "web", "--wait"],
];

fn reason() -> String {
    "web.1@2 exited with code 1".to_owned()
}

fn check(what: &str, now: v1::ServiceStatus, more: &[&str], expected: i32, told: &str) {
    let fake = Fake::start(Script { services: vec![now], ..Script::default() });
    let path = fake.folder().join("web.yaml");
    std::fs::write(&path, MANIFEST).expect("a manifest");
    for verb in VERBS {
        let args: Vec<&str> = verb
            .iter()
            .map(|arg| if *arg == "MANIFEST" { path.to_str().expect("UTF-8") } else { arg })
            .chain(more.iter().copied())
            .collect();
        let ended = wharf(&fake.socket(), &args);
        assert_eq!(ended.code, expected, "{what}, {args:?}: {ended:#?}");
        assert!(ended.stdout.contains(told), "{what}, {args:?} does not say {told:?}: {ended:#?}");
    }
    fake.stop();
}

#[test]
fn every_end_of_a_rollout_has_its_exit_code() {
    let back_to = RevisionNumber(1);
    let at = Timestamp(95_000);
    check("done", service("default", completed()), &[], 0, "✓ web runs revision 2 with 2 replicas");
    let rolled_back = RolloutPhase::RolledBack { back_to, reason: reason(), at };
    check("rolled back", service("default", rolled_back), &[], 3, "rolled back to revision 1");
    let paused = RolloutPhase::Paused { reason: reason(), at };
    check("paused", service("default", paused), &[], 4, "the rollout is paused: web.1@2 exited with code 1");
    let progressing = service("default", RolloutPhase::Progressing);
    check("too slow", progressing.clone(), &["--timeout", "300ms"], 5, "is not done in time");
    let mut superseded = progressing;
    if let Some(service) = &mut superseded.service {
        service.deleting_since_unix_ms = Some(96_000);
    }
    check("superseded", superseded, &[], 7, "is being deleted");
}

#[test]
fn what_no_node_can_take_is_given_up_after_a_while() {
    let fake = Fake::start(Script { services: vec![unplaceable()], ..Script::default() });
    let ended = wharf(&fake.socket(), &["rollout", "status", "web", "--wait"]);
    assert_eq!(ended.code, 6, "{ended:#?}");
    assert!(ended.stdout.contains("the only node has too little memory"), "{ended:#?}");
    fake.stop();
}

#[test]
fn a_refusal_is_told_in_the_servers_words() {
    let refuse = |reason, words: &str| Some((reason, words.to_owned()));
    for (reason, code) in [(v1::Reason::PortTaken, 1), (v1::Reason::Invalid, 2)] {
        let services = vec![service("default", completed())];
        let refuses = refuse(reason, "port 80 is already published");
        let fake = Fake::start(Script { services, refuses, ..Script::default() });
        let ended = wharf(&fake.socket(), &["scale", "web", "3"]);
        assert_eq!(ended.code, code, "{ended:#?}");
        assert_eq!(ended.stderr, "error: port 80 is already published\n");
        fake.stop();
    }
}

/// Starts a command that waits, does something once it watches, and returns how it ended.
fn while_waiting(fake: &Fake, args: &[&str], act: impl FnOnce(Pid)) -> Ended {
    let mut waiting = command(&fake.socket(), args);
    let child = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
    let until = Instant::now() + Duration::from_secs(20);
    while fake.watchers() == 0 {
        assert!(Instant::now() < until, "{args:?} does not watch");
        std::thread::sleep(Duration::from_millis(5));
    }
    act(Pid::from_child(&child));
    ended(child.wait_with_output().expect("it ends"))
}

#[test]
fn ctrl_c_ends_the_waiting_and_says_how_to_go_on() {
    let fake = Fake::start(Script {
        services: vec![service("default", RolloutPhase::Progressing)],
        ..Script::default()
    });
    let waits: [(&[&str], &str); 2] = [
        (&["rollout", "restart", "web", "--wait"], "`wharf rollout status web --wait` follows it"),
        (&["delete", "web"], "`wharf get services web` tells whether it is gone"),
    ];
    for (args, advice) in waits {
        // A delete of a service that is not being deleted has ended already.
        let mut now = service("default", RolloutPhase::Progressing);
        if let (Some(service), true) = (&mut now.service, args[0] == "delete") {
            service.deleting_since_unix_ms = Some(96_000);
        }
        fake.now(vec![now]);
        let ended = while_waiting(&fake, args, |pid| kill_process(pid, Signal::INT).expect("it runs"));
        assert_eq!(ended.code, 130, "{ended:#?}");
        assert!(
            ended.stderr.contains("what was begun goes on") && ended.stderr.contains(advice),
            "{ended:#?}"
        );
    }
    fake.stop();
}

#[test]
fn a_wait_ends_when_the_rollout_does() {
    let fake = Fake::start(Script {
        services: vec![service("default", RolloutPhase::Progressing)],
        ..Script::default()
    });
    let ended = while_waiting(&fake, &["rollout", "status", "web", "--wait"], |_| {
        fake.now(vec![service("default", completed())]);
    });
    assert_eq!(ended.code, 0, "{ended:#?}");
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines[0], "web: revision 2: 2/2 up to date, 0/2 ready", "{lines:#?}");
    assert!(lines[1].starts_with("✓ web runs revision 2 with 2 replicas after "), "{lines:#?}");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    fake.stop();
}

#[test]
fn a_delete_waits_until_nothing_is_left() {
    let fake = Fake::start(Script::default());
    let mut deleting = service("default", completed());
    if let Some(service) = &mut deleting.service {
        service.deleting_since_unix_ms = Some(96_000);
    }
    fake.now(vec![deleting]);
    let ended = while_waiting(&fake, &["delete", "web"], |_| fake.now(Vec::new()));
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert!(ended.stdout.contains("✓ web deleted"), "{ended:#?}");
    fake.stop();
}

#[test]
fn a_server_that_does_not_come_back_is_an_error() {
    let fake = Fake::start(Script {
        services: vec![service("default", RolloutPhase::Progressing)],
        ..Script::default()
    });
    let socket = fake.socket();
    let mut waiting = command(&socket, &["rollout", "status", "web", "--wait", "--timeout", "3s"]);
    let child = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
    let until = Instant::now() + Duration::from_secs(20);
    while fake.watchers() == 0 {
        assert!(Instant::now() < until, "it does not watch");
        std::thread::sleep(Duration::from_millis(5));
    }
    fake.stop();
    let ended = ended(child.wait_with_output().expect("it ends"));
    assert_eq!(ended.code, 5, "{ended:#?}");
    assert!(ended.stdout.contains("is not done in time"), "{ended:#?}");
}
