//! People and CI jobs, who are on none of the servers' hosts: what their tokens let them do, and what the audit tells of it.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value as Json;
use tests::{
    Several,
    cluster::{Ended, ended, ended_with},
    wait_for,
};

use crate::manifest;

const SERVERS: [&str; 3] = ["server1", "server2", "server3"];

/// An access token that root made.
fn token(several: &Several, args: &[&str]) -> String {
    several.ok(&[&["token", "create"], args].concat()).trim().to_owned()
}

/// With a token and nothing else, as a CI job has it.
fn with(several: &Several, token: &str, args: &[&str]) -> Ended {
    ended(&mut several.from_afar(&[("WHARF_TOKEN", token)], args))
}

fn ok(ended: Ended) -> String {
    assert_eq!(ended.code, 0, "{ended:#?}");
    ended.stdout
}

fn refused(ended: Ended, why: &str) {
    assert!(ended.code == 1 && ended.stderr.contains(why), "expected {why:?}: {ended:#?}");
}

/// Adds a context, with the token on standard input.
fn add(several: &Several, token: &str, args: &[&str]) -> Ended {
    let path = several.folder().join("pasted");
    fs::write(&path, token).expect("a file");
    let pasted = fs::File::open(&path).expect("the file");
    ended_with(&mut several.from_afar(&[], &[&["context", "add"], args].concat()), pasted.into())
}

/// What the audits of all servers tell of this token, in the order of time.
fn audit(several: &Several, token: &str) -> Vec<Json> {
    let lines = SERVERS.iter().flat_map(|server| {
        let text = several.file(server, "audit.log");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Json>>()
    });
    let mut lines: Vec<Json> = lines.filter(|line| line["who"]["token"] == token).collect();
    lines.sort_by_key(|line| line["time"].as_str().unwrap_or_default().to_owned());
    lines
}

