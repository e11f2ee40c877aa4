//! What the previous build left is taken over by this one.

use tests::{Several, program};

use crate::{Service, load_image, pids, previous, wait_for_level};

#[test]
fn a_backup_of_the_previous_build_is_restored_and_its_agent_is_taken_over() {
    let mut several = Several::of_program(previous(), 1, 1);
    load_image(&several);
    several.ok(&["node", "label", "agent1", "home=web"]);
    let web = Service::at_home("web");
    several.ok(&["apply", "--wait", "-f", &web.write(&several)]);
    let before = pids(&several, "web", 2);
    let addresses = addresses(&several);
    let folder = several.folder().display().to_string();
    let (backup, key) = (format!("{folder}/backup"), format!("{folder}/backup.key"));
    several.ok(&["cluster", "backup", &backup, "--backup-key", &key]);

    // The server is lost, and the next build takes its place; the agent is upgraded later.
    several.kill("server1");
    std::fs::remove_dir_all(several.data("server1")).expect("the disk is lost");
    several.install_everywhere(&program());
    several.install("agent1", &previous());
    let (data, address) = (several.data("server1"), several.address("server1"));
    let itself = ["--data", &data, "--name", "server1", "--advertise", &address, "--listen", &address];
    let restore = ["cluster", "restore", &backup, "--backup-key", &key];
    several.ok_without_server(&[&restore[..], &itself[..]].concat());
    several.start_to_answer("server1");
    several.wait_for_voters(&["server1"]);
    several.wait_for_nodes(1);
    assert_eq!(pids(&several, "web", 2), before);
    wait_for_level(&several, "server1");

    several.kill("agent1");
    several.install("agent1", &program());
    several.start("agent1");
    several.ok(&["scale", "web", "3", "--wait"]);
    let after = pids(&several, "web", 3);
    assert!(before.iter().all(|(slot, pid)| after.get(slot) == Some(pid)), "{before:?} became {after:?}");
    let now = self::addresses(&several);
    assert!(addresses.iter().all(|address| now.contains(address)), "{addresses:?} became {now:?}");
    several.end();
}

/// Of the replicas.
fn addresses(several: &Several) -> Vec<String> {
    let seen = several.ok(&["get", "services", "web", "-o", "json"]);
    let seen: serde_json::Value = serde_json::from_str(&seen).expect("JSON of a service");
    let replicas = seen["status"]["replicas"].as_array().cloned().unwrap_or_default();
    replicas.iter().filter_map(|replica| replica["address"].as_str().map(str::to_owned)).collect()
}
