//! Three machines with kernels of their own are a cluster, and the one whose server leads loses its power.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::{
    vm::{Fleet, address},
    wait_for,
};

/// After 15 seconds a node is lost; the rest is what the emulation takes.
const REPLACED: Duration = Duration::from_secs(120);

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

#[test]
fn the_machine_of_the_leader_loses_its_power_and_comes_back() {
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

    let lost = fleet.leader(1);
    let other = lost % 3 + 1;
    fleet.kill(lost);
    let killed = Instant::now();
    fleet.ok(other, &format!("node label vm-{other} seen=yes"));
    println!("machine {lost} led; a write is acknowledged again after {:?}", killed.elapsed());
    wait_for("replicas in place of the lost one", REPLACED, || {
        let seen = service(&fleet, other);
        let nodes = nodes(&seen);
        let is_elsewhere = nodes.len() == 3 && !nodes.contains(&format!("vm-{lost}"));
        if is_elsewhere { Ok(()) } else { Err(seen) }
    });
    println!("its replica is replaced after {:?}", killed.elapsed());
    fleet.ok(other, "scale hello --replicas 2 --wait");

    fleet.boot(lost);
    fleet.wait_until_up();
    // It knows what was decided without it, and takes part in what is decided now.
    assert_eq!(service(&fleet, lost)["spec"]["replicas"], 2);
    fleet.ok(lost, "scale hello --replicas 3 --wait");
    println!("it is back, and all took {:?}", began.elapsed());
}
