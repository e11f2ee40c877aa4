//! What answers a connection: all services, each behind what stands before it.
//!
//! The services are the same for everybody, and what one connection may do with them is not: HTTP/2 has its measures per
//! server, so there are two servers, one for root and the hosts of the cluster and one for whoever has no certificate. A
//! connection of the latter costs little, however it is filled, because anybody can make one.

use std::{future::Future, io, time::Duration};

use futures_util::{FutureExt as _, Stream, future::try_join};
use http_body_util::BodyExt as _;
use model::{ClusterId, MemberId};
use proto::v1::{
    agents_server::AgentsServer, cluster_server::ClusterServer, control_server::ControlServer,
    join_server::JoinServer, peers_server::PeersServer,
};
use tonic::{
    Status,
    body::Body,
    codegen::http,
    service::Routes,
    transport::{Error, Server},
};
use tower::util::MapRequestLayer;

use crate::{
    MAX_MESSAGE,
    access::{Gate, Recognise},
    agents::Agents,
    audit::Audit,
    brain::Brain,
    control::Control,
    entrance::Connection,
    forward::{Leader, ToLeader},
    joins::Joins,
    keys::Keys,
    members::Members,
    middleware::Middleware as _,
    peers::Incoming,
    relay::Relays,
    remote::Remote,
    threshold::Threshold,
};

/// The largest message of a host that is nobody yet: a token and a key.
const MAX_JOIN: usize = 64 << 10;
/// A connection that says nothing for so long is asked, and closed if it says nothing for as long again: whoever watches
/// from a laptop may have closed it.
const SILENCE: Duration = Duration::from_secs(30);
/// Calls at once over one connection of a host: an agent has one, for the logs of all its replicas.
const HOST_STREAMS: u32 = 10_000;
/// The same without a certificate. `wharf` has a few: a watch, the logs of all replicas as one call, what it asks beside
/// them. More wait at the client.
const USER_STREAMS: u32 = 128;
/// The head of a call without a certificate, in bytes: a token has less than a thousand.
const USER_HEAD: u32 = 8 << 10;
/// So old, a connection without a certificate takes no more calls, and ends with the last that it has: one that nobody uses
/// does not stay. Calls that go on are not cut, and whoever asks again connects again.
const USER_AGE: Duration = Duration::from_secs(600);

/// What the services are made of.
pub(crate) struct Serving<'a> {
    pub(crate) brain: &'a Brain,
    pub(crate) cluster: ClusterId,
    pub(crate) keys: Keys,
    pub(crate) audit: Audit,
    /// None where this host is the cluster.
    pub(crate) remote: Option<&'a Remote>,
}

impl Serving<'_> {
    /// Serves those who come until `close` completes, and then what they have begun.
    pub(crate) fn serve<H, U, C>(
        self,
        hosts: H,
        users: U,
        close: C,
    ) -> impl Future<Output = Result<(), Error>> + use<H, U, C>
    where
        H: Stream<Item = io::Result<Connection>>,
        U: Stream<Item = io::Result<Connection>>,
        C: Future<Output = ()>,
    {
        let (services, close) = (self.services(), close.shared());
        let server = || {
            let server = Server::builder();
            let server =
                server.http2_keepalive_interval(Some(SILENCE)).http2_keepalive_timeout(Some(SILENCE));
            server.layer(MapRequestLayer::new(say_when_cut_off))
        };
        let for_hosts = server().max_concurrent_streams(HOST_STREAMS).add_routes(services.clone());
        let for_users = server()
            .max_concurrent_streams(USER_STREAMS)
            .http2_max_header_list_size(USER_HEAD)
            .max_connection_age(USER_AGE)
            .add_routes(services);
        let hosts = for_hosts.serve_with_incoming_shutdown(hosts, close.clone());
        let users = for_users.serve_with_incoming_shutdown(users, close);
        try_join(hosts, users).map(|served| served.map(|((), ())| ()))
    }

    fn services(self) -> Routes {
        let Serving { brain, cluster, keys, audit, remote } = self;
        let own = remote.map(|remote| MemberId(remote.member()));
        let to_leader =
            || ToLeader(remote.map(|remote| Leader::new(remote.member(), brain.clone(), remote.find_way())));
        // Two connections to the leader, so that whoever joins, or says so, is not in the way of users.
        let (users_to_leader, joins_to_leader) = (to_leader(), to_leader());
        let relays = Relays::default();
        let threshold = Threshold::new();
        let recognise = Recognise::new(brain.clone(), cluster, own, audit.clone());
        let gate = Gate::new(audit);

        let control = Control::new(brain.clone(), relays.clone(), gate.clone(), own);
        let control = ControlServer::new(control);
        let control = control.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
        let members = ClusterServer::new(Members::new(brain.clone(), cluster, own, keys, gate));
        let agents = AgentsServer::new(Agents::new(brain.clone(), relays, cluster, own));
        let agents = agents.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
        let mut services = Routes::new(recognise.wrap(users_to_leader.wrap(control)))
            .add_service(recognise.wrap(users_to_leader.wrap(members)))
            .add_service(threshold.wrap(agents));
        if let Some(remote) = remote {
            let joins = Joins::new(brain.clone(), cluster, own, remote.config.certificate_lifetime);
            let joins = JoinServer::new(joins).max_decoding_message_size(MAX_JOIN);
            let (tell, listens) = (brain.hears_peers(), brain.listens());
            let peers = Incoming::new(remote.member(), tell, listens, remote.exchanges.clone());
            let peers = PeersServer::new(peers);
            services = services
                .add_service(threshold.wrap(joins_to_leader.wrap(joins)))
                .add_service(threshold.wrap(peers.max_decoding_message_size(MAX_MESSAGE)));
        }
        services
    }
}

/// tonic takes a stream that its client reset for one that ended, and so half an archive for a whole one. An error that
/// is a status already, it passes on.
fn say_when_cut_off(request: http::Request<Body>) -> http::Request<Body> {
    let cut_off = |status: Status| Status::aborted(format!("the stream was cut off: {}", status.message()));
    request.map(|body| Body::new(body.map_err(cut_off)))
}
