//! Three machines with kernels of their own are a cluster: one loses its power while there is no server at all, then the
//! one whose server leads, and then everything else befalls the leader, under a load.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{
    vm::{Fleet, address},
    wait_for,
};

use crate::faults;

/// After 15 seconds a node is lost; the rest is what the emulation takes.
const REPLACED: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(90);

fn service(fleet: &Fleet, machine: u8) -> Value {
    let told = fleet.wharf(machine, "get services hello -o json").output;
    serde_json::from_str(&told).unwrap_or_default()
}

/// The nodes of the replicas that are ready.
fn nodes(service: &Value) -> Vec<String> {
    let replicas = service["status"]["replicas"].as_array().cloned().unwrap_or_default();
    let ready = replicas.iter().filter(|replica| replica["ready"] == true && replica["desired"] != "stopped");
    ready.filter_map(|replica| Some(replica["node"].as_str()?.to_owned())).collect()
}

/// One fleet for all of it: most of the time goes into starting it.
#[test]
fn machines_are_lost_and_come_back() {
    let began = Instant::now();
    let fleet = Fleet::start(3);
    println!("three machines are a cluster after {:?}", began.elapsed());
    fleet.ok(1, "apply --wait --timeout 2m -f /root/hello.yaml");
    let mut at_first = nodes(&service(&fleet, 1));
    at_first.sort();
    assert_eq!(at_first, ["vm-1", "vm-2", "vm-3"]);
    for machine in fleet.all() {
        let body = fleet.machine(machine).ok(&format!("wget -q -O - http://{}:8080/", address(machine)));
        assert!(body.contains("hello from hello-"), "{body}");
    }
    a_machine_while_there_is_no_server(&fleet);
    println!("a machine came back without any server, and then these, after {:?}", began.elapsed());
    the_machine_of_the_leader(&fleet);
    println!("the machine of the leader came back, after {:?}", began.elapsed());
    faults::the_leader_under_a_load(&fleet);
    println!("it ended after {:?}", began.elapsed());
}

fn the_machine_of_the_leader(fleet: &Fleet) {
    let lost = fleet.leader(1);
    let other = lost % 3 + 1;
    fleet.kill(lost);
    let killed = Instant::now();
    fleet.ok(other, &format!("node label vm-{other} seen=yes"));
    println!("machine {lost} led; a write is acknowledged again after {:?}", killed.elapsed());
    wait_for("replicas in place of the lost one", REPLACED, || {
        let seen = service(fleet, other);
        let nodes = nodes(&seen);
        let is_elsewhere = nodes.len() == 3 && !nodes.contains(&format!("vm-{lost}"));
        if is_elsewhere { Ok(()) } else { Err(seen) }
    });
    println!("its replica is replaced after {:?}", killed.elapsed());
    fleet.ok(other, "scale hello --replicas 2 --wait");

    fleet.boot(lost);
    fleet.wait_until_up();
    // It knows what was decided without it, and takes part in what is decided now.
    assert_eq!(service(fleet, lost)["spec"]["replicas"], 2);
    fleet.ok(lost, "scale hello --replicas 3 --wait");
}

