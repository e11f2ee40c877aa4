//! Three servers over TLS: what one was told, all know, whoever of them is away.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use dial::{Patience, Way, dial};
use model::{ClusterId, HostRole, Level, Millis, Name, NodeId, Timestamp};
use proto::v1::{
    self, MemberPart, cluster_client::ClusterClient, control_client::ControlClient, peers_client::PeersClient,
};
use rustls::time_provider::DefaultTimeProvider;
use server::remote::{Beginning, RemoteConfig};
use tempfile::TempDir;
use tonic::transport::Channel;
use trust::{
    authority::Authority,
    bundle::Trust,
    folder::IdentityFolder,
    identity::{Identity, any_server_name},
    tls::{Believe, Present, client_config},
    validity,
};

use crate::agent::Agent;
use crate::fixture::{
    Home, Server, apply_of, channel, declaration, eventually, everything, in_time, own_address,
};

const CLUSTER: ClusterId = ClusterId(77);

/// Hosts that could be servers: each has a certificate, a folder and an address.
pub(crate) struct Cluster {
    folder: TempDir,
    authority: Authority,
    pub(crate) addresses: BTreeMap<u64, SocketAddr>,
}

impl Cluster {
    pub(crate) fn of(members: impl IntoIterator<Item = u64>) -> Cluster {
        let now = Timestamp(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64);
        let authority = Authority::make(CLUSTER, now, validity::AUTHORITY_LIFETIME).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut addresses = BTreeMap::new();
        for member in members {
            let identity = Identity { cluster: CLUSTER, role: HostRole::Server, node: NodeId(member) };
            let home = IdentityFolder::open(&folder.path().join(format!("identity-{member}"))).unwrap();
            home.believe(&Trust::new(authority.certificate().clone())).unwrap();
            let request = home.next_key().unwrap().request().unwrap();
            home.install(authority.sign(&request, identity, now, Millis(3_600_000)).unwrap()).unwrap();
            addresses.insert(member, own_address());
        }
        Cluster { folder, authority, addresses }
    }

    pub(crate) fn home(&self, member: u64) -> Home {
        Home::at(&self.folder.path().join(format!("server-{member}"))).remote(RemoteConfig {
            name: name(member),
            listen: self.addresses[&member],
            advertise: self.addresses[&member].to_string(),
            identity: self.folder.path().join(format!("identity-{member}")),
            certificate_lifetime: validity::NODE_LIFETIME,
            beginning: if member == 1 { Beginning::Founds } else { Beginning::Joins },
            contacts: BTreeMap::from([(1, self.addresses[&1].to_string())]),
        })
    }

    /// With the certificate of a server, to another.
    async fn channel(&self, from: u64, to: u64) -> Channel {
        let folder = self.folder.path().join(format!("identity-{from}"));
        let stored = IdentityFolder::open(&folder).unwrap().load().unwrap().unwrap();
        let (own, trust) = (Present::Certificate(&stored.credentials), Believe::Trust(&stored.trust));
        let config = client_config(own, trust, Arc::new(DefaultTimeProvider)).unwrap();
        let (address, name) = (self.addresses[&to].to_string(), any_server_name(CLUSTER));
        let patience = Patience { connect: Duration::from_secs(5), silence: Duration::from_secs(5) };
        dial(Way::Tls { address, name, config: Arc::new(config) }, patience).await.unwrap()
    }

    /// Asks a server what users ask, with the certificate of another that says it hands that on.
    async fn hands_on(&self, from: u64, to: u64) -> Result<(), tonic::Status> {
        let mut request = tonic::Request::new(everything());
        request.metadata_mut().insert("wharf-handed-on", "1".parse().unwrap());
        ControlClient::new(self.channel(from, to).await).status(request).await.map(|_| ())
    }

    async fn start(&self, member: u64) -> Server {
        Server::start_in(self.home(member)).await
    }

    /// The first three, all of which vote.
    pub(crate) async fn start_three(&self) -> BTreeMap<u64, Server> {
        let mut servers = BTreeMap::from([(1, self.start(1).await)]);
        for member in [2, 3] {
            let added = self.add(&servers[&1], member).await;
            servers.insert(member, added);
        }
        wait_for_voters(&servers, &[1, 2, 3]).await;
        servers
    }

    /// Starts another one, which is to vote.
    async fn add(&self, at: &Server, member: u64) -> Server {
        let request = v1::AddMemberRequest {
            id: member,
            name: name(member).to_string(),
            address: self.addresses[&member].to_string(),
            part: MemberPart::Voter.into(),
            level: Level::NEWEST.0,
        };
        eventually("a member is added", || async {
            members_of(at).await.add_member(request.clone()).await.map_err(|status| status.to_string())
        })
        .await;
        self.start(member).await
    }
}

fn name(member: u64) -> Name {
    format!("server-{member}").parse().unwrap()
}

pub(crate) async fn members_of(server: &Server) -> ClusterClient<Channel> {
    ClusterClient::new(channel(&server.home.socket).await.unwrap())
}

