//! Changing what is published while it is used.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use network::{Network, Protocol, Sandbox};

use crate::stage::{
    Answer, HOST, OUTER, Stage, UdpClient, ask, connect, on_stage, published, read_line, run, serve_on, until,
};

/// Connects from outside without pause while something happens; returns who answered, in order.
fn under_load(stage: &Stage, work: impl FnOnce(&dyn Fn() -> usize)) -> Vec<Answer> {
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (stopped, counted) = (stop.clone(), count.clone());
    let clients = stage.outside.run(move || {
        let client = move |_| {
            let (stopped, counted) = (stopped.clone(), counted.clone());
            thread::spawn(move || {
                let mut answers = Vec::new();
                while !stopped.load(Ordering::Relaxed) {
                    answers.push(ask((HOST, OUTER)).expect("a connection failed"));
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                answers
            })
        };
        (0..4).map(client).collect::<Vec<_>>()
    });
    let seen = count.clone();
    work(&move || seen.load(Ordering::Relaxed));
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
}

#[test]
fn no_connection_fails_while_backends_come_and_go() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 4);
        network.publish(&[published(Protocol::Tcp, &sandboxes)]).unwrap();
        let answers = under_load(stage, |count| {
            for round in 0..300 {
                let before = count();
                let from = round % 4;
                network.publish(&[published(Protocol::Tcp, &sandboxes[from..])]).unwrap();
                until("a connection", count, |seen| *seen > before);
            }
        });
        for name in ["a", "b", "c", "d"] {
            assert!(answers.iter().any(|answer| answer.name == name), "{name} was never met");
        }
    });
}

#[test]
fn an_unchanged_service_keeps_its_turn_while_others_change() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 3);
        let steady = published(Protocol::Tcp, &sandboxes);
        let mut other = steady.clone();
        other.port = 81;
        let mut seen = String::new();
        for round in 0..30 {
            other.backends.truncate(1 + round % 3);
            other.backends.extend(sandboxes.iter().map(|sandbox| (sandbox.address, 9000 + round as u16)));
            network.publish(&[steady.clone(), other.clone()]).unwrap();
            seen += &stage.outside.run(|| ask((HOST, OUTER))).unwrap().name;
        }
        assert_eq!(seen, "abc".repeat(10));
    });
}

#[test]
fn a_removed_backend_gets_nothing_new_and_keeps_what_it_has() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 2);
        network.publish(&[published(Protocol::Tcp, &sandboxes)]).unwrap();
        let mut held =
            stage.outside.run(|| [connect((HOST, OUTER)).unwrap(), connect((HOST, OUTER)).unwrap()]);
        network.publish(&[published(Protocol::Tcp, &sandboxes[1..])]).unwrap();
        let seen =
            stage.outside.run(|| (0..20).map(|_| ask((HOST, OUTER)).unwrap().name).collect::<String>());
        assert_eq!(seen, "b".repeat(20));
        network.publish(&[]).unwrap();
        for (stream, answer) in &mut held {
            writeln!(stream, "still there, {}?", answer.name).unwrap();
            assert_eq!(read_line(stream).unwrap(), format!("still there, {}?\n", answer.name));
        }
    });
}

#[test]
fn udp_clients_move_on_when_their_backend_is_removed() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 2);
        network.publish(&[published(Protocol::Udp, &sandboxes)]).unwrap();
        let (a, b) = stage.outside.run(|| {
            let (a, b) = (UdpClient::to((HOST, OUTER)), UdpClient::to((HOST, OUTER)));
            assert_eq!((a.ask().unwrap().name, b.ask().unwrap().name), ("a".into(), "b".into()));
            (a, b)
        });
        // A flow stays with its backend as long as that is there.
        assert_eq!((a.ask().unwrap().name, b.ask().unwrap().name), ("a".into(), "b".into()));
        network.publish(&[published(Protocol::Udp, &sandboxes[1..])]).unwrap();
        assert_eq!((a.ask().unwrap().name, b.ask().unwrap().name), ("b".into(), "b".into()));
        network.publish(&[published(Protocol::Udp, &[])]).unwrap();
        assert_eq!(a.ask().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn udp_clients_of_the_host_move_on_when_the_port_is_published() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 1);
        serve_on("host", OUTER);
        let client = stage.outside.run(|| UdpClient::to((HOST, OUTER)));
        assert_eq!(client.ask().unwrap().name, "host");
        network.publish(&[published(Protocol::Udp, &sandboxes)]).unwrap();
        assert_eq!(client.ask().unwrap().name, "a");
    });
}

