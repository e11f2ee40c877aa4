//! Real handshakes in memory, every case that is let through and every case that is refused, from both sides.

#![allow(clippy::unwrap_used)] // Clippy's exemption of tests does not reach the helpers of an integration test.

mod support;

use model::{Belief, ClusterId, HostRole, Millis, NodeId, Timestamp};
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use support::{DAY, Host, NOW, authority, clock, handshake, host, shaken};
use trust::{
    authority::Authority,
    bundle::{Hosts, Trust},
    certificate::Pin,
    identity::any_server_name,
    tls::{Believe, Present, Reloading, client_config, server_config},
};

const OURS: ClusterId = ClusterId(1);
const OTHER: ClusterId = ClusterId(2);

fn serve(host: &Host, trust: &Trust, now: Timestamp) -> ServerConfig {
    server_config(&host.credentials, trust, clock(now)).unwrap()
}

fn dial(host: &Host, trust: &Trust, now: Timestamp) -> ClientConfig {
    client_config(Present::Certificate(&host.credentials), Believe::Trust(trust), clock(now)).unwrap()
}

fn join(cluster: ClusterId, pin: Pin) -> ClientConfig {
    client_config(Present::Nothing, Believe::Pin(cluster, pin), clock(NOW)).unwrap()
}

struct Cluster {
    authority: Authority,
    trust: Trust,
    server: Host,
    agent: Host,
}

fn cluster(id: ClusterId) -> Cluster {
    let authority = authority(id);
    let trust = Trust::new(authority.certificate().clone());
    let server = host(&authority, HostRole::Server, 1);
    let agent = host(&authority, HostRole::Agent, 2);
    Cluster { authority, trust, server, agent }
}

#[test]
fn servers_and_agents_of_a_cluster_know_each_other() {
    let ours = cluster(OURS);
    let second = host(&ours.authority, HostRole::Server, 3);
    for client in [&ours.agent, &second] {
        let met = shaken(
            serve(&ours.server, &ours.trust, NOW),
            dial(client, &ours.trust, NOW),
            any_server_name(OURS),
        );
        assert_eq!(met.server_sees, Some(client.credentials.identity()));
        assert_eq!(met.client_sees, Some(ours.server.credentials.identity()));
        assert_eq!(met.protocol.as_deref(), Some(&b"h2"[..]));
    }
}

#[test]
fn who_has_only_a_token_verifies_the_pinned_authority_and_is_nobody() {
    let ours = cluster(OURS);
    let pin = ours.authority.certificate().pin();
    let met = shaken(serve(&ours.server, &ours.trust, NOW), join(OURS, pin), any_server_name(OURS));
    assert_eq!(met.server_sees, None);
    assert_eq!(met.client_sees, Some(ours.server.credentials.identity()));
}

#[test]
fn a_raft_member_reaches_the_very_peer_that_it_dials() {
    let ours = cluster(OURS);
    let second = host(&ours.authority, HostRole::Server, 3);
    let dialled = ours.server.credentials.identity().server_name();
    shaken(serve(&ours.server, &ours.trust, NOW), dial(&second, &ours.trust, NOW), dialled.clone());
    let refused =
        handshake(serve(&second, &ours.trust, NOW), dial(&second, &ours.trust, NOW), dialled).unwrap_err();
    assert!(refused.client().contains("another server of the cluster answers"), "{refused:?}");
}

#[test]
fn clusters_do_not_mix() {
    let (ours, other) = (cluster(OURS), cluster(OTHER));
    let refused = handshake(
        serve(&other.server, &other.trust, NOW),
        dial(&ours.agent, &ours.trust, NOW),
        any_server_name(OURS),
    )
    .unwrap_err();
    let told = refused.client();
    assert!(told.contains(&OURS.to_string()) && told.contains(&OTHER.to_string()), "{told}");

    // A host of the other cluster that somehow trusts our server: the server is the one to refuse.
    let pin = ours.authority.certificate().pin();
    let (present, believe) = (Present::Certificate(&other.agent.credentials), Believe::Pin(OURS, pin));
    let stray = client_config(present, believe, clock(NOW)).unwrap();
    let refused = handshake(serve(&ours.server, &ours.trust, NOW), stray, any_server_name(OURS)).unwrap_err();
    let told = refused.server();
    assert!(told.contains(&OURS.to_string()) && told.contains(&OTHER.to_string()), "{told}");
    assert!(refused.client().contains("its log says why"), "{refused:?}");

    // A joiner with our token, at a server of another cluster.
    let refused = handshake(serve(&other.server, &other.trust, NOW), join(OURS, pin), any_server_name(OURS))
        .unwrap_err();
    assert!(refused.client().contains(&OTHER.to_string()), "{refused:?}");
}

