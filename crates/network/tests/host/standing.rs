//! What stands in the kernel, as nft(8) reads it back: the rules mean what the code's comments say.

use network::{Network, Overlay, Peer, Protocol, Published};

use crate::stage::{HOST, OUTSIDE, Stage, on_stage, published, run};

#[test]
fn nft_reads_the_rules_as_they_are_meant() {
    on_stage(|stage| reads(stage, &stage.open(), "standing.nft"));
}

#[test]
fn and_those_of_an_overlay() {
    on_stage(|stage| {
        let mut config = stage.config.clone();
        config.overlay = Some(Overlay { address: HOST, network: 0x77_04_11 });
        let network = Network::open(config).unwrap();
        network.connect(&[Peer { address: OUTSIDE, subnet: "10.78.0.0/16".parse().unwrap() }]).unwrap();
        reads(stage, &network, "standing_overlay.nft");
    });
}

fn reads(stage: &Stage, network: &Network, golden: &str) {
    let sandboxes = stage.troupe(network, 3);
    let nobody = Published { port: 81, protocol: Protocol::Udp, backends: Vec::new() };
    network.publish(&[published(Protocol::Tcp, &sandboxes), nobody]).unwrap();
    let (name, bridge) = (stage.config.name.as_str(), format!("{}0", stage.config.name));
    let ports = run("nft", &format!("list set bridge {name} ports"));
    assert_eq!(ports.matches("10.77.0.1").count(), 3, "{ports}");
    let listing = run("nft", &format!("list table ip {name}"));
    let seen = listing
        .replace(&bridge, "BRIDGE")
        .replace(&format!("{name}-vxlan"), "TUNNEL")
        .replace(&format!("table ip {name}"), "table ip NAME");
    let seen: String = seen.lines().map(|line| without_generation(line) + "\n").collect();
    check(&seen, golden);
}

/// Chains of services are named by the firewall's generation, which differs from run to run.
fn without_generation(line: &str) -> String {
    match line.split_once("tcp-80.") {
        None => line.to_string(),
        Some((before, after)) => {
            let after = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
            format!("{before}tcp-80.GENERATION{after}")
        }
    }
}

fn check(seen: &str, golden: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host").join(golden);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, seen).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(seen == expected, "differs from {golden}; with UPDATE_GOLDEN=1 it is written anew:\n{seen}");
}
