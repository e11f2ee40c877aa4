//! The TLS configurations of servers, agents, joiners and people.
//!
//! TLS 1.3 only, ALPN `h2`, no resumption: a resumed session would skip the verification of certificates, and outlive a
//! rotation. Nothing here reads a clock; a [`TimeProvider`] is handed in (a shell gives
//! `rustls::time_provider::DefaultTimeProvider`).
//!
//! | who | configuration | presents | believes |
//! |---|---|---|---|
//! | a server that listens | [`server_config`] | its certificate | clients with a certificate by an authority in the [`Trust`]; who has none gets through the handshake and must bring a token, which is for the layer above |
//! | a server or agent that dials | [`client_config`] with [`Present::Certificate`] and [`Believe::Trust`] | its certificate | servers of its cluster |
//! | a joiner, a person, CI | [`client_config`] with [`Present::Nothing`] and [`Believe::Pin`] | nothing | servers whose chain has the pinned authority |
//!
//! A client says which name it dials: `identity::any_server_name` or, to reach one server and no other,
//! `Identity::server_name`. After the handshake [`peer_identity`] tells who is on the other side. That a node was removed is
//! not known here: a certificate holds until it ends, so the layer above checks that its node still belongs to the cluster.
//!
//! A configuration is fixed once it is made. To renew a certificate or rotate the authority without a restart, keep it in a
//! [`Reloading`] and take [`Reloading::current`] for each connection; connections that exist go on as they were.

mod explain;
mod verify;

use std::sync::Arc;

use arc_swap::ArcSwap;
use model::{ClusterId, HostRole};
use rustls::{
    ClientConfig, CommonState, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
    version::TLS13,
};

pub use explain::explain;
pub use verify::PeerError;

use crate::{
    bundle::Trust,
    certificate::{self, CertificateError, NodeCertificate, Pin},
    identity::Identity,
    key::NodeKey,
};
use verify::{Anchor, ClientVerifier, ServerVerifier};

/// A node's key and the certificate for it.
#[derive(Debug)]
pub struct Credentials {
    key: NodeKey,
    certificate: NodeCertificate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate of {0} is for another key")]
pub struct MismatchError(pub Identity);

impl Credentials {
    pub fn new(key: NodeKey, certificate: NodeCertificate) -> Result<Credentials, MismatchError> {
        if !certificate.is_for(&key) {
            return Err(MismatchError(certificate.identity()));
        }
        Ok(Credentials { key, certificate })
    }

    pub fn certificate(&self) -> &NodeCertificate {
        &self.certificate
    }

    pub fn identity(&self) -> Identity {
        self.certificate.identity()
    }

    fn as_rustls(&self) -> Result<Arc<SingleCertAndKey>, rustls::Error> {
        let key = ring::sign::any_ecdsa_type(&self.key.as_rustls())?;
        Ok(Arc::new(SingleCertAndKey::from(CertifiedKey::new(self.certificate.chain(), key))))
    }
}

/// What a client presents.
#[derive(Clone, Copy, Debug)]
pub enum Present<'a> {
    Certificate(&'a Credentials),
    /// And brings a token.
    Nothing,
}

/// Which servers a client believes.
#[derive(Clone, Copy, Debug)]
pub enum Believe<'a> {
    Trust(&'a Trust),
    /// What a token says.
    Pin(ClusterId, Pin),
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    #[error("{0} cannot listen: only a server's certificate lets it")]
    NotAServer(Identity),
    #[error("{identity} is of another cluster than the trust bundle, which is of {trust}")]
    OtherCluster { identity: Identity, trust: ClusterId },
    #[error("the TLS configuration cannot be made")]
    Tls(#[from] rustls::Error),
}

/// What `h2` is called in a handshake (RFC 9113 section 3.1).
const ALPN: &[u8] = b"h2";

/// Of a server that listens.
pub fn server_config(
    own: &Credentials,
    trust: &Trust,
    clock: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, ConfigError> {
    let identity = own.identity();
    match identity.role {
        HostRole::Server => {}
        HostRole::Agent => return Err(ConfigError::NotAServer(identity)),
    }
    same_cluster(own, trust)?;
    let provider = provider();
    let verifier = ClientVerifier::new(trust, &provider)?;
    let mut config = ServerConfig::builder_with_details(provider, clock)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(own.as_rustls()?);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Of whoever dials a server.
pub fn client_config(
    present: Present<'_>,
    believe: Believe<'_>,
    clock: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, ConfigError> {
    let (cluster, anchor) = match believe {
        Believe::Trust(trust) => (trust.cluster(), Anchor::Roots(trust.roots()?)),
        Believe::Pin(cluster, pin) => (cluster, Anchor::Pin(pin)),
    };
    let provider = provider();
    let verifier = ServerVerifier::new(cluster, anchor, &provider);
    let builder = ClientConfig::builder_with_details(provider, clock)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match present {
        Present::Certificate(own) => {
            if let Believe::Trust(trust) = believe {
                same_cluster(own, trust)?;
            }
            builder.with_client_cert_resolver(own.as_rustls()?)
        }
        Present::Nothing => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    // Every server has one certificate, so the name would only tell listeners which cluster this is.
    config.enable_sni = false;
    Ok(config)
}

fn same_cluster(own: &Credentials, trust: &Trust) -> Result<(), ConfigError> {
    let identity = own.identity();
    match identity.cluster == trust.cluster() {
        true => Ok(()),
        false => Err(ConfigError::OtherCluster { identity, trust: trust.cluster() }),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Who is on the other side of a connection whose handshake is complete; `None` for a client without a certificate.
pub fn peer_identity(connection: &CommonState) -> Result<Option<Identity>, CertificateError> {
    let presented = connection.peer_certificates().and_then(<[_]>::first);
    presented.map(|leaf| certificate::read_identity(leaf)).transpose()
}

/// A configuration that can be replaced while connections are being made with it.
#[derive(Debug)]
pub struct Reloading<C> {
    current: ArcSwap<C>,
}

impl<C> Reloading<C> {
    pub fn new(config: C) -> Reloading<C> {
        Reloading { current: ArcSwap::from_pointee(config) }
    }

    /// For one connection.
    pub fn current(&self) -> Arc<C> {
        self.current.load_full()
    }

    /// From the next connection on.
    pub fn replace(&self, config: C) {
        self.current.store(Arc::new(config));
    }
}
