//! What dies on the node is started again on the node.

use std::time::{Duration, Instant};

use tests::{Cluster, cluster::kill_9, http, wait_for};

use crate::{ONE, PORT, hello};

#[test]
fn a_killed_container_runs_again_at_once_and_its_end_is_told() {
    let cluster = Cluster::start();
    assert_eq!(cluster.apply("web", &hello(1, ONE, "", "")).code, 0);
    let before = cluster.pids("web");
    let killed = Instant::now();
    kill_9(before[0]);
    let after = wait_for("the container to run again", Duration::from_secs(10), || {
        let pids = cluster.pids("web");
        if pids.len() == 1 && pids != before { Ok(pids) } else { Err(pids) }
    });
    println!("running again, as the CLI sees it, {:?} after kill -9", killed.elapsed());
    assert_ne!(before, after);
    wait_for("an answer", Duration::from_secs(10), || http::get(PORT, "/"));
    let description = cluster.ok(&["describe", "web.1"]);
    assert!(description.contains("killed by SIGKILL"), "{description}");
    assert!(description.contains("1 restarts"), "{description}");
    cluster.end();
}

#[test]
fn a_service_that_crashes_backs_off() {
    let cluster = Cluster::start();
    let manifest =
        hello(1, ONE, "HELLO_EXIT_AFTER: 50ms, HELLO_EXIT_CODE: '1'", "  update: {onFailure: continue}\n");
    let path = cluster.folder().join("crash.yaml");
    std::fs::write(&path, manifest).expect("the manifest");
    cluster.ok(&["apply", "-f", path.to_str().expect("UTF-8")]);
    let replica = wait_for("backing off", Duration::from_secs(20), || {
        let replica = cluster.replicas("web")[0].clone();
        if replica["state"] == "backing-off" { Ok(replica) } else { Err(replica) }
    });
    assert_eq!(replica["containers"][0]["lastExit"]["cause"], "exit code 1", "{replica:#}");
    cluster.end();
}

#[test]
fn logs_and_exec_reach_the_container() {
    let cluster = Cluster::start();
    assert_eq!(cluster.apply("web", &hello(2, ONE, "", "")).code, 0);
    let logs = wait_for("the log", Duration::from_secs(10), || {
        let logs = cluster.ok(&["logs", "web"]);
        if logs.matches("listening on port 8080").count() == 2 { Ok(logs) } else { Err(logs) }
    });
    assert!(logs.contains("web.1") && logs.contains("web.2"), "{logs}");
    let one = cluster.ok(&["logs", "web.2", "--tail", "1"]);
    assert_eq!(one.lines().count(), 1, "{one}");
    let ended = cluster.wharf(&["exec", "web.1", "--", "/wharf", "--version"]);
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert!(ended.stdout.starts_with("wharf "), "{ended:#?}");
    let failed = cluster.wharf(&["exec", "web.1", "--", "/wharf", "no-such-verb"]);
    assert_eq!(failed.code, 1, "{failed:#?}");
    let missing = cluster.wharf(&["exec", "web.1", "--", "/no/such/program"]);
    assert_ne!(missing.code, 0, "{missing:#?}");
    assert!(missing.stderr.contains("/no/such/program"), "{missing:#?}");
    cluster.end();
}

#[test]
fn an_end_while_the_agent_is_dead_leaves_nothing_behind() {
    let cluster = Cluster::start();
    assert_eq!(cluster.apply("web", &hello(2, ONE, "", "")).code, 0);
    cluster.kill("agent");
    // Whether the agent is still dead, is just starting or is back: what it left is stopped.
    cluster.end();
}
