//! One server at a time is lost, stopped or cut off, and its agents with it: writes go on, none that was acknowledged is
//! lost, every answer fits into one story, and no container is restarted.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::{
    Hosts,
    cluster::{kill_9, signal},
    hosts::Cut,
    registers::{Pace, Registers, Servers},
    wait_for,
};

use crate::{hello, pids};

/// What a user is promised.
const WRITES_AGAIN: Duration = Duration::from_secs(2);
/// Less than what makes a node lost.
const LASTS: Duration = Duration::from_secs(3);

/// What befalls a host.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Stop,
    Cut(Cut),
}

/// Whose server it is.
#[derive(Clone, Copy, Debug)]
enum Whose {
    Leader,
    Follower,
}

const FAULTS: [(Whose, Fault); 9] = [
    (Whose::Leader, Fault::Kill),
    (Whose::Follower, Fault::Kill),
    (Whose::Leader, Fault::Stop),
    (Whose::Follower, Fault::Stop),
    (Whose::Leader, Fault::Cut(Cut::Both)),
    (Whose::Follower, Fault::Cut(Cut::Both)),
    (Whose::Leader, Fault::Cut(Cut::In)),
    (Whose::Leader, Fault::Cut(Cut::Out)),
    (Whose::Follower, Fault::Cut(Cut::Out)),
];

impl Fault {
    /// When it happened.
    fn begin(self, hosts: &Hosts, host: u8) -> (Instant, i32) {
        let server = hosts.server(host);
        match self {
            Fault::Kill => kill_9(server),
            Fault::Stop => signal(server, Signal::STOP),
            Fault::Cut(cut) => hosts.cut(host, cut),
        }
        (Instant::now(), server)
    }

    fn end(self, hosts: &Hosts, host: u8, server: i32) {
        match self {
            // `wharf dev` has started another one.
            Fault::Kill => {}
            Fault::Stop => signal(server, Signal::CONT),
            Fault::Cut(_) => hosts.mend(host),
        }
    }
}

#[test]
fn a_server_at_a_time_may_be_lost_stopped_or_cut_off() {
    let hosts = Hosts::start(3);
    let before = hello(&hosts);
    let registers = Registers::start(Servers::at_sockets(hosts.sockets()), Pace::LIVELY, "host-1");
    for (whose, fault) in FAULTS {
        let leader = hosts.leader();
        let host = match whose {
            Whose::Leader => leader,
            Whose::Follower => leader % 3 + 1,
        };
        let (began, server) = fault.begin(&hosts, host);
        let silence = registers.writes_again(began);
        println!("{whose:?} on host {host}: {fault:?}: a write is acknowledged again after {silence:?}");
        assert!(silence < WRITES_AGAIN, "{whose:?} {fault:?}: {silence:?}");
        // It lasts for a while: what is wrong then has time to show in the story.
        wait_for("the fault to have lasted", LASTS * 2, || {
            if began.elapsed() < LASTS { Err(()) } else { Ok(()) }
        });
        fault.end(&hosts, host, server);
        hosts.wait_until_all_answer();
    }
    for host in hosts.all() {
        kill_9(hosts.agent(host));
    }
    wait_for_nodes(&hosts);
    println!("{:?}", registers.stop());
    assert_eq!(pids(&hosts), before);
    hosts.end();
}

fn wait_for_nodes(hosts: &Hosts) {
    wait_for("the nodes", Duration::from_secs(60), || {
        let nodes = hosts.cluster.wharf(&["get", "nodes"]).stdout;
        if nodes.matches(" ready ").count() == 3 { Ok(()) } else { Err(nodes) }
    });
}