#[test]
fn tokens_let_people_do_what_their_roles_say_and_contexts_find_the_servers() {
    let mut several = Several::of(3, 1);
    let deployer =
        token(&several, &["ci", "--role", "deployer", "--namespace", "default", "--expires", "1h"]);
    let viewer = token(&several, &["look", "--role", "viewer"]);
    let web = manifest(&several, 2);

    // Everything that a deploy does, and what is looked at afterwards, over TLS.
    ok(with(&several, &deployer, &["apply", "--wait", "-f", &web]));
    let exec = ok(with(&several, &deployer, &["exec", "web.1", "--", "/wharf", "--version"]));
    assert!(exec.starts_with("wharf "), "{exec}");
    wait_for("a line", Duration::from_secs(20), || {
        let seen = with(&several, &viewer, &["logs", "web"]);
        if seen.stdout.contains("web.1 |") { Ok(()) } else { Err(seen) }
    });
    ok(with(&several, &deployer, &["rollout", "restart", "web", "--wait"]));

    refused(
        with(&several, &viewer, &["apply", "-f", &web]),
        "you may not change services in namespace default",
    );
    ok(with(&several, &viewer, &["diff", "-f", &web]));
    refused(
        with(&several, &viewer, &["exec", "web", "--", "/wharf"]),
        "you may not run commands in containers",
    );
    let elsewhere = ["scale", "web", "1", "-n", "other"];
    refused(with(&several, &deployer, &elsewhere), "your token is deployer in namespace default");
    refused(
        with(&several, &deployer, &["token", "create", "me", "--role", "admin"]),
        "you may not manage tokens",
    );
    refused(with(&several, &deployer, &["node", "cordon", "agent1"]), "you may not manage nodes");
    let all = with(&several, &deployer, &["get", "services", "-A"]);
    assert!(all.stderr.contains("only namespace default was looked at"), "{all:#?}");

    // A context: pasted once, with a dead address before the one that answers.
    let address = several.address("server2");
    ok(add(&several, &viewer, &["prod", "--address", "127.0.0.1:1", "--address", &address]));
    let nodes = ended(&mut several.from_afar(&[], &["get", "nodes", "-o", "name"]));
    assert_eq!(ok(nodes), "node/agent1\n");
    let listed = ok(ended(&mut several.from_afar(&[], &["context", "ls", "-o", "json"])));
    assert!(!listed.contains(&viewer[60..]), "{listed}");
    let pin = "0".repeat(64);
    ok(add(&several, &viewer, &["wrong", "--ca", &pin]));
    let wrong = ended(&mut several.from_afar(&[], &["get", "nodes", "--context", "wrong"]));
    refused(wrong, "does not have the authority");

    // The token of another cluster, whose servers are not these.
    several.init("server9");
    let foreign = several.ask("server9", &["token", "create", "far", "--role", "admin"]);
    ok(add(&several, &ok(foreign), &["foreign", "--address", &address]));
    let foreign = ended(&mut several.from_afar(&[], &["get", "nodes", "--context", "foreign"]));
    refused(foreign, "is of cluster");
    several.kill("server9");

    let brief = token(&several, &["brief", "--role", "viewer", "--expires", "1ms"]);
    refused(with(&several, &brief, &["get", "nodes"]), "the access token brief expired");
    several.ok(&["token", "revoke", "look"]);
    refused(with(&several, &viewer, &["get", "nodes"]), "it was withdrawn; ask an admin for a new one");

    let lines = audit(&several, "ci");
    let told: Vec<String> =
        lines.iter().map(|line| format!("{} {}", line["verb"], line["outcome"])).collect();
    let told: Vec<String> = told.iter().map(|line| line.replace('"', "")).collect();
    let expected = [
        "apply done",
        "exec done",
        "restart done",
        "scale refused",
        "create access token refused",
        "change node refused",
    ];
    assert_eq!(told, expected, "{lines:#?}");
    assert!(
        lines.iter().all(|line| line["from"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:")))
    );
    assert_eq!(lines[0]["became"][0]["service"], "default/web", "{}", lines[0]);
    for server in SERVERS {
        let text = several.file(server, "audit.log") + &several.log(server);
        assert!(!text.contains(&deployer[60..120]) && !text.contains(&viewer[60..120]), "{server}: {text}");
    }
    several.end();
}

#[test]
fn a_context_outlives_its_servers_and_what_is_stale_needs_no_quorum() {
    let mut several = Several::of(3, 1);
    let admin = token(&several, &["alice", "--role", "admin"]);
    ok(with(&several, &admin, &["apply", "--wait", "-f", &manifest(&several, 1)]));

    // Whoever leads is asked first, and dies while it is asked.
    let leader = several.leader();
    let others: Vec<&str> = SERVERS.into_iter().filter(|server| *server != leader).collect();
    let addresses: Vec<String> =
        [leader.as_str(), others[0], others[1]].map(|server| several.address(server)).to_vec();
    let mut args = vec!["prod"];
    addresses.iter().for_each(|address| args.extend(["--address", address]));
    ok(add(&several, &admin, &args));
    let web = manifest(&several, 3);
    let apply = several.from_afar(&[], &["apply", "--wait", "-f", &web]).stdout(Stdio::null()).spawn();
    let mut apply = apply.expect("it starts");
    several.kill(&leader);
    assert!(apply.wait().expect("it ends").success(), "an apply is through although {leader} was killed");
    for replicas in 1..=3 {
        let scaled = ended(&mut several.from_afar(&[], &["scale", "web", &replicas.to_string()]));
        assert_eq!(scaled.code, 0, "{scaled:#?}");
    }
    let seen = ok(ended(&mut several.from_afar(&[], &["get", "services", "web", "-o", "json"])));
    assert!(seen.contains("\"replicas\": 3"), "{seen}");

    several.kill(others[0]);
    let lost = Instant::now();
    let stale = ["get", "services", "web", "--stale", "-o", "json"];
    let stale = ended(&mut several.from_afar(&[], &stale));
    let took = lost.elapsed();
    let seen: Json = serde_json::from_str(&ok(stale.clone())).expect("JSON");
    assert_eq!(seen["items"]["spec"]["replicas"], 3, "{seen}");
    assert_eq!(seen["stale"]["server"], others[1], "{seen}");
    assert!(
        stale.stderr.contains(&format!("server {} answered from what it knows", others[1])),
        "{stale:#?}"
    );
    println!("a stale answer without a quorum took {took:?}: {}", seen["stale"]);
    let now = ended(&mut several.from_afar(&[], &["get", "services", "web"]));
    refused(now, "no leader");

    several.start(&leader);
    several.start(others[0]);
    several.wait_for_voters(&SERVERS);
    several.end();
}
