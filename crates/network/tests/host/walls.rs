//! What must not be possible.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use network::{Network, Protocol};

use crate::stage::{
    GATEWAY, HOST, INNER, OUTER, OUTSIDE, UdpClient, ask, enter, ip, on_stage, published, serve_on,
};

/// Long for a packet that is dropped on a virtual cable, short for a test.
const SHORT: Duration = Duration::from_millis(300);

fn is_dropped(to: (Ipv4Addr, u16)) {
    let outcome = TcpStream::connect_timeout(&SocketAddr::from(to), SHORT);
    assert_eq!(outcome.map(|_| ()).unwrap_err().kind(), ErrorKind::TimedOut, "{to:?}");
}

#[test]
fn replicas_do_not_reach_what_listens_on_the_hosts_loopback() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 1);
        network.publish(&[published(Protocol::Tcp, &sandboxes)]).unwrap();
        serve_on("secret", 2379);
        assert_eq!(ask((Ipv4Addr::LOCALHOST, 2379)).unwrap().name, "secret");
        enter(&sandboxes[0].netns, || {
            // Send packets for 127.0.0.1 out of eth0, as a program with such rights would.
            ip("link set lo down");
            ip("route flush table local");
            ip(&format!("route add local {} dev eth0 table local", sandboxes[0].address));
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
            ip(&format!("route add 127.0.0.1/32 via {GATEWAY} dev eth0 src {}", sandboxes[0].address));
            assert!(ip("route get 127.0.0.1").contains("eth0"));
            is_dropped((Ipv4Addr::LOCALHOST, 2379));
            is_dropped((Ipv4Addr::LOCALHOST, OUTER));
        });
        // The same packets pass once the wall is gone: the test would notice a wall that is not there.
        let table = &stage.config.name;
        crate::stage::run("nft", &format!("flush chain ip {table} sanity"));
        enter(&sandboxes[0].netns, || {
            assert_eq!(ask((Ipv4Addr::LOCALHOST, 2379)).unwrap().name, "secret");
        });
    });
}

#[test]
fn replicas_do_not_speak_with_other_addresses() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 2);
        let speak_as = |address: &str| {
            let from: Ipv4Addr = address.parse().unwrap();
            enter(&sandboxes[0].netns, || {
                ip(&format!("address add {address}/32 dev eth0"));
                let socket = UdpSocket::bind((from, 0)).unwrap();
                socket.send_to(b"it is me", (sandboxes[1].address, 7)).unwrap();
                socket.send_to(b"it is me", (GATEWAY, 7)).unwrap();
            });
        };
        let neighbour = enter(&sandboxes[1].netns, || UdpSocket::bind("0.0.0.0:7").unwrap());
        let host = UdpSocket::bind("0.0.0.0:7").unwrap();
        for socket in [&neighbour, &host] {
            socket.set_read_timeout(Some(SHORT)).unwrap();
        }
        let heard =
            |socket: &UdpSocket| socket.recv_from(&mut [0; 20]).map(|(_, from)| from.ip().to_string());
        for (address, passes) in [("10.77.0.10", true), ("10.77.5.5", false), ("172.16.0.1", false)] {
            if !passes {
                speak_as(address);
            } else {
                enter(&sandboxes[0].netns, || {
                    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                    socket.send_to(b"it is me", (sandboxes[1].address, 7)).unwrap();
                    socket.send_to(b"it is me", (GATEWAY, 7)).unwrap();
                });
            }
            for socket in [&neighbour, &host] {
                assert_eq!(heard(socket).ok(), passes.then(|| address.to_string()), "{address}");
            }
        }
    });
}

#[test]
fn neighbours_reach_published_ports_only() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 2);
        network.publish(&[published(Protocol::Tcp, &sandboxes)]).unwrap();
        let replica = sandboxes[0].address;
        stage.outside.run(move || {
            ip(&format!("route add 10.77.0.0/16 via {HOST}"));
            is_dropped((replica, INNER));
            assert_eq!(ask((HOST, OUTER)).unwrap().name, "a");
        });
        // The host itself may: its probes do.
        assert_eq!(ask((replica, INNER)).unwrap().name, "a");
    });
}

