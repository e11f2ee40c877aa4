//! Two hosts whose sandboxes are joined: the stage, and its neighbour with a network of its own.
//!
//! ```text
//!   sandboxes 10.78.0.0/16 ── 192.0.2.9 other ───────── 192.0.2.1 host ── sandboxes 10.77.0.0/16
//! ```

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd,
    sync::Arc,
    time::Duration,
};

use network::{Config, Network, Overlay, Peer, Protocol, Published, Sandbox};

use crate::stage::{
    GATEWAY, HOST, INNER, OUTER, OUTSIDE, Stage, UdpClient, ask, connect, enter, ip, links, on_stage,
    published, run, serve, until,
};

const NUMBER: u32 = 0x77_04_11;
/// Long for a packet on a virtual cable, short for a test.
const SHORT: Duration = Duration::from_millis(300);

fn ours() -> Peer {
    Peer { address: HOST, subnet: "10.77.0.0/16".parse().unwrap() }
}

fn theirs() -> Peer {
    Peer { address: OUTSIDE, subnet: "10.78.0.0/16".parse().unwrap() }
}

fn config(stage: &Stage, of: Peer) -> Config {
    let mut config = stage.config.clone();
    config.overlay = Some(Overlay { address: of.address, network: NUMBER });
    if of == theirs() {
        config.name = format!("{}o", config.name);
        config.subnet = of.subnet;
        config.state_dir.set_file_name("other");
    }
    config
}

/// Both networks, not connected yet. What is done to the other one is done on its host.
struct Pair {
    here: Network,
    there: Arc<Network>,
}

impl Pair {
    fn open(stage: &Stage) -> Pair {
        let here = Network::open(config(stage, ours())).unwrap();
        let config = config(stage, theirs());
        Pair { here, there: Arc::new(stage.outside.run(move || Network::open(config).unwrap())) }
    }

    fn connected(stage: &Stage) -> Pair {
        let pair = Pair::open(stage);
        pair.here.connect(&[theirs()]).unwrap();
        pair.there(stage, |there| there.connect(&[ours()]).unwrap());
        pair
    }

    fn there<T: Send + 'static>(
        &self,
        stage: &Stage,
        what: impl FnOnce(&Network) -> T + Send + 'static,
    ) -> T {
        let there = Arc::clone(&self.there);
        stage.outside.run(move || what(&there))
    }

    /// Sandbox `a` here and `z` there, each with a program that says so.
    fn troupe(&self, stage: &Stage) -> (Sandbox, Sandbox) {
        let a = stage.troupe(&self.here, 1).remove(0);
        let z = self.there(stage, |there| there.create_sandbox("z", [10, 78, 0, 10].into()).unwrap());
        enter(&z.netns, || serve("z"));
        (a, z)
    }
}

/// What each of two sandboxes says of the other.
fn see_each_other(a: &Sandbox, z: &Sandbox) {
    let (from_a, from_z) = (a.address, z.address);
    let seen = enter(&a.netns, || ask((from_z, INNER))).unwrap();
    assert_eq!((seen.name.as_str(), seen.seen), ("z", from_a.into()));
    let seen = enter(&z.netns, || UdpClient::to((from_a, INNER)).ask()).unwrap();
    assert_eq!((seen.name.as_str(), seen.seen), ("a", from_z.into()));
}

/// A socket whose packets are sent whole or not at all.
fn unfragmented() -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let (fd, whole) = (socket.as_raw_fd(), libc::IP_PMTUDISC_DO);
    // SAFETY: the option's value is a live i32 and its size is passed along; the kernel only reads it.
    let set = unsafe {
        let value = std::ptr::from_ref(&whole).cast();
        libc::setsockopt(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, value, size_of::<i32>() as u32)
    };
    assert_eq!(set, 0);
    socket
}

