//! kill -9 of the daemons at random moments: nothing acknowledged is lost, nothing runs twice or is forgotten.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tests::{Cluster, leftovers, wait_for};

use crate::{ONE, hello};

#[test]
fn an_agent_that_was_killed_adopts_every_container() {
    let cluster = Cluster::start();
    assert_eq!(cluster.apply("web", &hello(3, ONE, "", "")).code, 0);
    let before = cluster.pids("web");
    cluster.kill("agent");
    wait_for("the agent to be back", Duration::from_secs(20), || {
        let ready = cluster.service("web")["status"]["ready"].clone();
        if ready == 3 && cluster.pids("web").len() == 3 { Ok(()) } else { Err(ready) }
    });
    assert_eq!(cluster.pids("web"), before, "containers were restarted");
    cluster.end();
}

#[test]
fn an_exit_while_the_agent_was_away_is_told_with_its_status() {
    let cluster = Cluster::start();
    assert_eq!(cluster.apply("web", &hello(1, ONE, "", "")).code, 0);
    let pid = cluster.pids("web")[0];
    cluster.kill("agent");
    tests::cluster::kill_9(pid);
    let description = wait_for("the exit to be told", Duration::from_secs(20), || {
        let description = cluster.ok(&["describe", "web"]);
        let told = description.contains("last exit") && description.contains("1 restarts");
        if told { Ok(description) } else { Err(description) }
    });
    assert!(description.contains("killed by SIGKILL"), "{description}");
    cluster.end();
}

/// The seed is printed, so that a run that failed can be thought through.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[test]
fn twenty_applies_survive_kills_at_random_moments() {
    let cluster = Cluster::start();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos() as u64;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let path = cluster.folder().join("web.yaml");
    // How long an apply takes that nobody disturbs: moments up to twice that hit all of it, on any host.
    let write = |round: u32, replicas: u32| {
        let manifest = hello(replicas, ONE, &format!("HELLO_VERSION: 'v{round}'"), "");
        std::fs::write(&path, manifest).expect("the manifest");
    };
    write(0, 1);
    let asked = Instant::now();
    cluster.ok(&["apply", "-f", path.to_str().expect("UTF-8")]);
    let moments = 2 * asked.elapsed().as_millis() as u64;
    let mut acknowledged = 0;
    for round in 1..=20 {
        wait_for("a server and an agent to kill", Duration::from_secs(60), || {
            let nodes = cluster.wharf(&["get", "nodes", "-o", "json"]);
            let seen: serde_json::Value = serde_json::from_str(&nodes.stdout).unwrap_or_default();
            if seen[0]["state"] == "ready" { Ok(()) } else { Err(nodes) }
        });
        write(round, 1 + dice.roll(4) as u32);
        let mut apply = cluster.command(&["apply", "-f", path.to_str().expect("UTF-8")]);
        let mut apply = apply
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the CLI");
        std::thread::sleep(Duration::from_millis(dice.roll(moments)));
        match dice.roll(3) {
            0 => cluster.kill("server"),
            1 => cluster.kill("agent"),
            _ => {
                cluster.kill("server");
                cluster.kill("agent");
            }
        }
        if apply.wait().expect("the CLI ends").success() {
            acknowledged = round;
        }
    }
    println!("kills within {moments} ms; the last acknowledged apply is number {acknowledged}");
    assert_ne!(acknowledged, 0, "no apply was answered before the kill");
    // The last word is said when all is calm; whatever was acknowledged before must be in its past.
    let last = wait_for("the control plane to be back", Duration::from_secs(60), || {
        let service = cluster.wharf(&["get", "services", "web", "-o", "json"]);
        serde_json::from_str::<serde_json::Value>(&service.stdout)
            .map_err(|error| (error.to_string(), service))
    });
    let version = last["spec"]["env"]["HELLO_VERSION"].as_str().unwrap_or_default().to_owned();
    let number: u32 = version.trim_start_matches('v').parse().unwrap_or_default();
    assert!(number >= acknowledged, "apply {acknowledged} was acknowledged, the state says {version:?}");
    wait_for("convergence", Duration::from_secs(120), || converged(&cluster));
    cluster.end();
}

/// Exactly the wanted number of replicas of the wanted revision, and no container process beside them.
fn converged(cluster: &Cluster) -> Result<(), String> {
    let service = cluster.wharf(&["get", "services", "web", "-o", "json"]);
    let service: serde_json::Value =
        serde_json::from_str(&service.stdout).map_err(|error| error.to_string())?;
    let wanted = service["spec"]["replicas"].as_u64().unwrap_or(1);
    let status = &service["status"];
    let replicas = status["replicas"].as_array().map_or(0, Vec::len) as u64;
    if status["ready"] != wanted || status["upToDate"] != wanted || replicas != wanted {
        return Err(format!("{status:#}"));
    }
    let told: BTreeSet<i32> = cluster.pids("web").into_iter().collect();
    let hello = |process: &leftovers::Process| process.command.starts_with("/wharf hello");
    let found: BTreeSet<i32> =
        leftovers::processes().into_iter().filter(hello).map(|process| process.pid).collect();
    if told.len() as u64 == wanted && found.len() as u64 == wanted {
        Ok(())
    } else {
        Err(format!("told {told:?}, found {found:?}"))
    }
}

#[test]
fn a_launcher_that_was_killed_costs_no_container_and_no_start() {
    let cluster = Cluster::start();
    assert_eq!(cluster.apply("web", &hello(3, ONE, "", "")).code, 0);
    let before = cluster.pids("web");
    for round in 1..=3 {
        let replicas = 3 + 2 * round;
        std::fs::write(cluster.folder().join("web.yaml"), hello(replicas, ONE, "", ""))
            .expect("the manifest");
        let path = cluster.folder().join("web.yaml");
        cluster.ok(&["apply", "-f", path.to_str().expect("UTF-8")]);
        // In the middle of starting the new ones.
        for agent in cluster.daemons("agent") {
            let children = leftovers::processes().into_iter().filter(|process| process.parent == agent);
            children.for_each(|launcher| tests::cluster::kill_9(launcher.pid));
        }
        wait_for("every replica to be ready", Duration::from_secs(30), || {
            let ready = cluster.service("web")["status"]["ready"].clone();
            let all = ready == replicas && cluster.pids("web").len() == replicas as usize;
            if all { Ok(()) } else { Err((ready, cluster.log("agent.log"))) }
        });
        let now: BTreeSet<i32> = cluster.pids("web").into_iter().collect();
        assert!(before.iter().all(|pid| now.contains(pid)), "containers were restarted: {before:?}, {now:?}");
        let description = cluster.ok(&["describe", "web"]);
        assert!(!description.contains("last exit"), "a start was held against a replica: {description}");
    }
    assert!(cluster.log("agent.log").contains("launcher"), "{}", cluster.log("agent.log"));
    cluster.end();
}
