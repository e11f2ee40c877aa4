//! The runbooks in `deploy`, followed line by line on a cluster that really lost its servers.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use tests::Several;

use crate::manifest;

/// The commands of a runbook: what is indented by four columns more than the text, from this heading to the next.
fn commands(runbook: &str, heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(runbook);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let section = text.split(&format!("\n## {heading}\n")).nth(1);
    let section = section.unwrap_or_else(|| panic!("{runbook} has no section {heading:?}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let is_command = |line: &&str| line.starts_with("    ");
    let found: Vec<String> = section.lines().filter(is_command).map(|line| line.trim().to_owned()).collect();
    assert!(!found.is_empty(), "{runbook} has no commands in {heading:?}");
    found
}

/// Runs them as they stand, on the host of this server: its places are the test's, and systemctl is the test.
fn follow(several: &mut Several, server: &str, commands: &[String]) -> String {
    follow_with(several, server, commands, &[])
}

/// The server is started with these arguments besides its own.
fn follow_with(several: &mut Several, server: &str, commands: &[String], more: &[&str]) -> String {
    let folder = several.folder().display().to_string();
    let bin = several.folder().join("bin");
    fs::create_dir_all(&bin).expect("a folder");
    let wharf = bin.join("wharf");
    if !wharf.exists() {
        std::os::unix::fs::symlink(tests::program(), wharf).expect("a link");
        fs::create_dir_all(several.folder().join("backup")).expect("a folder");
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let places = [
        ("/var/lib/wharf/server", several.data(server)),
        ("/backup/", format!("{folder}/backup/")),
        ("/root/", format!("{folder}/")),
        ("10.0.0.1:7400", several.address("server1")),
    ];
    let mut said = String::new();
    for command in commands {
        match command.as_str() {
            "systemctl stop wharf-server" => several.kill(server),
            "systemctl start wharf-server" => {
                several.start_with(server, more);
                several.wait_for_voters(&[server]);
            }
            _ => {
                let here =
                    places.iter().fold(command.clone(), |line, (place, here)| line.replace(place, here));
                let mut shell = Command::new("bash");
                shell.args(["-euc", &here]).env("PATH", &path).env("WHARF_SOCKET", several.socket(server));
                let output = shell.output().expect("bash runs");
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let told = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{command}\n{here}\n{text}{told}{}", several.log(server));
                said.push_str(&text);
                said.push_str(&told);
            }
        }
    }
    said
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
    let said = follow_with(&mut several, "server1", &locking, &["--passphrase-file", &file]);
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
