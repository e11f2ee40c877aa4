//! Hosts with certificates, and a handshake between two of them without a network.

#![allow(clippy::unwrap_used)] // Clippy's exemption of tests does not reach the helpers of an integration test.

use std::sync::Arc;

use model::{ClusterId, HostRole, NodeId, Timestamp};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    time_provider::TimeProvider,
    version::TLS13,
};
use trust::{
    authority::Authority,
    certificate::NodeCertificate,
    identity::Identity,
    key::NodeKey,
    tls::{Credentials, explain, peer_identity},
    validity::{AUTHORITY_LIFETIME, NODE_LIFETIME},
};

pub const DAY: u64 = 24 * 3_600_000;
/// Some time in 2026.
pub const NOW: Timestamp = Timestamp(1_790_000_000_000);

#[derive(Debug)]
struct Fixed(Timestamp);

impl TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_millis(self.0.0)))
    }
}

pub fn clock(now: Timestamp) -> Arc<dyn TimeProvider> {
    Arc::new(Fixed(now))
}

pub fn authority(cluster: ClusterId) -> Authority {
    Authority::make(cluster, NOW, AUTHORITY_LIFETIME).unwrap()
}

pub struct Host {
    pub credentials: Credentials,
    key: NodeKey,
}

impl Host {
    pub fn certificate(&self) -> &NodeCertificate {
        self.credentials.certificate()
    }
}

pub fn host(authority: &Authority, role: HostRole, node: u64) -> Host {
    let key = NodeKey::generate().unwrap();
    let identity = Identity { cluster: authority.certificate().cluster(), role, node: NodeId(node) };
    let certificate = authority.sign(&key.request().unwrap(), identity, NOW, NODE_LIFETIME).unwrap();
    let again = NodeKey::from_pem(&key.to_pem()).unwrap();
    Host { credentials: Credentials::new(key, certificate).unwrap(), key: again }
}

/// A server as an attacker would write one: it presents what it likes.
pub fn raw_server(host: &Host, chain: Vec<CertificateDer<'static>>) -> ServerConfig {
    let pem = host.key.to_pem();
    let der =
        <PrivatePkcs8KeyDer<'static> as rustls::pki_types::pem::PemObject>::from_pem_slice(pem.as_bytes());
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::Pkcs8(der.unwrap()))
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Whom each side met.
#[derive(Debug)]
pub struct Met {
    pub server_sees: Option<Identity>,
    pub client_sees: Option<Identity>,
    pub protocol: Option<Vec<u8>>,
    pub kind: Option<HandshakeKind>,
}

/// What each side failed with; the one that refused first, and what the other heard of it.
#[derive(Debug)]
pub struct Refused {
    server: Option<rustls::Error>,
    client: Option<rustls::Error>,
}

impl Refused {
    pub fn server(&self) -> String {
        explained(&self.server)
    }

    pub fn client(&self) -> String {
        explained(&self.client)
    }
}

fn explained(error: &Option<rustls::Error>) -> String {
    let Some(error) = error else { return "no error".to_owned() };
    // As a shell sees it: inside of an I/O error.
    explain(&std::io::Error::other(error.clone())).unwrap_or_else(|| panic!("not explained: {error:?}"))
}

pub fn shaken(server: ServerConfig, client: ClientConfig, name: ServerName<'static>) -> Met {
    handshake(server, client, name).unwrap_or_else(|refused| panic!("{refused:?}"))
}

/// Until both sides are through and have sent each other a byte: in TLS 1.3 a client learns only then that it was refused.
pub fn handshake(
    server: ServerConfig,
    client: ClientConfig,
    name: ServerName<'static>,
) -> Result<Met, Box<Refused>> {
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut refused = Refused { server: None, client: None };
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        refused.server = refused.server.take().or(deliver(&bytes, &mut server));
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        refused.client = refused.client.take().or(deliver(&bytes, &mut client));
    }
    if refused.server.is_some() || refused.client.is_some() {
        return Err(Box::new(refused));
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    Ok(Met {
        server_sees: peer_identity(&server).unwrap(),
        client_sees: peer_identity(&client).unwrap(),
        protocol: server.alpn_protocol().map(<[u8]>::to_vec),
        kind: client.handshake_kind(),
    })
}

fn deliver<D, C>(mut bytes: &[u8], to: &mut C) -> Option<rustls::Error>
where
    C: std::ops::DerefMut<Target = rustls::ConnectionCommon<D>>,
    D: rustls::SideData,
{
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).unwrap();
        if let Err(error) = to.process_new_packets() {
            return Some(error);
        }
    }
    None
}