/// What its agent has written down is all that it has; so it is with what the others know of it.
fn a_machine_while_there_is_no_server(fleet: &Fleet) {
    let (lost, other) = (2, 3);
    let before = Seen::by(fleet, other);
    let all: BTreeSet<String> = before.replicas.iter().map(|replica| replica.id.clone()).collect();
    let its = before.on(lost);
    let untouched = containers(fleet, other);
    for machine in fleet.all() {
        fleet.kill_server(machine);
    }
    fleet.kill(lost);
    fleet.machine(lost).boot();
    fleet.work(lost);
    // Only what is ready gets traffic, and the others were told no other address.
    for machine in [lost, other] {
        wait_for_answers(fleet, machine, &all);
    }
    let body = fleet.machine(lost).ok(&format!("wget -q -O - http://{}:8080/", its.address));
    assert!(body.contains(&its.id), "{its:?} has lost its address: {body}");

    // It is looked after as ever.
    let [booted] = &containers(fleet, lost)[..] else { panic!("one container: {}", fleet.logs(lost)) };
    fleet.machine(lost).ok(&format!("kill -9 {}", booted.pid));
    let container =
        wait_for("the killed container to run again", SOON, || match &containers(fleet, lost)[..] {
            [again] if again.attempt > booted.attempt => Ok(again.clone()),
            others => Err(format!("{others:?}\n{}", fleet.logs(lost))),
        });
    wait_for_answers(fleet, lost, &all);

    for machine in fleet.all() {
        fleet.serve(machine);
    }
    fleet.wait_until_up();
    // Whatever the new leader made of what it was told has been decided before this is done.
    fleet.ok(other, "scale hello --replicas 4 --wait --timeout 2m");
    assert!(containers(fleet, lost).contains(&container), "it was restarted: {}", fleet.logs(lost));
    assert!(untouched.iter().all(|container| containers(fleet, other).contains(container)));
    let after = Seen::by(fleet, other);
    for was in &before.replicas {
        let ended = if was.id == its.id { 2 } else { 0 };
        let is = after.replicas.iter().find(|replica| replica.id == was.id).expect("no replica is replaced");
        let expected =
            Replica { restarts: was.restarts + ended, told_ends: was.told_ends + ended, ..was.clone() };
        assert_eq!(*is, expected, "{after:#?}");
    }
    fleet.ok(other, "scale hello --replicas 3 --wait");
}

/// What the control plane says of the service.
#[derive(Debug)]
struct Seen {
    replicas: Vec<Replica>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Replica {
    id: String,
    node: String,
    address: String,
    restarts: u64,
    /// How many events tell of a container of it that ended.
    told_ends: u64,
}

impl Seen {
    /// Once all of them are ready.
    fn by(fleet: &Fleet, machine: u8) -> Seen {
        let service = wait_for("all replicas to be ready", SOON, || {
            let service = service(fleet, machine);
            let is_ready = service["status"]["ready"] == service["spec"]["replicas"];
            if is_ready { Ok(service) } else { Err(service) }
        });
        let events = fleet.ok(machine, "events hello");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let replica = |replica: &Value| {
            let id = text(&replica["id"]);
            let told_ends = events.matches(&format!("container main of replica {id} ended")).count() as u64;
            let (node, address) = (text(&replica["node"]), text(&replica["address"]));
            let restarts = replica["restarts"].as_u64().unwrap_or_default();
            Replica { id, node, address, restarts, told_ends }
        };
        let replicas = service["status"]["replicas"].as_array().into_iter().flatten();
        Seen { replicas: replicas.filter(|replica| replica["desired"] != "stopped").map(replica).collect() }
    }

    fn on(&self, machine: u8) -> &Replica {
        let node = format!("vm-{machine}");
        self.replicas.iter().find(|replica| replica.node == node).expect("a replica on each machine")
    }
}

/// A container as its machine sees it. No attempt of a replica has the number of another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Container {
    replica: String,
    attempt: u32,
    pid: u32,
}

fn containers(fleet: &Fleet, machine: u8) -> Vec<Container> {
    // `wharf-keeper REPLICA.CONTAINER.ATTEMPT PID ...`
    let keepers = fleet.machine(machine).ok("ps -o args | grep ^wharf-keeper; true");
    let container = |keeper: &str| {
        let mut words = keeper.split(' ').skip(1);
        let (name, pid) = (words.next()?, words.next()?.parse().ok()?);
        let (replica, attempt) = (name.split('.').next()?.to_owned(), name.split('.').nth(2)?.parse().ok()?);
        Some(Container { replica, attempt, pid })
    };
    keepers.lines().map(|keeper| container(keeper).expect("what a keeper is called")).collect()
}

/// Waits until the published port of a machine has been answered by exactly these replicas, each in its turn.
fn wait_for_answers(fleet: &Fleet, machine: u8, replicas: &BTreeSet<String>) {
    let ask = format!(
        "for turn in 1 2 3; do timeout 10 wget -q -O - http://{}:8080/ || exit; done",
        address(machine)
    );
    wait_for(&format!("all replicas to answer on machine {machine}"), SOON, || {
        let ran = fleet.machine(machine).run(&ask);
        let by = |line: &str| line.rsplit_once(' ').map(|(_, replica)| replica.to_owned());
        let answered: BTreeSet<String> = ran.output.lines().filter_map(by).collect();
        if answered == *replicas { Ok(()) } else { Err(format!("{ran:?}\n{}", fleet.logs(machine))) }
    });
}
