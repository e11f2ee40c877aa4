//! Death at any moment, and what is left afterwards: nothing that the next start does not find.

use std::{
    io::{BufRead, BufReader},
    net::Ipv4Addr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use network::{Addresses, Config, Network, Protocol, Published};

use crate::stage::{HOST, OUTER, ask, enter, ip, links, mounts, on_stage, published, run, serve, until};

const NAME: &str = "WHARF_TEST_NAME";
const STATE: &str = "WHARF_TEST_STATE";

/// Not a test: what the tests below run as a process of its own, and kill.
#[test]
#[ignore = "run by the crash tests, as a process that is killed"]
fn victim() {
    let subnet = "10.77.0.0/16".parse().unwrap();
    let mut config = Config::new(std::env::var(NAME).unwrap(), subnet, std::env::var(STATE).unwrap());
    config.warm = 2;
    let network = Network::open(config).unwrap();
    let mut addresses = Addresses::new(subnet);
    for (id, address) in network.sandboxes().unwrap() {
        addresses.reserve(&id, address).unwrap();
    }
    println!("victim: opened");
    for round in 0u64.. {
        let id = format!("victim-{}-{}", std::process::id(), round);
        let sandbox = network.create_sandbox(&id, addresses.allocate(&id).unwrap()).unwrap();
        let backends = (0..round % 5).map(|port| (sandbox.address, 8080 + port as u16)).collect::<Vec<_>>();
        let all = [Protocol::Tcp, Protocol::Udp].map(|protocol| {
            let backends = backends.clone();
            Published { port: 1000 + (round % 7) as u16, protocol, backends }
        });
        network.publish(&all).unwrap();
        if round % 3 != 0 {
            network.remove_sandbox(&id).unwrap();
            addresses.release(&id);
        }
    }
}

fn kill_after(config: &Config, opened: bool, delay: Duration) {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["crash::victim", "--exact", "--ignored", "--nocapture"])
        .env(NAME, &config.name)
        .env(STATE, &config.state_dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    if opened {
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let line = lines.map_while(Result::ok).find(|line| line.contains("victim: opened"));
        assert!(line.is_some(), "the victim ended by itself");
    }
    // Not a wait for something: the moment of death is what varies.
    let death = Instant::now() + delay;
    while Instant::now() < death {
        std::thread::yield_now();
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
}

#[test]
fn after_a_kill_at_any_moment_teardown_leaves_nothing() {
    on_stage(|stage| {
        let config = &stage.config;
        for round in 0..40u32 {
            // A quarter die while they open, the others at work.
            kill_after(config, round % 4 != 0, Duration::from_micros(u64::from(round) * 737));
            if round % 5 == 4 {
                let network = stage.open();
                assert_eq!(network.sandboxes().unwrap().len(), mounts(&config.state_dir).len());
                network.teardown().unwrap();
                nothing_is_left(config);
            }
        }
    });
}

fn nothing_is_left(config: &Config) {
    // Cables of namespaces that died with the process go when the kernel gets to it.
    until("an empty host", links, Vec::is_empty);
    assert_eq!(mounts(&config.state_dir), Vec::<std::path::PathBuf>::new());
    assert!(!config.state_dir.exists());
    assert_eq!(run("nft", "list ruleset"), "");
}

#[test]
fn what_survives_a_crash_works() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 2);
        network.publish(&[published(Protocol::Tcp, &sandboxes)]).unwrap();
        drop(network);
        kill_after(&stage.config, true, Duration::from_millis(20));
        let network = stage.open();
        network.publish(&[published(Protocol::Tcp, &sandboxes)]).unwrap();
        let seen = stage.outside.run(|| (0..4).map(|_| ask((HOST, OUTER)).unwrap().name).collect::<String>());
        assert_eq!(seen, "abab");
        network.teardown().unwrap();
        nothing_is_left(&stage.config);
    });
}

#[test]
fn two_hundred_sandboxes_come_go_and_reuse_addresses() {
    on_stage(|stage| {
        let mut network = stage.open();
        for warm in [0, 5] {
            drop(network);
            let mut config = stage.config.clone();
            config.warm = warm;
            network = Network::open(config).unwrap();
            let addresses: Vec<_> = (0..200).map(|last| Ipv4Addr::new(10, 77, 1, last)).collect();
            for address in &addresses {
                network.create_sandbox(&address.to_string(), *address).unwrap();
            }
            assert_eq!(network.sandboxes().unwrap().len(), 200);
            let sandbox = network.create_sandbox("10.77.1.7", addresses[7]).unwrap();
            enter(&sandbox.netns, || serve("seven"));
            assert_eq!(ask((addresses[7], 8080)).unwrap().name, "seven");
            // The same address again at once, in a new sandbox: whoever remembers the old one's is right.
            let client = network.create_sandbox("10.77.1.9", addresses[9]).unwrap();
            assert_eq!(enter(&client.netns, || ask((addresses[7], 8080))).unwrap().name, "seven");
            network.remove_sandbox("10.77.1.7").unwrap();
            let again = network.create_sandbox("again", addresses[7]).unwrap();
            enter(&again.netns, || serve("again"));
            assert_eq!(enter(&client.netns, || ask((addresses[7], 8080))).unwrap().name, "again");
            for (id, _) in network.sandboxes().unwrap() {
                network.remove_sandbox(&id).unwrap();
                network.remove_sandbox(&id).unwrap();
            }
            assert_eq!(mounts(&stage.config.state_dir).len(), 0);
        }
        network.teardown().unwrap();
        network.teardown().unwrap();
        nothing_is_left(&stage.config);
    });
}

#[test]
fn sandboxes_from_before_the_overlay_send_packets_that_fit_into_it() {
    on_stage(|stage| {
        let before = stage.open();
        let old = stage.troupe(&before, 1).remove(0);
        let sizes = |network: &str| {
            let inside = enter(&old.netns, || ip("link show eth0"));
            let ports = ip(&format!("link show master {network} type veth"));
            (inside.contains("mtu 1400"), ports.contains("mtu 1400"))
        };
        let bridge = ip("-o link show type bridge");
        let bridge = bridge.split(':').nth(1).unwrap().trim().to_owned();
        assert_eq!(sizes(&bridge), (false, false));
        drop(before);
        let mut config = stage.config.clone();
        config.mtu = Some(1400);
        let network = Network::open(config).unwrap();
        assert_eq!(sizes(&bridge), (true, true));
        assert_eq!(network.create_sandbox("a", old.address).unwrap(), old);
    });
}

#[test]
fn a_sandbox_is_complete_when_it_appears() {
    on_stage(|stage| {
        let mut config = stage.config.clone();
        config.mtu = Some(1400);
        let network = Network::open(config).unwrap();
        let sandbox = network.create_sandbox("a", "10.77.0.10".parse().unwrap()).unwrap();
        let (addresses, routes, links) =
            enter(&sandbox.netns, || (ip("-brief address"), ip("route"), ip("link show eth0")));
        let squeezed = addresses.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed.starts_with("lo UNKNOWN 127.0.0.1/8"), "{squeezed}");
        assert!(squeezed.contains("UP 10.77.0.10/16"), "{squeezed}");
        assert!(!squeezed.contains("fe80"), "{squeezed}");
        assert!(routes.contains("default via 10.77.0.1 dev eth0"), "{routes}");
        assert!(links.contains("mtu 1400") && links.contains("02:77:0a:4d:00:0a"), "{links}");
    });
}
