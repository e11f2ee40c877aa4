//! What befalls a server under a load of writes: nothing that was acknowledged is lost, and all answers fit into one story.
//!
//! As on the hosts of `several_hosts`, but with kernels and disks of their own, and the clients outside: a server that is
//! cut off from the others is still asked.

use std::time::{Duration, Instant};

use tests::{
    registers::{Pace, Registers},
    vm::Fleet,
    wait_for,
};

/// Two seconds on hosts that are not emulated.
const WRITES_AGAIN: Duration = Duration::from_secs(10);
const LASTS: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_secs(90);

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Stop,
    Cut,
    /// Of the disk.
    Full,
    /// Of the machine.
    PowerLoss,
}

const FAULTS: [Fault; 5] = [Fault::Kill, Fault::Stop, Fault::Cut, Fault::Full, Fault::PowerLoss];

impl Fault {
    /// When it happened.
    fn begin(self, fleet: &Fleet, machine: u8) -> Instant {
        match self {
            Fault::Kill => fleet.kill_server(machine),
            Fault::Stop => fleet.signal_server(machine, "STOP"),
            Fault::Cut => fleet.cut(machine),
            Fault::Full => fill(fleet, machine),
            Fault::PowerLoss => fleet.kill(machine),
        }
        Instant::now()
    }

    fn end(self, fleet: &Fleet, machine: u8) {
        match self {
            Fault::Kill => fleet.serve(machine),
            Fault::Stop => fleet.signal_server(machine, "CONT"),
            Fault::Cut => fleet.mend(machine),
            Fault::Full => fleet.make_room(machine),
            Fault::PowerLoss => fleet.boot(machine),
        }
    }
}

/// Until the server of the machine hands over: it notices when it needs another file for its log.
fn fill(fleet: &Fleet, machine: u8) {
    const LARGE: &str = "cat >/tmp/large.yaml <<END
apiVersion: wharf/v1
kind: Service
metadata: {name: large}
spec:
  replicas: 0
  image: wharf.local/hello:1
  env: {ROUND: \"$(date +%s)\", LARGE: \"$(seq -s , 10000)\"}
END
wharf apply -f /tmp/large.yaml";
    fleet.fill(machine);
    let other = machine % 3 + 1;
    wait_for("the server whose disk is full to hand over", SOON, || {
        let wrote = fleet.machine(other).run(LARGE);
        if fleet.leader(other) == machine { Err((wrote, fleet.logs(machine))) } else { Ok(()) }
    });
}

pub fn the_leader_under_a_load(fleet: &Fleet) {
    let registers = Registers::start(fleet.servers(), Pace::LEISURELY, "vm-1");
    for fault in FAULTS {
        let leader = fleet.leader(1);
        let began = fault.begin(fleet, leader);
        let silence = registers.writes_again(began);
        println!("machine {leader} leads: {fault:?}: a write is acknowledged again after {silence:?}");
        assert!(silence < WRITES_AGAIN, "{fault:?}: {silence:?}");
        // It lasts for a while: what is wrong then has time to show in the story.
        wait_for("the fault to have lasted", LASTS * 2, || {
            if began.elapsed() < LASTS { Err(()) } else { Ok(()) }
        });
        fault.end(fleet, leader);
        fleet.wait_until_up();
    }
    println!("{:?}", registers.stop());
}
