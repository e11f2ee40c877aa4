//! Several servers and agents, each a process of its own, and what their loss costs.

mod access;
mod runbooks;
mod trust;

use std::time::{Duration, Instant};

use tests::{Several, wait_for};

fn manifest(several: &Several, replicas: u32) -> String {
    let path = several.folder().join("web.yaml");
    let text = format!(
        "\
apiVersion: wharf/v1
kind: Service
metadata: {{name: web}}
spec:
  replicas: {replicas}
  image: wharf.local/hello:1
  ports: [{{name: http, port: 8080}}]
  resources: {{memory: 64Mi, pids: 64, cpu: 100m}}
  health:
    readiness: {{http: {{port: http, path: /healthz}}, interval: 100ms}}
"
    );
    std::fs::write(&path, text).expect("the manifest");
    path.display().to_string()
}

#[test]
fn any_server_may_be_lost_and_all_answer() {
    let mut several = Several::of(3, 2);
    several.ok(&["apply", "--wait", "-f", &manifest(&several, 2)]);
    let first = several.pids("web");
    for replicas in 3..=5 {
        let leader = several.leader();
        several.kill(&leader);
        let lost = Instant::now();
        // At once, at a server that does not lead: it waits out the election, and hands on what it was asked.
        several.ok(&["node", "label", "agent1", &format!("round={replicas}")]);
        println!("{leader} led and was killed; a write is acknowledged again after {:?}", lost.elapsed());
        several.ok(&["scale", "web", &replicas.to_string(), "--wait"]);
        several.start_to_answer(&leader);
        several.wait_for_voters(&["server1", "server2", "server3"]);
        for server in ["server1", "server2", "server3"] {
            let seen = several.ask(server, &["get", "services", "web", "-o", "json"]);
            assert!(seen.stdout.contains(&format!("\"replicas\": {replicas}")), "{server}: {seen:#?}");
        }
    }
    let last = several.pids("web");
    assert_eq!(last.len(), 5);
    assert!(first.iter().all(|(slot, pid)| last.get(slot) == Some(pid)), "{first:?} became {last:?}");
    several.end();
}

#[test]
fn nothing_restarts_while_all_servers_are_gone_nor_when_they_return() {
    let mut several = Several::of(3, 1);
    several.ok(&["apply", "--wait", "-f", &manifest(&several, 3)]);
    let before = several.pids("web");
    for server in ["server1", "server2", "server3"] {
        several.kill(server);
    }
    several.kill("agent1");
    several.start("agent1");
    let alive = |pid: &i64| std::path::Path::new(&format!("/proc/{pid}")).exists();
    assert!(before.values().all(alive), "{before:?}");
    for server in ["server1", "server2", "server3"] {
        several.start(server);
    }
    several.wait_for_voters(&["server1", "server2", "server3"]);
    several.wait_for_nodes(1);
    assert_eq!(several.pids("web"), before);
    several.end();
}

#[test]
fn a_token_lets_in_as_many_as_it_says_and_a_removed_server_stops() {
    let mut several = Several::found();
    let token = several.token("server", &["--uses", "2"]);
    for server in ["server2", "server3"] {
        several.join(server, &token);
        several.start(server);
    }
    several.wait_for_voters(&["server1", "server2", "server3"]);
    let refused = several.try_join("server4", &token);
    assert!(refused.code == 1 && refused.stderr.contains("was used up"), "{refused:#?}");
    let refused = several.try_join("server4", &format!("{token}x"));
    assert!(refused.code == 1 && refused.stderr.contains("mistyped"), "{refused:#?}");
    several.ok(&["cluster", "token", "rotate", "--role", "server"]);
    let listed = several.ok(&["cluster", "token", "ls"]);
    assert_eq!(listed.matches("server").count(), 1, "{listed}");

    several.ok(&["cluster", "remove", "server3"]);
    assert_eq!(several.ended("server3"), 1);
    assert!(several.log("server3").contains("was removed from the cluster"), "{}", several.log("server3"));
    several.wait_for_voters(&["server1", "server2"]);
    let again = several.ok(&["cluster", "remove", "server3"]);
    assert!(again.contains("server3 was removed already"), "{again}");
    let token = several.token("server", &[]);
    several.join("server5", &token);
    several.start("server5");
    several.wait_for_voters(&["server1", "server2", "server5"]);
    several.ok(&["cluster", "transfer-leader", "server5"]);
    assert_eq!(several.leader(), "server5");
    several.end();
}

#[test]
fn a_server_that_lost_its_disk_takes_the_place_of_the_one_that_it_was() {
    let mut several = Several::of(3, 0);
    let leader = several.leader();
    let lost = ["server1", "server2"].into_iter().find(|server| *server != leader).expect("a follower");
    // Its line begins with its name and its id.
    let member = |several: &Several| {
        let listed = several.ask(&leader, &["cluster", "members"]).stdout;
        let is_it = |line: &&str| line.starts_with(lost) && !line.contains(" removed");
        listed.lines().find(is_it).map(str::to_owned).unwrap_or_default()
    };
    let id = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    let before = id(&member(&several)).expect("the id of a server");
    let token = several.token("server", &[]);
    several.kill(lost);
    several.join_anew(lost, &token);
    several.start(lost);
    let gone = Instant::now();
    wait_for("another server in its place", Duration::from_secs(90), || {
        let now = member(&several);
        let is_another = id(&now).is_some_and(|now| now != before) && now.contains(" voter");
        if is_another { Ok(()) } else { Err(format!("{now}\n{}", several.log(lost))) }
    });
    println!("it has its place after {:?}", gone.elapsed());
    several.wait_for_voters(&["server1", "server2", "server3"]);
    // Nobody counts on the one that is gone: of three, any may be lost.
    several.kill(&leader);
    let made = several.ask(lost, &["cluster", "token", "create", "--role", "agent"]);
    assert_eq!(made.code, 0, "{made:#?}");
    several.end();
}

#[test]
fn certificates_are_renewed_while_hosts_run() {
    let mut several = Several::found_with(&["--certificate-lifetime", "9s"]);
    let hosts = [("server2", "server"), ("agent1", "agent")];
    for (host, role) in hosts {
        let token = several.token(role, &[]);
        several.join(host, &token);
        several.start(host);
    }
    several.wait_for_voters(&["server1", "server2"]);
    several.wait_for_nodes(1);
    // Twice: by then the first one has ended.
    for _ in 0..2 {
        for (host, _) in hosts {
            let before = several.file(host, "trust/node.crt");
            wait_for("another certificate", Duration::from_secs(60), || {
                let now = several.file(host, "trust/node.crt");
                if !now.is_empty() && now != before { Ok(()) } else { Err(several.log(host)) }
            });
        }
    }
    for (host, _) in hosts {
        several.kill(host);
        several.start(host);
    }
    several.wait_for_voters(&["server1", "server2"]);
    several.wait_for_nodes(1);
    several.end();
}