#[test]
fn sandboxes_of_two_hosts_reach_each_other_by_address() {
    on_stage(|stage| {
        let pair = Pair::connected(stage);
        let (a, z) = pair.troupe(stage);
        see_each_other(&a, &z);
        // A full packet passes whole, and none is larger.
        let ear = enter(&z.netns, || UdpSocket::bind("0.0.0.0:9").unwrap());
        ear.set_read_timeout(Some(crate::stage::PATIENCE)).unwrap();
        let (socket, headers) = (enter(&a.netns, unfragmented), 28);
        let sent = |size: usize| socket.send_to(&vec![7; size - headers], (z.address, 9));
        sent(1450).unwrap();
        assert_eq!(ear.recv(&mut [0; 2_000]).unwrap(), 1450 - headers);
        assert_eq!(sent(1451).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        // The host's own programs reach them too, as its probes do.
        assert_eq!(ask((z.address, INNER)).unwrap().seen, GATEWAY);
    });
}

#[test]
fn a_published_port_leads_to_a_sandbox_of_another_host() {
    on_stage(|stage| {
        let pair = Pair::connected(stage);
        let (a, z) = pair.troupe(stage);
        let both =
            [Protocol::Tcp, Protocol::Udp].map(|protocol| published(protocol, std::slice::from_ref(&z)));
        pair.here.publish(&both).unwrap();
        // Whoever connects from elsewhere is seen as the host where the connection came in.
        for address in [Ipv4Addr::LOCALHOST, HOST, GATEWAY] {
            let seen = ask((address, OUTER)).unwrap();
            assert_eq!((seen.name.as_str(), seen.seen), ("z", GATEWAY.into()), "{address}");
            UdpClient::to((address, OUTER)).ask().unwrap();
        }
        let from_outside = || (ask((HOST, OUTER)).unwrap(), UdpClient::to((HOST, OUTER)).ask().unwrap());
        let (tcp, udp) = stage.outside.run(from_outside);
        assert_eq!((tcp.name, tcp.seen, udp.seen), ("z".into(), GATEWAY.into(), GATEWAY.into()));
        // A sandbox keeps its own address.
        let seen = enter(&a.netns, || ask((HOST, OUTER))).unwrap();
        assert_eq!((seen.name.as_str(), seen.seen), ("z", a.address.into()));
        // Both take turns, wherever they are.
        pair.here.publish(&[published(Protocol::Tcp, &[a, z])]).unwrap();
        let seen: String = (0..4).map(|_| ask((HOST, OUTER)).unwrap().name).collect();
        assert!(["azaz", "zaza"].contains(&seen.as_str()), "{seen}");
    });
}

#[test]
fn large_answers_cross_whole() {
    on_stage(|stage| {
        let pair = Pair::connected(stage);
        let (_, z) = pair.troupe(stage);
        const SIZE: usize = 3_000_000;
        let listener = enter(&z.netns, || std::net::TcpListener::bind("0.0.0.0:9000").unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&vec![7; SIZE]).unwrap();
        });
        let backends = vec![(z.address, 9000)];
        let port = Published { port: OUTER, protocol: Protocol::Tcp, backends };
        pair.here.publish(&[port]).unwrap();
        let mut stream = std::net::TcpStream::connect((HOST, OUTER)).unwrap();
        stream.set_read_timeout(Some(crate::stage::PATIENCE)).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), SIZE);
    });
}

/// A packet of UDP, wrapped as the tunnel does it.
fn wrapped(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![8, 0, 0, 0];
    packet.extend((NUMBER << 8).to_be_bytes());
    let ethernet = |host: Ipv4Addr| [&[0x02, 0x78][..], &host.octets()].concat();
    packet.extend([ethernet(HOST), ethernet(OUTSIDE), vec![8, 0]].concat());
    let mut header = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0];
    header.extend([from.octets(), to.octets()].concat());
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&folded.to_be_bytes());
    packet.extend(header);
    packet.extend([0, 7, 0, 7, 0, 16, 0, 0]); // From and to port 7, without a checksum.
    packet.extend(b"it is me");
    packet
}