pub(crate) async fn wait_for_voters(servers: &BTreeMap<u64, Server>, expected: &[u64]) {
    for server in servers.values() {
        eventually("the members are as they shall be", || async {
            let seen =
                members_of(server).await.get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner();
            let votes = |member: &&v1::MemberStatus| member.now() == MemberPart::Voter;
            let voters: Vec<u64> =
                seen.members.iter().filter(votes).filter_map(|m| Some(m.member.as_ref()?.id)).collect();
            if voters == expected && seen.leader.is_some() { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    }
}

/// Who leads, as all of them see it.
pub(crate) async fn leader(servers: &BTreeMap<u64, Server>) -> u64 {
    eventually("all agree on a leader", || async {
        let mut leaders = Vec::new();
        for server in servers.values() {
            let seen =
                members_of(server).await.get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner();
            leaders.push(seen.leader);
        }
        match leaders[0] {
            Some(leader)
                if leaders.iter().all(|other| *other == leaders[0]) && servers.contains_key(&leader) =>
            {
                Ok(leader)
            }
            _ => Err(format!("{leaders:?}")),
        }
    })
    .await
}

/// Declares a service at a server that does not lead, which hands it on, and finds it at each of them.
pub(crate) async fn write_and_read(servers: &BTreeMap<u64, Server>, service: &str) {
    let request = apply_of([declaration(service, "image: hello\nreplicas: 1")]);
    let leader = leader(servers).await;
    // It has the image.
    let _agent = Agent::start(&servers[&leader], 1).await;
    let (_, follower) = servers.iter().find(|(member, _)| **member != leader).unwrap();
    eventually("a service is declared", || async {
        let mut control = follower.control().await;
        control.apply(request.clone()).await.map_err(|status| status.to_string())
    })
    .await;
    for (member, server) in servers {
        let found = in_time("a read", async {
            server.control().await.status(everything()).await.unwrap().into_inner()
        })
        .await;
        let names =
            found.services.iter().filter_map(|s| Some(s.service.as_ref()?.key.as_ref()?.name.as_str()));
        assert!(
            names.collect::<Vec<_>>().contains(&service),
            "server {member} does not know {service}: {found:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_declared_survives_the_loss_of_any_server() {
    let cluster = Cluster::of(1..=3);
    let mut servers = cluster.start_three().await;
    write_and_read(&servers, "first").await;
    for round in 0..3 {
        let away = leader(&servers).await;
        let home = servers.remove(&away).unwrap().stop().await;
        write_and_read(&servers, &format!("without-{round}")).await;
        servers.insert(away, Server::start_in(home).await);
        write_and_read(&servers, &format!("with-{round}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_and_a_removed_server_stops_and_says_why() {
    let cluster = Cluster::of(1..=3);
    let mut servers = cluster.start_three().await;
    let old = leader(&servers).await;
    let next = if old == 2 { 3 } else { 2 };
    let mut members = members_of(&servers[&old]).await;
    members.transfer_leader(v1::TransferLeaderRequest { to: Some(next) }).await.unwrap();
    assert_eq!(leader(&servers).await, next);
    write_and_read(&servers, "after").await;
    let gone = servers.remove(&old).unwrap();
    let mut members = members_of(&servers[&next]).await;
    let request = v1::SetMemberPartRequest { id: old, part: MemberPart::Removed.into() };
    members.set_member_part(request).await.unwrap();
    let ended = gone.ended_by_itself().await;
    assert!(matches!(&ended, server::Error::Removed { .. }), "{ended:?}");
    wait_for_voters(&servers, &servers.keys().copied().collect::<Vec<_>>()).await;
    write_and_read(&servers, "without").await;
    // Its certificate still holds, and says nothing any more.
    let other = servers.keys().copied().find(|member| *member != next).unwrap();
    cluster.hands_on(other, next).await.unwrap();
    let refused = cluster.hands_on(old, next).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused:?}");
}

/// Servers 3, 4 and 5 take part, and 3 has not run since 1 and 2 did.
async fn all_others_changed(cluster: &Cluster) -> (BTreeMap<u64, Server>, Home) {
    let mut servers = cluster.start_three().await;
    write_and_read(&servers, "before").await;
    let away = servers.remove(&3).unwrap().stop().await;
    for (comes, goes, all, stay) in [(4, 1, [1, 2, 3, 4], [2, 3, 4]), (5, 2, [2, 3, 4, 5], [3, 4, 5])] {
        let at = *servers.keys().next_back().unwrap();
        let added = cluster.add(&servers[&at], comes).await;
        servers.insert(comes, added);
        wait_for_voters(&servers, &all).await;
        let mut members = members_of(&servers[&comes]).await;
        let request = v1::SetMemberPartRequest { id: goes, part: MemberPart::Removed.into() };
        members.set_member_part(request).await.unwrap();
        let ended = servers.remove(&goes).unwrap().ended_by_itself().await;
        assert!(matches!(&ended, server::Error::Removed { .. }), "{ended:?}");
        wait_for_voters(&servers, &stay).await;
    }
    (servers, away)
}

/// Whom it knows is gone, and those who are there now it knows by nothing but what they say to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_while_all_others_changed_takes_part_again() {
    let cluster = Cluster::of(1..=5);
    let (mut servers, home) = all_others_changed(&cluster).await;
    servers.insert(3, Server::start_in(home).await);
    // What only the leader can do, it hands on as soon as it knows where that one is.
    let request = v1::SetMemberPartRequest { id: 3, part: MemberPart::Voter.into() };
    in_time("a write", members_of(&servers[&3]).await.set_member_part(request)).await.unwrap();
    wait_for_voters(&servers, &[3, 4, 5]).await;
    // It and any other are two of three.
    let leads = leader(&servers).await;
    let away = if leads == 3 { 4 } else { leads };
    drop(servers.remove(&away));
    write_and_read(&servers, "after").await;
}

/// Nobody finds it, and it finds nobody, until it is told of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_moved_meanwhile_tells_whom_its_configuration_names() {
    let cluster = Cluster::of(1..=6);
    let (mut servers, mut home) = all_others_changed(&cluster).await;
    let remote = home.remote.as_mut().unwrap();
    let moved = cluster.addresses[&6];
    (remote.listen, remote.advertise) = (moved, moved.to_string());
    remote.contacts = BTreeMap::from([(4, cluster.addresses[&4].to_string())]);
    servers.insert(3, Server::start_in(home).await);
    for server in servers.values() {
        eventually("the state says where it is", || async {
            let asked = members_of(server).await.get_cluster(v1::GetClusterRequest {}).await;
            let mut members = asked.unwrap().into_inner().members.into_iter().filter_map(|seen| seen.member);
            let address = members.find(|member| member.id == 3).map(|member| member.address);
            if address == Some(moved.to_string()) { Ok(()) } else { Err(address) }
        })
        .await;
    }
    write_and_read(&servers, "after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_in_whose_certificate_is_not_of_this_cluster() {
    let cluster = Cluster::of(1..=2);
    let stranger = Cluster::of(2..=2);
    let one = cluster.start(1).await;
    let address = cluster.addresses[&2].to_string();
    let (name, part, level) = (name(2).to_string(), MemberPart::Voter.into(), Level::NEWEST.0);
    eventually("a member is added", || async {
        let request =
            v1::AddMemberRequest { id: 2, name: name.clone(), address: address.clone(), part, level };
        members_of(&one).await.add_member(request).await.map_err(|status| status.to_string())
    })
    .await;
    assert_ne!(cluster.authority.certificate().pin(), stranger.authority.certificate().pin());
    let mut home = cluster.home(2);
    home.remote.as_mut().unwrap().identity = stranger.folder.path().join("identity-2");
    let two = Server::start_in(home).await;
    // It would have been given a vote within the time that the real one takes twice.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let seen = members_of(&two).await.get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner();
    assert_eq!((seen.members.len(), seen.leader), (0, None), "{seen:?}");
    let seen = members_of(&one).await.get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner();
    let waits = seen.members.iter().find(|member| member.member.as_ref().unwrap().id == 2).unwrap();
    assert_eq!(waits.now(), MemberPart::Learner, "{seen:?}");
    let real = two.stop().await;
    drop(real);
    let _two = cluster.start(2).await;
    wait_for_voters(&BTreeMap::from([(1, one)]), &[1, 2]).await;
}

/// Of raft, as no server sends it (`eraftpb.proto` of raft-rs): asks for a vote in a term far ahead, with a longer log than
/// anybody's, and as if the leader had wanted it.
fn forged_vote(from: u64, to: u64) -> bytes::Bytes {
    let mut bytes = Vec::new();
    for (field, mut value) in [(1, 5), (2, to), (3, from), (4, 1_000), (5, 1_000), (6, 1 << 40)] {
        bytes.push(field << 3);
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    }
    bytes.extend([12 << 3 | 2, 16]);
    bytes.extend(b"CampaignTransfer");
    bytes.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_without_a_part_in_the_cluster_deposes_nobody_and_brings_no_state() {
    let cluster = Cluster::of((1..=3).chain([9]));
    let servers = cluster.start_three().await;
    let leads = leader(&servers).await;
    for to in [1, 2, 3] {
        let mut peers = PeersClient::new(cluster.channel(9, to).await);
        let message = v1::PeerMessage { kind: v1::PeerMessageKind::Raft.into(), raft: forged_vote(9, to) };
        let batch = v1::PeerBatch { from: 9, to, messages: vec![message], ..Default::default() };
        in_time("the batch is taken", peers.exchange(tokio_stream::iter([batch]))).await.unwrap();
        let transfer = v1::SnapshotTransfer { from: 9, to, digest: vec![0; 32].into(), length: 1 << 30 };
        let piece = v1::SnapshotPiece { transfer: Some(transfer), offset: 0, data: vec![0; 1 << 20].into() };
        let refused = peers.send_snapshot(tokio_stream::iter([piece])).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused:?}");
    }
    // What was said before this is asked has been heard.
    write_and_read(&servers, "after").await;
    for server in servers.values() {
        let seen = members_of(server).await.get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner();
        assert_eq!(seen.leader, Some(leads), "{seen:?}");
    }
}
