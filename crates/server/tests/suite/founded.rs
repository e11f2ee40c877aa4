//! A cluster of one server that listens for everybody, and who comes.

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use dial::{Patience, Way, dial};
use model::{HostRole, Millis, NodeId, Timestamp};
use proto::v1::{self, AccessRole, access_token::Namespaces, cluster_client::ClusterClient};
use rustls::time_provider::DefaultTimeProvider;
use serde_json::Value as Json;
use server::{
    founding,
    remote::{Beginning, RemoteConfig},
};
use tonic::{Request, transport::Channel};
use trust::{
    authority::Authority,
    folder::IdentityFolder,
    identity::{Identity, any_server_name},
    tls::{Believe, Present, client_config},
    token::access::AccessTokenText,
    validity,
};

use crate::fixture::{Home, Server, channel, eventually, own_address};

/// A founded cluster of one server, which listens for everybody.
pub(crate) struct Founded {
    pub(crate) server: Server,
    pub(crate) identity: Identity,
    pub(crate) address: SocketAddr,
    folder: std::path::PathBuf,
}

impl Founded {
    pub(crate) async fn start() -> Founded {
        let home = Home::new();
        let folder = home.data.join("trust");
        let identity = founding::found(&home.data, &folder, now()).unwrap();
        let address = own_address();
        let server = Server::start_in(home.remote(RemoteConfig {
            name: "one".parse().unwrap(),
            listen: address,
            advertise: address.to_string(),
            identity: folder.clone(),
            certificate_lifetime: validity::NODE_LIFETIME,
            beginning: Beginning::Founds,
            contacts: Default::default(),
        }))
        .await;
        Founded { server, identity, address, folder }
    }

    pub(crate) async fn root(&self) -> ClusterClient<Channel> {
        ClusterClient::new(channel(&self.server.home.socket).await.unwrap())
    }

    /// A token that root made.
    pub(crate) async fn token(
        &self,
        name: &str,
        role: AccessRole,
        namespaces: &[&str],
        expires: Option<u64>,
    ) -> AccessTokenText {
        let namespaces = namespaces.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let request = v1::CreateAccessTokenRequest {
            name: name.to_owned(),
            role: role.into(),
            namespaces: (!namespaces.is_empty()).then_some(Namespaces { names: namespaces }),
            expires_after_ms: expires,
            addresses: Vec::new(),
        };
        let made = eventually("a token is made", || async {
            self.root().await.create_access_token(request.clone()).await
        });
        AccessTokenText::parse(&made.await.into_inner().token).unwrap()
    }

    /// Over TLS without a certificate, as people come.
    pub(crate) async fn over_tls(&self, token: &AccessTokenText) -> Channel {
        let believe = Believe::Pin(token.token.cluster, token.token.pin);
        let config = client_config(Present::Nothing, believe, Arc::new(DefaultTimeProvider)).unwrap();
        self.dial(config).await
    }

    /// With the certificate of a host of this cluster.
    pub(crate) async fn as_host(&self, role: HostRole) -> Channel {
        let stored = IdentityFolder::open(&self.folder).unwrap().load().unwrap().unwrap();
        let credentials = match role {
            HostRole::Server => stored.credentials,
            HostRole::Agent => {
                let part = self.root().await.backup(v1::BackupRequest {}).await;
                self.agent_credentials(&stored.trust, part.unwrap().into_inner()).await
            }
        };
        let believe = Believe::Trust(&stored.trust);
        let config =
            client_config(Present::Certificate(&credentials), believe, Arc::new(DefaultTimeProvider));
        self.dial(config.unwrap()).await
    }

    /// A backup has everything in it, the authority too: nobody but an admin may have one.
    async fn agent_credentials(
        &self,
        _: &trust::bundle::Trust,
        mut parts: tonic::Streaming<v1::BackupPart>,
    ) -> trust::tls::Credentials {
        let mut data = Vec::new();
        while let Some(part) = parts.message().await.unwrap() {
            if let Some(v1::backup_part::Part::Data(bytes)) = part.part {
                data.extend_from_slice(&bytes);
            }
        }
        let state = proto::codec::decode_snapshot(&data).unwrap();
        let authority = Authority::decode(&state.trust().unwrap().authority.0).unwrap();
        let folder = self.folder.with_extension("agent");
        let home = IdentityFolder::open(&folder).unwrap();
        home.believe(&trust::bundle::Trust::new(authority.certificate().clone())).unwrap();
        let identity = Identity { role: HostRole::Agent, node: NodeId(5), ..self.identity };
        let request = home.next_key().unwrap().request().unwrap();
        home.install(authority.sign(&request, identity, now(), Millis(3_600_000)).unwrap()).unwrap();
        home.load().unwrap().unwrap().credentials
    }

    async fn dial(&self, config: rustls::ClientConfig) -> Channel {
        let name = any_server_name(self.identity.cluster);
        let (address, config) = (self.address.to_string(), Arc::new(config));
        let patience = Patience { connect: Duration::from_secs(5), silence: Duration::from_secs(5) };
        dial(Way::Tls { address, name, config }, patience).await.unwrap()
    }

    pub(crate) fn audit(&self) -> Vec<Json> {
        let text = fs::read_to_string(self.server.home.data.join("audit.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(crate) fn now() -> Timestamp {
    Timestamp(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64)
}

pub(crate) fn bearer(token: &AccessTokenText) -> String {
    format!("Bearer {}", *token.bearer())
}

pub(crate) fn with<T>(message: T, headers: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    request
}