#[test]
fn only_peers_send_through_the_tunnel_and_only_from_their_sandboxes_to_ours() {
    on_stage(|stage| {
        let pair = Pair::connected(stage);
        let (a, z) = pair.troupe(stage);
        see_each_other(&a, &z);
        let ear = enter(&a.netns, || UdpSocket::bind("0.0.0.0:7").unwrap());
        let host = UdpSocket::bind("0.0.0.0:7").unwrap();
        for socket in [&ear, &host] {
            socket.set_read_timeout(Some(SHORT)).unwrap();
        }
        let heard = |socket: &UdpSocket| socket.recv_from(&mut [0; 20]).is_ok();
        stage.outside.run(|| ip("address add 192.0.2.10/24 dev eth0"));
        let stranger = Ipv4Addr::new(192, 0, 2, 10);
        let send = |from: Ipv4Addr, packet: Vec<u8>| {
            stage.outside.run(move || {
                let socket = UdpSocket::bind((from, 0)).unwrap();
                socket.send_to(&packet, (HOST, Overlay::PORT)).unwrap();
            });
        };
        let (inside, localhost) = (a.address, Ipv4Addr::LOCALHOST);
        for (sender, from, to, passes) in [
            (stranger, z.address, inside, false),
            (OUTSIDE, z.address, inside, true),
            (OUTSIDE, [172, 16, 0, 1].into(), inside, false),
            (OUTSIDE, inside, inside, false),
            (OUTSIDE, HOST, inside, false),
            (OUTSIDE, z.address, localhost, false),
            (OUTSIDE, z.address, HOST, false),
            (OUTSIDE, z.address, GATEWAY, false),
        ] {
            send(sender, wrapped(from, to));
            assert_eq!(heard(&ear), passes, "{sender} sends as {from} to {to}");
            assert!(!heard(&host), "{sender} sends as {from} to {to}");
        }
        // A sandbox could send under its host's address, which is a peer's.
        let forge = wrapped(z.address, inside);
        enter(&z.netns, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(&forge, (HOST, Overlay::PORT)).unwrap();
        });
        assert!(!heard(&ear));
        // That wall is on the sandbox's own host.
        let table = format!("{}o", stage.config.name);
        stage.outside.run(move || run("nft", &format!("flush chain ip {table} sanity")));
        enter(&z.netns, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(&forge, (HOST, Overlay::PORT)).unwrap();
        });
        assert!(heard(&ear), "the test would not notice a wall that is not there");
    });
}

#[test]
fn who_is_no_peer_any_more_is_cut_off() {
    on_stage(|stage| {
        let pair = Pair::connected(stage);
        let (a, z) = pair.troupe(stage);
        see_each_other(&a, &z);
        let third = Peer { address: [192, 0, 2, 77].into(), subnet: "10.79.0.0/16".parse().unwrap() };
        pair.here.connect(&[third]).unwrap();
        let routes = ip("route");
        assert!(!routes.contains("10.78.0.0/16") && routes.contains("10.79.0.0/16"), "{routes}");
        let client = enter(&z.netns, || UdpClient::to((a.address, INNER)));
        assert!(matches!(client.ask_within(SHORT), Err(error) if error.kind() == ErrorKind::WouldBlock));
        pair.here.connect(&[third, theirs()]).unwrap();
        see_each_other(&a, &z);
        // It moves to another address of the underlay.
        stage.outside.run(|| ip("address add 192.0.2.10/24 dev eth0"));
        let moved = Peer { address: [192, 0, 2, 10].into(), ..theirs() };
        pair.here.connect(&[third, moved]).unwrap();
        assert!(ip("neighbour").contains("02:78:c0:00:02:0a"), "{}", ip("neighbour"));
        pair.here.connect(&[]).unwrap();
        assert_eq!(links().iter().filter(|name| name.ends_with("-vxlan")).count(), 0);
    });
}

#[test]
fn what_others_took_away_is_repaired() {
    on_stage(|stage| {
        let pair = Pair::connected(stage);
        let (a, z) = pair.troupe(stage);
        see_each_other(&a, &z);
        let (tunnel, bridge) = (format!("{}-vxlan", stage.config.name), format!("{}0", stage.config.name));
        for damage in [
            format!("link del {tunnel}"),
            format!("route flush dev {tunnel}"),
            format!("neighbour flush dev {tunnel} nud permanent"),
            format!("link set {tunnel} down"),
            format!("link del {bridge}"),
        ] {
            ip(&damage);
            pair.here.repair().unwrap();
            see_each_other(&a, &z);
        }
        run("nft", "flush ruleset");
        pair.here.publish(&[]).unwrap();
        see_each_other(&a, &z);
        let peers = run("nft", &format!("list set ip {} peers", stage.config.name));
        assert!(peers.contains("192.0.2.9"), "{peers}");
    });
}

