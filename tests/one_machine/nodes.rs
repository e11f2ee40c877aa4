//! What people decide of nodes, on the one that there is.

use std::time::Duration;

use serde_json::Value;
use tests::{Cluster, wait_for};

use crate::{ONE, hello};

fn nodes(cluster: &Cluster) -> Vec<Value> {
    serde_json::from_str(&cluster.ok(&["get", "nodes", "-o", "json"])).expect("JSON of nodes")
}

/// What the service waits for, once it says that it has no place.
fn unplaceable(cluster: &Cluster) -> String {
    wait_for("the service to have no place", Duration::from_secs(20), || {
        let waiting = cluster.service("web")["status"]["waitingOn"].to_string();
        if waiting.contains("no node can take it") { Ok(waiting) } else { Err(waiting) }
    })
}

fn has_two_ready(cluster: &Cluster) {
    wait_for("two replicas to be ready", Duration::from_secs(30), || {
        let status = cluster.service("web")["status"].clone();
        if status["ready"] == 2 { Ok(()) } else { Err(status) }
    });
}

#[test]
fn a_cordoned_node_takes_nothing_new_and_says_so() {
    let cluster = Cluster::start();
    assert_eq!(cluster.apply("web", &hello(1, ONE, "", "")).code, 0);
    let name = nodes(&cluster)[0]["name"].as_str().expect("a name").to_owned();

    cluster.ok(&["node", "cordon", &name, "--reason", "disk swap"]);
    let table = cluster.ok(&["get", "nodes"]);
    assert!(table.contains("ready,cordoned"), "{table}");
    let page = cluster.ok(&["describe", &format!("node/{name}")]);
    assert!(page.contains("cordoned, for") && page.contains("disk swap"), "{page}");
    let before = cluster.pids("web");
    cluster.ok(&["scale", "web", "2"]);
    let waiting = unplaceable(&cluster);
    assert!(waiting.contains("the only node is cordoned"), "{waiting}");
    let events = cluster.ok(&["events", "web"]);
    assert!(events.contains("the only node is cordoned"), "{events}");

    cluster.ok(&["node", "uncordon", &name]);
    has_two_ready(&cluster);
    assert!(cluster.pids("web").contains(&before[0]), "what ran was left alone");
    cluster.end();
}

#[test]
fn a_label_that_is_asked_for_is_waited_for() {
    let cluster = Cluster::start();
    let name = nodes(&cluster)[0]["name"].as_str().expect("a name").to_owned();
    let path = cluster.folder().join("web.yaml");
    let manifest = hello(2, ONE, "", "  placement: {nodes: {disk: ssd}, spread: zone}\n");
    std::fs::write(&path, manifest).expect("the manifest");
    cluster.ok(&["apply", "-f", path.to_str().expect("UTF-8")]);
    let waiting = unplaceable(&cluster);
    assert!(waiting.contains("the only node lacks label disk=ssd"), "{waiting}");

    let refused = cluster.wharf(&["node", "label", &name, "wharf/name=other"]);
    assert_eq!(refused.code, 1, "{refused:#?}");
    assert!(refused.stderr.contains("the system's own"), "{refused:#?}");
    cluster.ok(&["node", "label", &name, "disk=ssd", "zone=a"]);
    has_two_ready(&cluster);
    assert_eq!(nodes(&cluster)[0]["labels"]["zone"], "a");

    // Taken away again, what runs has nowhere else to go, and goes on.
    let before = cluster.pids("web");
    cluster.ok(&["node", "label", &name, "disk-"]);
    unplaceable(&cluster);
    assert_eq!(cluster.service("web")["status"]["ready"], 2);
    cluster.ok(&["node", "label", &name, "disk=ssd"]);
    wait_for("the wait to be over", Duration::from_secs(20), || {
        let waiting = cluster.service("web")["status"]["waitingOn"].clone();
        if waiting.as_array().is_none_or(Vec::is_empty) { Ok(()) } else { Err(waiting) }
    });
    assert_eq!(cluster.pids("web"), before, "nothing was restarted");
    cluster.end();
}

#[test]
fn a_drained_node_keeps_what_fits_nowhere_else_until_the_deadline() {
    let cluster = Cluster::start();
    assert_eq!(cluster.apply("web", &hello(1, ONE, "", "")).code, 0);
    let name = nodes(&cluster)[0]["name"].as_str().expect("a name").to_owned();
    let in_use = cluster.wharf(&["node", "rm", &name]);
    assert_eq!(in_use.code, 1, "{in_use:#?}");
    assert!(in_use.stderr.contains("wharf node drain"), "{in_use:#?}");

    let waits = cluster.wharf(&["node", "drain", &name, "--wait", "--timeout", "2s"]);
    assert_eq!(waits.code, 5, "{waits:#?}");
    assert!(waits.stdout.contains("replicas left") || waits.stdout.contains("replica left"), "{waits:#?}");
    assert_eq!(cluster.service("web")["status"]["ready"], 1);

    let drained = cluster.wharf(&["node", "drain", &name, "--deadline", "1s", "--wait", "--timeout", "1m"]);
    assert_eq!(drained.code, 0, "{drained:#?}");
    assert!(drained.stdout.contains("is drained"), "{drained:#?}");
    assert_eq!(nodes(&cluster)[0]["state"], "ready,drained");
    cluster.ok(&["node", "uncordon", &name]);
    wait_for("the service to serve again", Duration::from_secs(30), || {
        let status = cluster.service("web")["status"].clone();
        if status["ready"] == 1 { Ok(()) } else { Err(status) }
    });
    cluster.end();
}

#[test]
fn the_node_of_a_lost_data_folder_is_removed() {
    let mut cluster = Cluster::start();
    assert_eq!(cluster.apply("web", &hello(1, ONE, "", "")).code, 0);
    let old = nodes(&cluster)[0]["id"].as_str().expect("an id").to_owned();
    cluster.stop();
    let identity = cluster.data().join("agent/identity");
    std::fs::remove_file(&identity).expect("the agent's identity");
    cluster.resume();
    let known = wait_for("the new node to be ready beside the old one", Duration::from_secs(30), || {
        let known = nodes(&cluster);
        if known.iter().any(|node| node["id"] != old.as_str() && node["state"] == "ready") {
            Ok(known)
        } else {
            Err(known)
        }
    });
    assert_eq!(known.len(), 2, "{known:#?}");
    let name = known[0]["name"].as_str().expect("a name");
    let ambiguous = cluster.wharf(&["node", "rm", name]);
    assert_eq!(ambiguous.code, 1, "{ambiguous:#?}");
    assert!(ambiguous.stderr.contains("name one by its id"), "{ambiguous:#?}");

    wait_for("the old node to be down", Duration::from_secs(60), || {
        let known = nodes(&cluster);
        let is_down = |node: &Value| node["id"] == old.as_str() && node["state"] == "down";
        if known.iter().any(is_down) { Ok(()) } else { Err(known) }
    });
    for _ in 0..2 {
        cluster.ok(&["node", "rm", &old]);
        assert_eq!(nodes(&cluster).len(), 1);
    }
    wait_for("the service on the new node", Duration::from_secs(60), || {
        let status = cluster.service("web")["status"].clone();
        if status["ready"] == 1 { Ok(()) } else { Err(status) }
    });
    cluster.end();
}
