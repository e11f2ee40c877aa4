//! What hosts know each other by changes under a running cluster: another authority, another address.

use std::time::Duration;

use tests::{Several, wait_for};

use super::manifest;

const SOON: Duration = Duration::from_secs(60);

/// What `wharf cluster authority status` says after a word.
fn said(several: &Several, word: &str) -> String {
    let seen = several.ok(&["cluster", "authority", "status"]);
    let line = seen.lines().find_map(|line| line.strip_prefix(word));
    line.unwrap_or_default().trim().to_owned()
}

fn wait_for_rotation(several: &Several, expected: &str) {
    wait_for("the rotation", SOON, || {
        let now = said(several, "rotation");
        if now.contains(expected) { Ok(()) } else { Err(now) }
    });
}

#[test]
fn the_authority_is_replaced_while_everything_runs() {
    let mut several = Several::of(3, 2);
    several.ok(&["apply", "--wait", "-f", &manifest(&several, 4)]);
    let (before, old) = (several.pids("web"), said(&several, "authority"));
    let old_token = several.token("agent", &[]);

    // A host that is away is waited for, by name.
    several.kill("agent2");
    several.ok(&["cluster", "authority", "rotate", "--no-wait"]);
    wait_for_rotation(&several, "still to follow: node agent2");
    assert_eq!(said(&several, "authority"), old, "the new one signs nothing yet");
    let again = several.ask("server1", &["cluster", "authority", "rotate"]);
    assert!(again.code == 1 && again.stderr.contains("a rotation is under way"), "{again:#?}");

    // Whoever leads goes on with it.
    let leader = several.leader();
    several.kill(&leader);
    several.start("agent2");
    wait_for_rotation(
        &several,
        &format!("new authority signs; hosts get new certificates; still to follow: server {leader}"),
    );
    several.start_to_answer(&leader);
    wait_for_rotation(&several, "none");
    let new = said(&several, "authority");
    assert_ne!(new, old);
    for host in ["server1", "server2", "server3", "agent1", "agent2"] {
        wait_for(host, SOON, || {
            let trust = several.file(host, "trust/trust.pem");
            let believes_one = trust.starts_with("wharf-trust 1 generation 4 settled\n");
            if believes_one && trust.matches("BEGIN CERTIFICATE").count() == 1 { Ok(()) } else { Err(trust) }
        });
    }

    // All of them speak to each other anew, and new hosts join.
    for server in ["server1", "server2", "server3"] {
        several.kill(server);
        several.start_to_answer(server);
    }
    for agent in ["agent1", "agent2"] {
        several.kill(agent);
        several.start(agent);
    }
    several.wait_for_voters(&["server1", "server2", "server3"]);
    several.wait_for_nodes(2);
    let refused = several.try_join("agent3", &old_token);
    assert!(
        refused.code == 1 && refused.stderr.contains("was rotated and the token is from before"),
        "{refused:#?}"
    );
    let token = several.token("agent", &[]);
    several.join("agent3", &token);
    several.start("agent3");
    several.wait_for_nodes(3);
    assert_eq!(several.pids("web"), before, "no container noticed");
    several.end();
}

#[test]
fn a_rotation_is_given_up_as_long_as_the_new_authority_signed_nothing() {
    let mut several = Several::of(1, 1);
    let old = said(&several, "authority");
    let refused = several.ask("server1", &["cluster", "authority", "abandon"]);
    assert!(refused.code == 1 && refused.stderr.contains("no authority was introduced"), "{refused:#?}");
    several.kill("agent1");
    several.ok(&["cluster", "authority", "rotate", "--no-wait"]);
    wait_for_rotation(&several, "still to follow: node agent1");
    several.ok(&["cluster", "authority", "abandon"]);
    assert_eq!((said(&several, "authority"), said(&several, "rotation")), (old.clone(), "none".to_owned()));
    several.start("agent1");
    several.wait_for_nodes(1);
    // The next one goes through, with somebody who waits for it.
    several.ok(&["cluster", "authority", "rotate"]);
    assert_ne!(said(&several, "authority"), old);
    several.end();
}

#[test]
fn a_server_that_moved_is_found_again() {
    let mut several = Several::of(3, 1);
    let moved = several.leader();
    several.kill(&moved);
    let address = several.move_to_another_address(&moved);
    several.start_to_answer(&moved);
    wait_for("its new address", SOON, || {
        let seen = several.ok(&["cluster", "members"]);
        if seen.contains(&address) { Ok(()) } else { Err(seen) }
    });
    several.wait_for_voters(&["server1", "server2", "server3"]);
    // The others need it: one of them is gone.
    let other = if moved == "server1" { "server2" } else { "server1" };
    several.kill(other);
    several.ok(&["node", "label", "agent1", "moved=yes"]);
    several.start_to_answer(other);
    several.wait_for_voters(&["server1", "server2", "server3"]);
    several.end();
}

#[test]
fn how_long_a_node_may_be_silent_is_set_for_the_whole_cluster() {
    let several = Several::of(1, 0);
    assert_eq!(several.ok(&["cluster", "settings"]), "nodes are lost after  15s\n");
    let refused = several.ask("server1", &["cluster", "settings", "--node-lost-after", "2s"]);
    assert!(refused.code == 2 && refused.stderr.contains("between 5s and 1h"), "{refused:#?}");
    let set = several.ok(&["cluster", "settings", "--node-lost-after", "30s"]);
    assert_eq!(
        (set.as_str(), several.ok(&["cluster", "settings"])),
        ("nodes are lost after  30s\n", set.clone())
    );
    several.end();
}
