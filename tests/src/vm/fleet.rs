//! Several machines that are one cluster, formed as an administrator does it: `wharf cluster init` on the first,
//! `wharf join` on the others, a server and an agent on each.
//!
//! Machines are called by their numbers, from 1. `cargo run -p tests --bin fleet` starts one to play with.

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use super::{Machine, Network, Ran};
use crate::{registers::Servers, wait_for};

/// Making the demo image takes longest.
const UP: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(90);
const DISK_MIB: u32 = 1024;
/// Where servers listen.
const PORT: u16 = 7400;

#[derive(Debug)]
pub struct Fleet {
    machines: Vec<Machine>,
    _network: Network,
}

impl Fleet {
    /// Completes when all servers vote and all nodes are ready.
    pub fn start(count: u8) -> Fleet {
        let network = Network::new().expect("a network");
        let start = |number: u8| {
            let machine = Machine::builder(&name(number)).disk_mib(DISK_MIB).memory_mib(1024);
            let machine = machine.file("/root/hello.yaml", include_str!("../../../manifests/hello.yaml"));
            machine.connect(&network, &format!("{}/24", address(number))).forward(PORT).start()
        };
        let machines = at_once(1..=count, start);
        let fleet = Fleet { machines, _network: network };
        fleet.machine(1).ok(&format!("wharf cluster init --advertise {}:{PORT}", address(1)));
        fleet.serve(1);
        let [servers, agents] = ["server", "agent"].map(|role| {
            let create = format!("wharf cluster token create --role {role}");
            fleet.wait_for_output(1, &create, |token| token.starts_with("wharf_join_"))
        });
        at_once(1..=count, |number| {
            if number > 1 {
                fleet.join(number, servers.trim());
                fleet.serve(number);
            }
            fleet.join(number, agents.trim());
            fleet.work(number);
        });
        fleet.wait_until_up();
        fleet
    }

    pub fn all(&self) -> RangeInclusive<u8> {
        1..=self.machines.len() as u8
    }

    pub fn machine(&self, number: u8) -> &Machine {
        &self.machines[usize::from(number) - 1]
    }

    fn join(&self, number: u8, token: &str) {
        let advertise = format!("{}:{PORT}", address(number));
        let advertise =
            if token.contains("_server_") { format!("--advertise {advertise}") } else { String::new() };
        self.machine(number).ok(&format!("wharf join --token {token} {advertise} {}:{PORT}", address(1)));
    }

    /// Starts its server.
    pub fn serve(&self, number: u8) {
        self.machine(number).ok("wharf server >>/var/log/server.log 2>&1 & echo $! >/run/server.pid");
    }

    /// `kill -9` of its server, and of nothing else.
    pub fn kill_server(&self, number: u8) {
        self.signal_server(number, "KILL");
    }

    /// Sends its server a signal, by name.
    pub fn signal_server(&self, number: u8, signal: &str) {
        self.machine(number).ok(&format!("kill -{signal} $(cat /run/server.pid)"));
    }

    /// Drops every packet between it and the other machines. This host reaches it as before.
    pub fn cut(&self, number: u8) {
        const RULES: &str = "nft -f - <<END
table inet cut {
    chain input { type filter hook input priority -300; iifname eth0 drop; }
    chain output { type filter hook output priority -300; oifname eth0 drop; }
}
END";
        self.machine(number).ok(RULES);
    }

    pub fn mend(&self, number: u8) {
        self.machine(number).ok("nft delete table inet cut");
    }

    /// Leaves no room on its disk.
    pub fn fill(&self, number: u8) {
        let fill =
            "cd /var; for size in 1M 4k; do dd if=/dev/zero bs=$size >>ballast 2>/dev/null; done; true";
        self.machine(number).ok(fill);
    }

    pub fn make_room(&self, number: u8) {
        self.machine(number).ok("rm /var/ballast");
    }

    /// All of them, as this host reaches them.
    pub fn servers(&self) -> Servers {
        let token = self.ok(1, "token create tests --role admin");
        let token = token.lines().find(|line| line.starts_with("wharf_access_")).expect("a token");
        let addresses: Vec<SocketAddr> = self.machines.iter().map(Machine::forwarded).collect();
        Servers::with_token(token, &addresses)
    }

    /// Starts its agent.
    pub fn work(&self, number: u8) {
        self.machine(number).ok("wharf agent >>/var/log/agent.log 2>&1 &");
    }

    /// Takes its power away.
    pub fn kill(&self, number: u8) {
        self.machine(number).kill();
    }

    /// Gives it its power back, and starts what an administrator has set to start.
    pub fn boot(&self, number: u8) {
        self.machine(number).boot();
        self.serve(number);
        self.work(number);
    }

    /// Asks the server of this machine.
    pub fn wharf(&self, number: u8, arguments: &str) -> Ran {
        self.machine(number).run(&format!("wharf {arguments}"))
    }

    /// The same, for what must succeed.
    pub fn ok(&self, number: u8, arguments: &str) -> String {
        let ran = self.wharf(number, arguments);
        assert_eq!(
            ran.code,
            0,
            "wharf {arguments} on machine {number}: {}\n{}",
            ran.output,
            self.logs(number)
        );
        ran.output
    }

    /// Runs a script there until it succeeds and says what is hoped for.
    pub fn wait_for_output(&self, number: u8, script: &str, hoped: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + SOON;
        loop {
            let ran = self.machine(number).run(script);
            if ran.code == 0 && hoped(&ran.output) {
                return ran.output;
            }
            assert!(Instant::now() < until, "{script} on machine {number}: {ran:?}\n{}", self.logs(number));
        }
    }

    /// The machine whose server leads, as this one sees it.
    pub fn leader(&self, seen_by: u8) -> u8 {
        wait_for("a leader", SOON, || {
            let seen = self.wharf(seen_by, "cluster status").output;
            let leader = seen.lines().find_map(|line| line.strip_prefix("leader "));
            let number = leader.and_then(|leader| leader.trim().strip_prefix("vm-")?.parse().ok());
            number.ok_or(seen)
        })
    }

    /// Waits until all servers vote and all nodes are ready.
    pub fn wait_until_up(&self) {
        let count = self.machines.len();
        wait_for("all servers and agents", UP, || {
            let seen = self.machine(1).run("wharf cluster members; wharf get nodes").output;
            let (voters, ready) = (seen.matches(" voter").count(), seen.matches(" ready ").count());
            if voters == count && ready == count { Ok(()) } else { Err(format!("{seen}\n{}", self.logs(1))) }
        });
    }

    /// What the daemons of a machine said last.
    pub fn logs(&self, number: u8) -> String {
        self.machine(number).run("cd /var/log; tail -n 30 server.log agent.log").output
    }
}

fn name(number: u8) -> String {
    format!("vm-{number}")
}

/// Where it is in the machines' own network.
pub fn address(number: u8) -> String {
    format!("10.77.0.{number}")
}

fn at_once<T: Send>(numbers: RangeInclusive<u8>, work: impl Fn(u8) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = numbers.map(|number| scope.spawn(move || work(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a machine")).collect()
    })
}