/// The other cluster's authority signs for our cluster's id: only the chain tells them apart.
#[test]
fn an_authority_with_our_name_is_still_another() {
    let (ours, forged) = (cluster(OURS), cluster(OURS));
    let pin = ours.authority.certificate().pin();
    let server = || serve(&forged.server, &forged.trust, NOW);

    let refused =
        handshake(server(), dial(&ours.agent, &ours.trust, NOW), any_server_name(OURS)).unwrap_err();
    assert!(refused.client().contains("an authority that this host does not believe"), "{refused:?}");
    let refused = handshake(server(), join(OURS, pin), any_server_name(OURS)).unwrap_err();
    assert!(refused.client().contains(&format!("authority {pin} that the token pins")), "{refused:?}");

    // The forged agent believes our servers, so that the server is the one to refuse.
    let refused = handshake(
        serve(&ours.server, &ours.trust, NOW),
        dial(&forged.agent, &ours.trust, NOW),
        any_server_name(OURS),
    )
    .unwrap_err();
    assert!(refused.server().contains("an authority that this host does not believe"), "{refused:?}");
    assert!(refused.client().contains("does not believe the authority of this host's"), "{refused:?}");
}

/// The pinned authority is sent along, but did not sign the server's certificate.
#[test]
fn a_pinned_authority_beside_another_chain_proves_nothing() {
    let (ours, forged) = (cluster(OURS), cluster(OURS));
    let chain =
        vec![forged.server.certificate().chain()[0].clone(), ours.authority.certificate().der().clone()];
    let config = support::raw_server(&forged.server, chain);
    let refused =
        handshake(config, join(OURS, ours.authority.certificate().pin()), any_server_name(OURS)).unwrap_err();
    assert!(refused.client().contains("does not believe"), "{refused:?}");
}

#[test]
fn an_agent_is_no_server() {
    let ours = cluster(OURS);
    let error = server_config(&ours.agent.credentials, &ours.trust, clock(NOW)).unwrap_err();
    assert!(error.to_string().contains("only a server's certificate"), "{error}");

    let config = support::raw_server(&ours.agent, ours.agent.certificate().chain());
    for client in [dial(&ours.server, &ours.trust, NOW), join(OURS, ours.authority.certificate().pin())] {
        let refused = handshake(config.clone(), client, any_server_name(OURS)).unwrap_err();
        assert!(refused.client().contains("which is no server"), "{refused:?}");
    }
}

#[test]
fn what_has_expired_or_does_not_hold_yet_is_refused_by_either_side() {
    let ours = cluster(OURS);
    for (now, client_says, server_says) in [
        (Timestamp(NOW.0 + 91 * DAY), "expired 24 hours ago by this host's clock", "expired 24 hours ago"),
        (Timestamp(NOW.0 - DAY), "holds only in 23 hours by this host's clock", "set the clocks"),
    ] {
        let server = serve(&ours.server, &ours.trust, now);
        let refused = handshake(server.clone(), dial(&ours.agent, &ours.trust, now), any_server_name(OURS))
            .unwrap_err();
        assert!(refused.client().contains(client_says), "{refused:?}");

        // The client's clock says that all is well.
        let refused =
            handshake(server, dial(&ours.agent, &ours.trust, NOW), any_server_name(OURS)).unwrap_err();
        assert!(refused.server().contains(server_says), "{refused:?}");
        assert!(refused.client().contains("it has expired, or does not hold yet"), "{refused:?}");
    }
}

/// Tickets of one connection would let the next one skip the certificates, which may have been retired meanwhile.
#[test]
fn every_connection_verifies_anew() {
    let ours = cluster(OURS);
    let (server, client) = (serve(&ours.server, &ours.trust, NOW), dial(&ours.agent, &ours.trust, NOW));
    for _ in 0..2 {
        let met = shaken(server.clone(), client.clone(), any_server_name(OURS));
        assert_eq!(met.kind, Some(HandshakeKind::Full));
    }
}

#[test]
fn certificates_are_dated_back_against_clocks_that_differ() {
    let ours = cluster(OURS);
    let behind = Timestamp(NOW.0 - 50 * 60_000);
    shaken(
        serve(&ours.server, &ours.trust, behind),
        dial(&ours.agent, &ours.trust, behind),
        any_server_name(OURS),
    );
}

#[test]
fn a_configuration_is_only_made_for_its_own_cluster() {
    let (ours, other) = (cluster(OURS), cluster(OTHER));
    assert!(server_config(&ours.server.credentials, &other.trust, clock(NOW)).is_err());
    let present = Present::Certificate(&ours.agent.credentials);
    assert!(client_config(present, Believe::Trust(&other.trust), clock(NOW)).is_err());
}