#[test]
fn a_restart_takes_the_tunnels_over_and_teardown_leaves_nothing() {
    on_stage(|stage| {
        let Pair { here, there } = Pair::connected(stage);
        let pair = Pair { here, there };
        let (a, z) = pair.troupe(stage);
        see_each_other(&a, &z);
        let Pair { here, there } = pair;
        drop(here);
        see_each_other(&a, &z);
        let here = Network::open(config(stage, ours())).unwrap();
        see_each_other(&a, &z);
        here.connect(&[theirs()]).unwrap();
        see_each_other(&a, &z);
        here.teardown().unwrap();
        until("an empty host", links, Vec::is_empty);
        assert_eq!(run("nft", "list ruleset"), "");
        stage.outside.run(move || there.teardown().unwrap());
    });
}

#[test]
fn peers_that_would_cut_the_host_off_are_left_out() {
    on_stage(|stage| {
        let pair = Pair::open(stage);
        let peer = |last: u8, subnet: &str| Peer {
            address: [192, 0, 2, last].into(),
            subnet: subnet.parse().unwrap(),
        };
        let peers = [peer(20, "10.77.3.0/24"), peer(21, "192.0.2.0/25"), theirs(), peer(22, "10.78.9.0/24")];
        pair.here.connect(&peers).unwrap();
        let routes = ip(&format!("route show dev {}-vxlan", stage.config.name));
        assert!(routes.starts_with("10.78.0.0/16 via 10.78.0.1"), "{routes}");
        assert_eq!(routes.lines().count(), 1, "{routes}");
        let alone = Network::open(Config::new("alone", "10.99.0.0/16".parse().unwrap(), "/tmp/none-of-it"));
        let refused = alone.unwrap().connect(&peers).unwrap_err().to_string();
        assert!(refused.starts_with("this host has no address"), "{refused}");
    });
}

#[test]
fn sandboxes_of_a_former_subnet_go_on() {
    on_stage(|stage| {
        let before = stage.open();
        let old = stage.troupe(&before, 1).remove(0);
        before.publish(&[published(Protocol::Tcp, std::slice::from_ref(&old))]).unwrap();
        let (mut held, _) = stage.outside.run(|| connect((HOST, OUTER)).unwrap());
        drop(before);
        let mut config = config(stage, ours());
        config.subnet = "10.64.2.0/23".parse().unwrap();
        let network = Network::open(config).unwrap();
        assert_eq!(network.create_sandbox("a", old.address).unwrap(), old);
        let new = network.create_sandbox("n", [10, 64, 2, 10].into()).unwrap();
        enter(&new.netns, || serve("n"));
        // What is connected stays so, both are reached, and reach each other and the outside.
        writeln!(held, "still there?").unwrap();
        assert_eq!(crate::stage::read_line(&mut held).unwrap(), "still there?\n");
        network.publish(&[published(Protocol::Tcp, &[old.clone(), new.clone()])]).unwrap();
        let seen: String = (0..4).map(|_| stage.outside.run(|| ask((HOST, OUTER))).unwrap().name).collect();
        assert!(["anan", "nana"].contains(&seen.as_str()), "{seen}");
        assert_eq!(enter(&old.netns, || ask((new.address, INNER))).unwrap().seen, old.address);
        assert_eq!(enter(&new.netns, || ask((old.address, INNER))).unwrap().seen, new.address);
        stage.outside.run(|| crate::stage::serve_on("world", 81));
        assert_eq!(enter(&old.netns, || ask((OUTSIDE, 81))).unwrap().seen, HOST);
        // Once the last is gone, so is their subnet.
        network.remove_sandbox("a").unwrap();
        drop(network);
        let mut config = stage.config.clone();
        config.subnet = "10.64.2.0/23".parse().unwrap();
        Network::open(config).unwrap();
        assert!(!ip("address").contains("10.77.0.1/"), "{}", ip("address"));
    });
}
