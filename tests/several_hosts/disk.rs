//! The disk of a server is full.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use tests::{
    Hosts,
    registers::{Pace, Registers, Servers},
    wait_for,
};

use crate::{hello, pids};

const WRITES_AGAIN: Duration = Duration::from_secs(5);

/// Leaves nothing.
fn fill(disk: &Path) {
    let mut ballast = File::create(disk.join("ballast")).expect("a file");
    for size in [1 << 20, 1 << 12] {
        let zeros = vec![0; size];
        loop {
            match ballast.write_all(&zeros) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Makes the log longer, for it notices a full disk when it needs another file.
fn write_much(hosts: &Hosts, round: u32) {
    let text = format!(
        "apiVersion: wharf/v1\nkind: Service\nmetadata: {{name: ballast}}\nspec:\n  replicas: 0\n  \
         image: wharf.local/hello:1\n  env: {{ROUND: \"{round}\", BALLAST: \"{}\"}}\n",
        "x".repeat(60_000)
    );
    let path = hosts.cluster.folder().join("ballast.yaml");
    std::fs::write(&path, text).expect("a manifest");
    hosts.ask(1, &["apply", "-f", path.to_str().unwrap_or_default()]);
}

#[test]
fn a_leader_whose_disk_is_full_loses_nothing_and_holds_nobody_up() {
    const FULL: &str = "nothing can be written until there is room";
    let hosts = Hosts::start_with_small_disk(3, 3, 24);
    let before = hello(&hosts);
    let registers = Registers::start(Servers::at_sockets(hosts.sockets()), Pace::LIVELY, "host-1");
    hosts.cluster.ok(&["cluster", "transfer-leader", "host-3"]);
    assert_eq!(hosts.leader(), 3);
    fill(hosts.small_disk());
    let mut round = 0;
    wait_for("the server to notice", Duration::from_secs(60), || {
        round += 1;
        write_much(&hosts, round);
        let log = hosts.log(3, "server");
        if log.contains(FULL) { Ok(()) } else { Err(round) }
    });
    let noticed = Instant::now();
    let silence = registers.writes_again(noticed);
    println!("full after {round} large writes; a write is acknowledged again after {silence:?}");
    assert!(silence < WRITES_AGAIN, "{silence:?}");
    assert_ne!(hosts.leader(), 3);
    std::fs::remove_file(hosts.small_disk().join("ballast")).expect("the ballast");
    wait_for("the server to go on", Duration::from_secs(60), || {
        let log = hosts.log(3, "server");
        if log.contains("there is room again") { Ok(()) } else { Err(log) }
    });
    hosts.wait_until_all_answer();
    hosts.cluster.ok(&["cluster", "transfer-leader", "host-3"]);
    println!("{:?}", registers.stop());
    assert_eq!(pids(&hosts), before);
    hosts.end();
}