#[test]
fn who_was_refused_before_the_port_was_published_is_answered_then() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 1);
        // Every connection is from the same port, so that each is taken for the one before if that is remembered.
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "45000 45000").unwrap();
        let ask = || ask((std::net::Ipv4Addr::LOCALHOST, OUTER));
        assert_eq!(ask().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        network.publish(&[published(Protocol::Tcp, &[])]).unwrap();
        assert_eq!(ask().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        network.publish(&[published(Protocol::Tcp, &sandboxes)]).unwrap();
        assert_eq!(ask().unwrap().name, "a");
    });
}

#[test]
fn a_restart_takes_over_under_load() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 3);
        network.publish(&[published(Protocol::Tcp, &sandboxes)]).unwrap();
        let mut network = Some(network);
        under_load(stage, |count| {
            for _ in 0..10 {
                let before = count();
                network.take();
                let reopened = adopt(stage, &sandboxes);
                until("a connection", count, |seen| *seen > before + 4);
                reopened.publish(&[published(Protocol::Tcp, &sandboxes)]).unwrap();
                network = Some(reopened);
            }
        });
    });
}

/// Opens the network anew and finds the sandboxes in it.
fn adopt(stage: &Stage, sandboxes: &[Sandbox]) -> Network {
    let network = stage.open();
    let expected: Vec<_> = sandboxes.iter().map(|sandbox| (sandbox.id.clone(), sandbox.address)).collect();
    assert_eq!(network.sandboxes().unwrap(), expected);
    let first = &sandboxes[0];
    assert_eq!(network.create_sandbox(&first.id, first.address).unwrap(), *first);
    network
}

#[test]
fn the_first_publish_after_a_restart_removes_what_is_no_longer_wanted() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 2);
        let (tcp, udp) = (published(Protocol::Tcp, &sandboxes), published(Protocol::Udp, &sandboxes));
        network.publish(&[tcp, udp]).unwrap();
        let client = stage.outside.run(|| UdpClient::to((HOST, OUTER)));
        assert_eq!(client.ask().unwrap().name, "a");
        drop(network);
        let network = adopt(stage, &sandboxes);
        network.publish(&[published(Protocol::Udp, &sandboxes[1..])]).unwrap();
        assert_eq!(client.ask().unwrap().name, "b");
        assert_eq!(ask((HOST, OUTER)).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_flushed_firewall_is_written_again() {
    on_stage(|stage| {
        let network = stage.open();
        let sandboxes = stage.troupe(&network, 2);
        let wanted = [published(Protocol::Tcp, &sandboxes)];
        network.publish(&wanted).unwrap();
        let _ = stage.outside.run(|| ask((HOST, OUTER))).unwrap();
        run("nft", "flush ruleset");
        let refused = stage.outside.run(|| ask((HOST, OUTER))).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        network.publish(&wanted).unwrap();
        stage.outside.run(|| ask((HOST, OUTER))).unwrap();
        // A sandbox that is made while the tables are gone is not locked out.
        run("nft", "flush ruleset");
        let late = network.create_sandbox("late", "10.77.0.99".parse().unwrap()).unwrap();
        crate::stage::enter(&late.netns, || crate::stage::serve("late"));
        network.publish(&[published(Protocol::Tcp, &[late])]).unwrap();
        assert_eq!(stage.outside.run(|| ask((HOST, OUTER))).unwrap().name, "late");
    });
}
