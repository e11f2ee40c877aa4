//! Moving from one revision to the next, under load, and back.

use std::time::Duration;

use tests::{Cluster, load::Load, wait_for};

use crate::{ONE, PORT, TWO, hello};

const PER_SECOND: u32 = 300;

#[test]
fn a_rolling_update_under_load_loses_no_request() {
    let cluster = Cluster::start();
    assert_eq!(cluster.apply("web", &hello(3, ONE, "", "")).code, 0);
    let load = Load::start(PORT, PER_SECOND);
    std::thread::sleep(Duration::from_millis(500));
    for image in [TWO, ONE, TWO] {
        let applied = cluster.apply("web", &hello(3, image, "", ""));
        assert_eq!(applied.code, 0, "{applied:#?}");
    }
    std::thread::sleep(Duration::from_millis(500));
    let tally = load.stop();
    println!("{} answered in {:?}, by version {:?}", tally.answered, tally.lasted, tally.versions);
    assert_eq!(tally.failed, Vec::<String>::new(), "{tally:#?}\n{}", cluster.ok(&["describe", "web"]));
    assert_eq!(tally.versions.len(), 2, "{tally:#?}");
    let again = cluster.apply("web", &hello(3, TWO, "", ""));
    assert!(again.stdout.contains("unchanged"), "{again:#?}");
    cluster.end();
}

#[test]
fn an_update_that_never_becomes_ready_rolls_back_while_the_service_stays_up() {
    let cluster = Cluster::start();
    assert_eq!(cluster.apply("web", &hello(3, ONE, "", "")).code, 0);
    let load = Load::start(PORT, PER_SECOND);
    let sick = hello(3, TWO, "HELLO_FAIL_HEALTH: '1'", "  update: {healthyDeadline: 2s}\n");
    let applied = cluster.apply("web", &sick);
    let tally = load.stop();
    assert_eq!(applied.code, 3, "{applied:#?}");
    assert!(applied.stdout.contains("rolled back to revision 1"), "{applied:#?}");
    assert_eq!(tally.failed, Vec::<String>::new(), "{tally:#?}");
    assert_eq!(tally.versions.len(), 1, "the sick version answered: {tally:#?}");
    let history = cluster.ok(&["rollout", "history", "web"]);
    assert!(history.contains("failed") && history.contains("stable"), "{history}");
    let description = cluster.ok(&["describe", "web"]);
    assert!(
        description.contains("rolled-back") && description.contains("not ready within 2s"),
        "{description}"
    );
    cluster.end();
}

#[test]
fn scale_undo_restart_and_delete_do_what_they_say() {
    let cluster = Cluster::start();
    assert_eq!(cluster.apply("web", &hello(2, ONE, "", "")).code, 0);
    assert_eq!(cluster.wharf(&["scale", "web", "--replicas", "4", "--wait"]).code, 0);
    assert_eq!(cluster.pids("web").len(), 4);
    assert_eq!(cluster.wharf(&["scale", "web", "--replicas", "1", "--wait"]).code, 0);
    wait_for("the others to stop", Duration::from_secs(20), || match cluster.pids("web").len() {
        1 => Ok(()),
        others => Err(others),
    });
    assert_eq!(cluster.apply("web", &hello(1, TWO, "", "")).code, 0);
    assert_eq!(cluster.service("web")["status"]["revision"], 2);
    assert_eq!(cluster.wharf(&["rollout", "undo", "web", "--wait"]).code, 0);
    assert_eq!(cluster.service("web")["status"]["revision"], 1);
    let before = cluster.pids("web");
    assert_eq!(cluster.wharf(&["rollout", "restart", "web", "--wait"]).code, 0);
    assert_ne!(cluster.pids("web"), before);
    let deleted = cluster.wharf(&["delete", "web"]);
    assert_eq!(deleted.code, 0, "{deleted:#?}");
    let gone = cluster.wharf(&["get", "services", "web"]);
    assert_eq!(gone.code, 1, "{gone:#?}");
    cluster.end();
}

#[test]
fn desired_state_survives_to_the_next_start() {
    let mut cluster = Cluster::start();
    assert_eq!(cluster.apply("web", &hello(2, ONE, "", "")).code, 0);
    cluster.stop();
    cluster.resume();
    wait_for("the replicas to run again", Duration::from_secs(30), || {
        let ready = cluster.service("web")["status"]["ready"].clone();
        if ready == 2 { Ok(()) } else { Err(ready) }
    });
    cluster.end();
}
