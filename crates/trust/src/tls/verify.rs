//! Whom a handshake lets through: a chain to an authority that is believed, and an identity of this cluster in the role
//! that the side has.

use std::sync::Arc;

use model::{ClusterId, HostRole};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::{
    bundle::Trust,
    certificate::{AuthorityCertificate, Pin, read_identity},
    identity::Identity,
};

/// Why a peer is refused whose certificate may well be in order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    #[error(
        "the other side is {theirs}, and this side is of cluster {ours}; is the address right, or has the cluster been made anew?"
    )]
    OtherCluster { ours: ClusterId, theirs: Identity },
    #[error("{0} answers, which is no server; is the address right?")]
    NotAServer(Identity),
    #[error(
        "the server does not have the authority {0} that the token pins: it is of another cluster, or the authority was \
         rotated and the token is from before; ask for a new token"
    )]
    NotPinned(Pin),
    #[error("the other side's certificate is none of wharf's")]
    Foreign(#[source] crate::certificate::CertificateError),
}

impl From<PeerError> for Error {
    fn from(error: PeerError) -> Error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
    }
}

/// What a client starts from when it verifies a server.
#[derive(Debug)]
pub(super) enum Anchor {
    Roots(Arc<RootCertStore>),
    Pin(Pin),
}

/// How a client verifies a server.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    cluster: ClusterId,
    anchor: Anchor,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(super) fn new(cluster: ClusterId, anchor: Anchor, provider: &CryptoProvider) -> ServerVerifier {
        ServerVerifier { cluster, anchor, algorithms: provider.signature_verification_algorithms }
    }

    fn roots(&self, presented: &[CertificateDer<'_>]) -> Result<Arc<RootCertStore>, Error> {
        match &self.anchor {
            Anchor::Roots(roots) => Ok(Arc::clone(roots)),
            Anchor::Pin(pin) => Ok(Arc::new(pinned(*pin, presented)?)),
        }
    }
}

/// The authority with this pin, if the other side sent it along. Its own signature and key are checked with it.
fn pinned(pin: Pin, presented: &[CertificateDer<'_>]) -> Result<RootCertStore, Error> {
    // A server of ours sends one; whoever sends many only wants to be read for long.
    const AT_MOST: usize = 4;
    let authorities =
        presented.iter().take(AT_MOST).filter_map(|der| AuthorityCertificate::from_der(der).ok());
    let found = authorities.into_iter().find(|authority| authority.pin() == pin);
    let authority = found.ok_or(PeerError::NotPinned(pin))?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    Ok(roots)
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // First, because it is the better explanation: nothing is trusted on its account.
        let identity = of_cluster(self.cluster, end_entity)?;
        if identity.role != HostRole::Server {
            return Err(PeerError::NotAServer(identity).into());
        }
        let roots = self.roots(intermediates)?;
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, &roots, intermediates, now, algorithms)?;
        verify_server_name(&leaf, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// How a server verifies a client that presents a certificate.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    cluster: ClusterId,
    chain: Arc<dyn ClientCertVerifier>,
}

impl ClientVerifier {
    pub(super) fn new(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<ClientVerifier, Error> {
        let builder = WebPkiClientVerifier::builder_with_provider(trust.roots()?, Arc::clone(provider));
        let built = builder.allow_unauthenticated().build();
        let chain = built.map_err(|error| Error::General(error.to_string()))?;
        Ok(ClientVerifier { cluster: trust.cluster(), chain })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        of_cluster(self.cluster, end_entity)?;
        self.chain.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

fn of_cluster(ours: ClusterId, leaf: &CertificateDer<'_>) -> Result<Identity, PeerError> {
    let theirs = read_identity(leaf).map_err(PeerError::Foreign)?;
    if theirs.cluster == ours { Ok(theirs) } else { Err(PeerError::OtherCluster { ours, theirs }) }
}

fn only_tls13() -> Error {
    Error::General("a signature of TLS 1.2 in a handshake that allows only TLS 1.3".to_owned())
}