/// Two servers and an agent that hold their configurations as the daemons do, through a whole rotation.
#[test]
fn the_authority_is_rotated_while_everyone_connects() {
    struct Running {
        host: Host,
        server: Option<Reloading<ServerConfig>>,
        client: Reloading<ClientConfig>,
        trust: Trust,
    }

    impl Running {
        fn start(host: Host, trust: &Trust) -> Running {
            let server = match host.credentials.identity().role {
                HostRole::Server => Some(Reloading::new(serve(&host, trust, NOW))),
                HostRole::Agent => None,
            };
            let client = Reloading::new(dial(&host, trust, NOW));
            Running { host, server, client, trust: trust.clone() }
        }

        fn reload(&self) {
            if let Some(server) = &self.server {
                server.replace(serve(&self.host, &self.trust, NOW));
            }
            self.client.replace(dial(&self.host, &self.trust, NOW));
        }

        fn believe(&mut self, trust: &Trust) {
            self.trust = self.trust.follow(trust.clone()).unwrap();
            self.reload();
        }

        fn renew(&mut self, signer: &Authority) {
            let identity = self.host.credentials.identity();
            self.host = host(signer, identity.role, identity.node.0);
            self.reload();
        }

        fn reported(&self) -> (NodeId, Option<Belief>) {
            let signed_by = Some(self.host.certificate().authority().pin());
            let belief = Belief { generation: self.trust.generation(), signed_by };
            (self.host.credentials.identity().node, Some(belief))
        }
    }

    fn all_connect(hosts: &[Running], step: &str) {
        for client in hosts {
            for (server, reachable) in hosts.iter().filter_map(|host| Some((host.server.as_ref()?, host))) {
                let met = handshake(
                    (*server.current()).clone(),
                    (*client.client.current()).clone(),
                    reachable.host.credentials.identity().server_name(),
                );
                let met = met.unwrap_or_else(|error| panic!("{step}: {error:?}"));
                assert_eq!(met.server_sees, Some(client.host.credentials.identity()), "{step}");
            }
        }
    }

    fn reports(hosts: &[Running]) -> Hosts {
        hosts.iter().map(Running::reported).collect()
    }

    let (first, second) = (authority(OURS), authority(OURS));
    let mut trust = Trust::new(first.certificate().clone());
    let roles = [(HostRole::Server, 1), (HostRole::Server, 2), (HostRole::Agent, 3)];
    let mut hosts: Vec<Running> =
        roles.into_iter().map(|(role, node)| Running::start(host(&first, role, node), &trust)).collect();
    all_connect(&hosts, "before");

    trust = trust.introduce(second.certificate().clone()).unwrap();
    for at in 0..hosts.len() {
        let early = trust.switch(&reports(&hosts)).unwrap_err();
        assert!(early.to_string().contains("believe the new authority"), "{early}");
        hosts[at].believe(&trust);
        all_connect(&hosts, "while the new authority is made known");
    }

    trust = trust.switch(&reports(&hosts)).unwrap();
    assert_eq!(trust.signer(), second.certificate());
    for at in 0..hosts.len() {
        let early = trust.retire(&reports(&hosts)).unwrap_err();
        assert!(early.to_string().contains("certificate by the new authority"), "{early}");
        hosts[at].believe(&trust);
        all_connect(&hosts, "while hosts learn of the switch");
        assert!(trust.outdates(hosts[at].host.certificate().authority()));
        hosts[at].renew(&second);
        all_connect(&hosts, "while certificates are renewed");
    }

    trust = trust.retire(&reports(&hosts)).unwrap();
    for at in 0..hosts.len() {
        hosts[at].believe(&trust);
        all_connect(&hosts, "while the old authority is retired");
    }

    // The old authority is worth nothing any more. Only a host that missed the rotation would still present it.
    let late = host(&first, HostRole::Agent, 4);
    let server = hosts[0].server.as_ref().unwrap().current();
    let refused = handshake((*server).clone(), dial(&late, &trust, NOW), any_server_name(OURS)).unwrap_err();
    assert!(refused.server().contains("does not believe"), "{refused:?}");
    let before = Trust::new(first.certificate().clone());
    let untied = before.follow(trust).unwrap_err();
    assert!(untied.to_string().contains("it missed a rotation"), "{untied}");
}

#[test]
fn a_lifetime_ends_with_the_authority() {
    let authority = Authority::make(OURS, NOW, Millis(10 * DAY)).unwrap();
    let agent = host(&authority, HostRole::Agent, 1);
    assert_eq!(agent.certificate().validity().not_after, authority.certificate().validity().not_after);
}
