//! One host after the other gets this build, while services run, requests come in and users write.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use tests::{
    Several,
    load::Load,
    program,
    registers::{Pace, Registers, Servers},
};

use crate::{Service, level, load_image, ok, pids, previous, wait_for_level};

const SERVERS: [&str; 3] = ["server1", "server2", "server3"];
const PORT: u16 = 18_080;
const REPLICAS: usize = 4;
/// What a client may have to wait, with all its attempts: a server that was told to stop hands over first.
const LONGEST: Duration = Duration::from_secs(10);

/// What it runs is stopped as an upgrade stops it, and the other program started in its place.
fn replace_server(several: &mut Several, server: &str, program: &Path) {
    several.stop(server);
    several.install(server, program);
    several.start_to_answer(server);
    several.wait_for_voters(&SERVERS);
}

/// The containers go on meanwhile, so it must be ended as a crash ends it: here agents stop theirs when they are told to.
fn replace_agent(several: &mut Several, agent: &str, program: &Path, agents: usize) {
    several.kill(agent);
    several.wait_for_nodes(agents - 1);
    several.install(agent, program);
    several.start(agent);
    several.wait_for_nodes(agents);
}

/// What users do in a day, through every server with both programs.
fn use_it(several: &Several, round: u32) {
    let programs = [previous(), program()];
    let asks = SERVERS.iter().flat_map(|server| programs.iter().map(move |program| (*server, program)));
    for (number, (server, program)) in (0u32..).zip(asks) {
        let version = round * 10 + number;
        let side = Service { version, home: None, ..Service::at_home("side") };
        let path = side.write(several);
        ok(several, program, server, &["apply", "--wait", "--timeout", "2m", "-f", &path]);
        let count = (2 + number % 2).to_string();
        ok(several, program, server, &["scale", "side", &count, "--wait"]);
        let said = ok(several, program, server, &["exec", "side", "--", "/bin/cat", "/tmp/index.html"]);
        assert!(said.contains(&format!("version {version},")), "round {round} at {server}: {said}");
        let said = ok(several, program, server, &["logs", "side"]);
        assert!(said.contains("started"), "round {round} at {server}: {said}");
        ok(several, program, server, &["rollout", "restart", "side", "--wait"]);
        ok(several, program, server, &["get", "nodes"]);
    }
    let (old, new) = (&programs[0], &programs[1]);
    for (program, server) in [(old, "server1"), (new, "server3")] {
        ok(several, program, server, &["node", "cordon", "agent3"]);
        ok(several, program, server, &["node", "uncordon", "agent3"]);
        ok(several, program, server, &["node", "drain", "agent3", "--wait"]);
        ok(several, program, server, &["node", "uncordon", "agent3"]);
        ok(several, program, server, &["cluster", "token", "create", "--role", "agent"]);
        let name = format!("ci-{round}-{server}");
        ok(several, program, server, &["token", "create", &name, "--role", "viewer"]);
        let file = several.folder().join(format!("{name}.backup")).display().to_string();
        let key = several.folder().join("backup.key").display().to_string();
        ok(several, program, server, &["cluster", "backup", &file, "--backup-key", &key]);
    }
}

#[test]
fn hosts_are_upgraded_one_by_one_while_everything_goes_on() {
    let (old, new) = (previous(), program());
    let mut several = Several::of_program(old.clone(), 3, 3);
    load_image(&several);
    // So that whatever becomes of the third node, nothing that answers requests has to move.
    for agent in ["agent1", "agent2"] {
        several.ok(&["node", "label", agent, "home=web"]);
    }
    let web = Service { replicas: REPLICAS as u32, publish: Some(PORT), ..Service::at_home("web") };
    several.ok(&["apply", "--wait", "-f", &web.write(&several)]);
    let before = pids(&several, "web", REPLICAS);
    let load = Load::start_at(Ipv4Addr::LOCALHOST.into(), PORT, 50);
    let sockets = SERVERS.iter().map(|server| several.socket(server)).collect();
    let registers = Registers::start(Servers::at_sockets(sockets), Pace::LIVELY, "agent2");

    // One that does not lead, there and back and there again.
    let leader = several.leader();
    let followers: Vec<&str> = SERVERS.into_iter().filter(|server| *server != leader).collect();
    for program in [&new, &old, &new] {
        replace_server(&mut several, followers[0], program);
    }
    replace_agent(&mut several, "agent1", &new, 3);
    use_it(&several, 1);
    // The one that leads; then one of the new build may.
    let leader = several.leader();
    let second = if leader == followers[0] { followers[1] } else { leader.as_str() };
    replace_server(&mut several, second, &new);
    replace_agent(&mut several, "agent3", &new, 3);
    several.ok(&["cluster", "transfer-leader", followers[0]]);
    use_it(&several, 2);
    assert!(level(&several, followers[0]).starts_with('1'), "{}", level(&several, followers[0]));
    // The last one. Now what this build brought is put in use.
    let last =
        SERVERS.into_iter().find(|server| *server != second && *server != followers[0]).expect("one is left");
    replace_server(&mut several, last, &new);
    for server in SERVERS {
        wait_for_level(&several, server);
    }
    replace_agent(&mut several, "agent2", &new, 3);
    use_it(&several, 3);

    let writes = registers.stop();
    println!("{writes:?}");
    assert!(writes.longest < LONGEST, "{writes:?}");
    let requests = load.stop();
    println!("{} requests in {:?}", requests.answered, requests.lasted);
    assert!(requests.answered > 0 && requests.failed.is_empty(), "{:?}", requests.failed);
    assert_eq!(pids(&several, "web", REPLICAS), before, "nothing was started again");
    refuses_what_is_older(&mut several, &old, &new);
    several.end();
}

/// Once the level is raised: neither as a new member nor over its own data does an older server take part.
fn refuses_what_is_older(several: &mut Several, old: &Path, new: &Path) {
    several.install_everywhere(new);
    let token = several.token("server", &[]);
    several.install("server4", old);
    let refused = several.try_join("server4", &token);
    assert!(refused.code != 0 && refused.stderr.contains("install their build here"), "{refused:#?}");

    several.stop("server3");
    several.install("server3", old);
    several.start("server3");
    assert_ne!(several.ended("server3"), 0);
    let log = several.log("server3");
    assert!(log.contains("newer version"), "{log}");
    several.install("server3", new);
    several.start_to_answer("server3");
    several.wait_for_voters(&SERVERS);
    assert_eq!(level(several, "server3"), "2");
}
