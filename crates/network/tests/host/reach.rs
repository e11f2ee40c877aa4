//! Who reaches published ports, from where, and whom they meet.

use std::{
    io::ErrorKind,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use network::{Protocol, Published};

use crate::stage::{
    Answer, GATEWAY, HOST, INNER, OUTER, OUTSIDE, UdpClient, ask, enter, on_stage, published, serve_on,
};

fn names(answers: impl IntoIterator<Item = std::io::Result<Answer>>) -> String {
    answers.into_iter().map(|answer| answer.unwrap().name).collect()
}

#[test]
fn connections_from_outside_are_handed_out_in_strict_turn() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 3);
        network.publish(&[published(Protocol::Tcp, &sandboxes)]).unwrap();
        let seen = stage.outside.run(|| names((0..30).map(|_| ask((HOST, OUTER)))));
        assert_eq!(seen, "abc".repeat(10));
    });
}

#[test]
fn replicas_see_the_clients_address() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 1);
        let both = [published(Protocol::Tcp, &sandboxes), published(Protocol::Udp, &sandboxes)];
        network.publish(&both).unwrap();
        assert_eq!(stage.outside.run(|| ask((HOST, OUTER))).unwrap().seen, OUTSIDE);
        assert_eq!(stage.outside.run(|| UdpClient::to((HOST, OUTER)).ask()).unwrap().seen, OUTSIDE);
        // The host's own address is a real address too: nothing to hide.
        assert_eq!(ask((HOST, OUTER)).unwrap().seen, HOST);
    });
}

#[test]
fn the_host_reaches_ports_at_each_of_its_addresses() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 2);
        let both = [published(Protocol::Tcp, &sandboxes), published(Protocol::Udp, &sandboxes)];
        network.publish(&both).unwrap();
        for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 9, 9, 9), HOST, GATEWAY] {
            let seen = names((0..4).map(|_| ask((address, OUTER))));
            assert!(["abab", "baba"].contains(&seen.as_str()), "{address}: {seen}");
            UdpClient::to((address, OUTER)).ask().unwrap();
        }
        // A replica could not answer 127.0.0.1; it sees the bridge.
        assert_eq!(ask((Ipv4Addr::LOCALHOST, OUTER)).unwrap().seen, GATEWAY);
    });
}

#[test]
fn replicas_reach_published_ports_and_even_themselves() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 2);
        let both = [published(Protocol::Tcp, &sandboxes), published(Protocol::Udp, &sandboxes)];
        network.publish(&both).unwrap();
        for address in [HOST, GATEWAY] {
            let seen = enter(&sandboxes[0].netns, || names((0..4).map(|_| ask((address, OUTER)))));
            assert!(["abab", "baba"].contains(&seen.as_str()), "{address}: {seen}");
            let seen =
                enter(&sandboxes[0].netns, || names((0..4).map(|_| UdpClient::to((address, OUTER)).ask())));
            assert!(["abab", "baba"].contains(&seen.as_str()), "{address} over UDP: {seen}");
        }
        // And each other directly.
        let other = sandboxes[1].address;
        let answer = enter(&sandboxes[0].netns, || ask((other, INNER))).unwrap();
        assert_eq!((answer.name.as_str(), answer.seen), ("b", sandboxes[0].address.into()));
    });
}

#[test]
fn a_port_without_backends_refuses_at_once() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 1);
        let none = [published(Protocol::Tcp, &[]), published(Protocol::Udp, &[])];
        // A program of the host behind the port must not be met instead.
        serve_on("host", OUTER);
        let refused = |from: &'static str| {
            move || {
                let started = Instant::now();
                assert_eq!(ask((HOST, OUTER)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
                let tcp = started.elapsed();
                let udp = UdpClient::to((HOST, OUTER)).ask();
                assert_eq!(udp.unwrap_err().kind(), ErrorKind::ConnectionRefused);
                let both = started.elapsed();
                assert!(both < Duration::from_millis(500), "from {from}: {tcp:?} of {both:?} over TCP");
            }
        };
        network.publish(&none).unwrap();
        refused("the host")();
        stage.outside.run(refused("outside"));
        enter(&sandboxes[0].netns, refused("a replica"));
        network
            .publish(&[published(Protocol::Tcp, &sandboxes), published(Protocol::Udp, &sandboxes)])
            .unwrap();
        assert_eq!(stage.outside.run(|| ask((HOST, OUTER))).unwrap().name, "a");
        network.publish(&none).unwrap();
        stage.outside.run(refused("outside, again"));
        network.publish(&[]).unwrap();
        assert_eq!(stage.outside.run(|| ask((HOST, OUTER))).unwrap().name, "host");
    });
}

#[test]
fn ports_and_protocols_are_told_apart() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 3);
        let at = |port, protocol, index: usize| Published {
            port,
            protocol,
            backends: vec![(sandboxes[index].address, INNER)],
        };
        let all = [at(80, Protocol::Tcp, 0), at(80, Protocol::Udp, 1), at(8000, Protocol::Tcp, 2)];
        network.publish(&all).unwrap();
        let seen = stage
            .outside
            .run(|| names([ask((HOST, 80)), UdpClient::to((HOST, 80)).ask(), ask((HOST, 8000))]));
        assert_eq!(seen, "abc");
        let error = network.publish(&[all[0].clone(), all[0].clone()]).unwrap_err().to_string();
        assert_eq!(error, "port 80/tcp is published twice: one service can have it");
    });
}

#[test]
fn hundreds_of_backends_take_turns() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 1);
        // One program behind 1,200 ports, which are more than one message carries.
        let ports: Vec<u16> = (20_000..21_200).collect();
        enter(&sandboxes[0].netns, || {
            ports.iter().step_by(100).for_each(|port| serve_on(&port.to_string(), *port))
        });
        let backends = ports.iter().map(|port| (sandboxes[0].address, *port)).collect();
        network.publish(&[Published { port: OUTER, protocol: Protocol::Tcp, backends }]).unwrap();
        let seen: Vec<_> = (0..1200).map(|_| ask((HOST, OUTER)).ok().map(|answer| answer.name)).collect();
        let expected: Vec<_> = ports.iter().map(|port| (port % 100 == 0).then(|| port.to_string())).collect();
        assert_eq!(seen, expected);
    });
}