#[test]
fn replicas_reach_the_outside_under_the_hosts_address() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 1);
        // The same port is published here: what is merely passed on must not be caught.
        network
            .publish(&[published(Protocol::Tcp, &sandboxes), published(Protocol::Udp, &sandboxes)])
            .unwrap();
        stage.outside.run(|| serve_on("world", OUTER));
        let (tcp, udp) = enter(&sandboxes[0].netns, || {
            (ask((OUTSIDE, OUTER)).unwrap(), UdpClient::to((OUTSIDE, OUTER)).ask().unwrap())
        });
        for answer in [tcp, udp] {
            assert_eq!((answer.name.as_str(), answer.seen), ("world", HOST.into()));
        }
    });
}

#[test]
fn a_subnet_that_the_host_reaches_elsewhere_is_refused() {
    on_stage(|stage| {
        ip("route add 10.77.3.0/24 via 192.0.2.9");
        let error = Network::open(stage.config.clone()).unwrap_err().to_string();
        assert_eq!(
            error,
            "the subnet 10.77.0.0/16 overlaps 10.77.3.0/24, to which this host has a route through out0: choose \
             another subnet for this node"
        );
        assert_eq!(crate::stage::links(), Vec::<String>::new());
        ip("route del 10.77.3.0/24");
        // Half of all addresses: a default route in disguise.
        ip("route add 0.0.0.0/1 via 192.0.2.9");
        stage.open();
        // And what it made itself is no obstacle.
        stage.open();
    });
}

#[test]
fn a_link_that_somebody_else_made_is_left_alone() {
    on_stage(|stage| {
        let bridge = format!("{}0", stage.config.name);
        for kind in ["bridge", "veth"] {
            ip(&format!("link add {bridge} type {kind}"));
            ip(&format!("address add 10.9.0.1/24 dev {bridge}"));
            let error = Network::open(stage.config.clone()).unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "a link named {bridge} exists that was not made for replicas: choose another network name or remove \
                     the link"
                )
            );
            let addresses = ip(&format!("-brief address show dev {bridge}"));
            assert!(addresses.contains("10.9.0.1/24") && !addresses.contains("10.77"), "{addresses}");
            ip(&format!("link del {bridge}"));
        }
        // Somebody puts one in the place of ours: it outlives the network.
        let network = stage.open();
        ip(&format!("link del {bridge}"));
        ip(&format!("link add {bridge} type bridge"));
        assert!(network.repair().unwrap_err().to_string().starts_with("a link named"));
        network.teardown().unwrap();
        assert_eq!(crate::stage::links(), [bridge]);
    });
}

#[test]
fn nonsense_is_refused() {
    on_stage(|stage| {
        let network = stage.open();
        network.create_sandbox("a", "10.77.0.10".parse().unwrap()).unwrap();
        for (id, address, expected) in [
            ("../b", "10.77.0.11", "`../b` cannot be a sandbox's id"),
            ("b", "10.78.0.11", "10.78.0.11 cannot be a sandbox's address"),
            ("b", "10.77.0.1", "10.77.0.1 cannot be a sandbox's address"),
            ("b", "10.77.255.255", "10.77.255.255 cannot be a sandbox's address"),
            ("b", "10.77.0.10", "10.77.0.10 is the address of sandbox `a`"),
            ("a", "10.77.0.11", "sandbox `a` exists with the address 10.77.0.10, not 10.77.0.11"),
        ] {
            let error = network.create_sandbox(id, address.parse().unwrap()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    });
}

#[test]
fn the_doctor_finds_this_host_in_order_and_leaves_nothing() {
    on_stage(|_| {
        let checks = network::doctor();
        let bad: Vec<_> = checks.iter().filter(|check| check.status != network::Status::Ok).collect();
        assert!(bad.is_empty(), "{bad:#?}");
        assert_eq!(checks.len(), 10, "{checks:#?}");
        assert_eq!(crate::stage::links(), Vec::<String>::new());
        crate::stage::run("nft", "add table ip docker");
        crate::stage::run(
            "nft",
            "add chain ip docker FORWARD { type filter hook forward priority 0 ; policy drop ; }",
        );
        let checks = network::doctor();
        let policy = checks.iter().find(|check| check.name == "forward policy").unwrap();
        assert_eq!(policy.status, network::Status::Warning);
        assert_eq!(policy.detail, "dropped by policy: docker FORWARD");
    });
}
