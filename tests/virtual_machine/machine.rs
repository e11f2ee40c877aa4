//! The machines themselves: what the other tests rely on.

use std::time::Duration;

use tests::{
    vm::{Machine, Network},
    wait_for,
};

#[test]
fn scripts_tell_their_exit_code_and_everything_they_print() {
    let machine = Machine::builder("scripts").start();
    let ran = machine.run("echo out; echo err >&2; (exit 3)");
    assert_eq!((ran.code, ran.output.as_str()), (3, "out\nerr\n"));
    assert_eq!(machine.ok("true"), "");
    let million = machine.ok("yes 0123456 | head -c 1000000");
    assert_eq!((million.len(), &million[999_992..]), (1_000_000, "0123456\n"));
    // What one script leaves running does not disturb the next.
    machine.ok("(while :; do echo noise; sleep 0.01; done) & echo $! >/run/noise");
    assert_eq!(machine.ok("sleep 0.1; echo quiet"), "quiet\n");
    machine.ok("kill $(cat /run/noise)");
    assert_eq!(machine.ok("hostname"), "scripts\n");
}

#[test]
fn what_was_synced_survives_the_loss_of_power() {
    let machine = Machine::builder("power").disk_mib(64).start();
    machine.ok("echo kept >/var/lib/kept; sync; echo lost >/root/lost");
    machine.kill();
    machine.boot();
    assert_eq!(machine.ok("cat /var/lib/kept; ls /root"), "kept\n");
}

#[test]
fn two_machines_reach_each_other_while_the_cable_is_plugged_in() {
    let network = Network::new().expect("a network");
    // Both boot at once, which is what a larger cluster does.
    let (one, two) = std::thread::scope(|scope| {
        let start = |name: &'static str, address: &'static str| {
            let network = &network;
            scope.spawn(move || Machine::builder(name).connect(network, address).start())
        };
        let (one, two) = (start("one", "10.77.0.1/24"), start("two", "10.77.0.2/24"));
        (one.join().expect("the first machine"), two.join().expect("the second machine"))
    });
    let reaches = |from: &Machine, to: &str, expected: i32| {
        wait_for("a ping to end as it must", Duration::from_secs(30), || {
            let ping = from.run(&format!("ping -c 1 -W 1 {to}"));
            if ping.code == expected { Ok(()) } else { Err(ping) }
        });
    };
    reaches(&one, "10.77.0.2", 0);
    reaches(&two, "10.77.0.1", 0);
    two.cable().pull();
    reaches(&one, "10.77.0.2", 1);
    two.cable().plug_in();
    reaches(&two, "10.77.0.1", 0);

    // A connection carries what a cluster's would: some megabytes, unharmed.
    let sum = "md5sum /usr/bin/wharf | cut -c 1-32";
    two.ok("httpd -p 9000 -h /usr/bin");
    let received = one.ok("wget -q -O - http://10.77.0.2:9000/wharf | md5sum | cut -c 1-32");
    assert_eq!(received, two.ok(sum));
    two.kill();
    reaches(&one, "10.77.0.2", 1);
}
