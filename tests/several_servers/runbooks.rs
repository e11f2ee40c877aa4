//! The runbooks in `deploy`, followed line by line on a cluster that really lost its servers.

use std::{collections::BTreeMap, fs};

use tests::{
    Several,
    runbook::{self, commands},
};

use crate::manifest;

/// On the host of this server, which votes alone.
fn follow(several: &mut Several, server: &str, commands: &[String]) -> String {
    runbook::follow(several, server, commands, &[], &[server])
}

/// The one server that is left does all that servers do, nothing that ran was touched, and another server joins.
fn goes_on_and_grows(mut several: Several, left: &str, before: &BTreeMap<u64, i64>) {
    several.wait_for_nodes(1);
    several.ok(&["scale", "web", "3", "--wait"]);
    let after = several.pids("web");
    assert!(before.iter().all(|(slot, pid)| after.get(slot) == Some(pid)), "{before:?} became {after:?}");
    let token = several.token("server", &[]);
    several.join("server4", &token);
    several.start("server4");
    several.wait_for_voters(&[left, "server4"]);
    several.end();
}

#[test]
fn a_cluster_whose_servers_are_all_lost_is_restored_and_nothing_that_runs_is_touched() {
    let mut several = Several::of(3, 1);
    several.ok(&["apply", "--wait", "-f", &manifest(&several, 2)]);
    let before = several.pids("web");
    follow(&mut several, "server1", &commands("restore.md", "Before anything happens"));
    for server in ["server1", "server2", "server3"] {
        several.kill(server);
        fs::remove_dir_all(several.data(server)).expect("the disk is lost");
    }
    let said = follow(&mut several, "server1", &commands("restore.md", "When the servers are lost"));
    for words in ["never to be started again: server1, server2, server3", "web", "wharf_join_server_"] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    goes_on_and_grows(several, "server1", &before);
}

#[test]
fn the_one_server_that_is_left_goes_on_and_nothing_that_runs_is_touched() {
    let mut several = Several::of(3, 1);
    several.ok(&["apply", "--wait", "-f", &manifest(&several, 2)]);
    let before = several.pids("web");
    for server in ["server1", "server3"] {
        several.kill(server);
        fs::remove_dir_all(several.data(server)).expect("the disk is lost");
    }
    let said = follow(
        &mut several,
        "server2",
        &commands("recover.md", "When one server is left and the rest is lost"),
    );
    for words in ["never to be started again: server1, server3", "web", "wharf_join_server_"] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    goes_on_and_grows(several, "server2", &before);
}

#[test]
fn data_keys_are_locked_with_a_passphrase_and_the_server_starts_only_with_it() {
    let mut several = Several::of(1, 0);
    let file = several.folder().join("passphrase").display().to_string();
    fs::write(&file, "correct horse battery\n").expect("the passphrase");
    let locking = commands("data-keys.md", "Lock them with a passphrase");
    let said =
        runbook::follow(&mut several, "server1", &locking, &["--passphrase-file", &file], &["server1"]);
    assert!(said.contains("start the server with --passphrase-file"), "{said}");
    let said = follow(&mut several, "server1", &commands("data-keys.md", "Change the key"));
    assert!(said.contains("data key 2"), "{said}");
    several.kill("server1");
    several.start("server1");
    assert_eq!(several.ended("server1"), 1, "{}", several.log("server1"));
    several.start_with("server1", &["--passphrase-file", &file]);
    several.wait_for_voters(&["server1"]);
    several.end();
}
