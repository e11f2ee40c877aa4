//! Certificates as wharf writes them, read back strictly: an authority's, and a node's.
//!
//! A [`NodeCertificate`] always travels with the certificate of the authority that signed it. So a host that knows only the
//! authority's [`Pin`] finds in the handshake what the pin speaks of.

use std::fmt;

use model::{ClusterId, HostRole, Timestamp};
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use crate::{
    identity::{self, Identity},
    key::{self, NodeKey},
    pem::{self, PemError},
    validity::Validity,
};

pub use model::{Pin, PinError};

/// What a token pins; shown as `openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | sha256sum` prints it.
pub(crate) fn pin_of(public_key: &[u8]) -> Pin {
    Pin(Sha256::digest(public_key).into())
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("the certificate is damaged")]
    Pem(#[from] PemError),
    #[error("the certificate cannot be read: it is not X.509 in DER")]
    Malformed,
    #[error("this is not a certificate that wharf writes: {0}")]
    Foreign(&'static str),
    #[error("the certificate of {identity} is not signed by the authority {authority} that it comes with")]
    OtherAuthority { identity: Identity, authority: Pin },
    #[error("the certificate names cluster {named}, its authority is of cluster {authority}")]
    OtherCluster { named: ClusterId, authority: ClusterId },
}

/// The certificate of a cluster's authority.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorityCertificate {
    der: CertificateDer<'static>,
    cluster: ClusterId,
    pin: Pin,
    validity: Validity,
}

impl AuthorityCertificate {
    pub fn from_der(der: &[u8]) -> Result<AuthorityCertificate, CertificateError> {
        let parsed = parse(der)?;
        if !parsed.is_ca() {
            return Err(CertificateError::Foreign("it is not an authority's"));
        }
        let public_key = parsed.public_key().raw;
        if !key::is_p256(public_key) {
            return Err(CertificateError::Foreign("its key is not ECDSA over P-256"));
        }
        parsed.verify_signature(None).map_err(|_| CertificateError::Foreign("it is not signed by itself"))?;
        let names = names(&parsed)?;
        let cluster = match names.uris.as_slice() {
            [uri] if names.dns.is_empty() => identity::parse_authority_uri(uri),
            _ => None,
        };
        Ok(AuthorityCertificate {
            der: CertificateDer::from(der.to_vec()),
            cluster: cluster.ok_or(CertificateError::Foreign("it does not name a cluster"))?,
            pin: pin_of(public_key),
            validity: validity(&parsed),
        })
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    pub fn pin(&self) -> Pin {
        self.pin
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }
}

impl fmt::Debug for AuthorityCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "authority {:?} of {}", self.pin, self.cluster)
    }
}

/// The certificate of one node in one role, with its authority's.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeCertificate {
    der: CertificateDer<'static>,
    authority: AuthorityCertificate,
    identity: Identity,
    validity: Validity,
    /// SubjectPublicKeyInfo in DER.
    public_key: Vec<u8>,
}

impl NodeCertificate {
    /// Refuses a certificate that `authority` did not sign. Whether it holds now is not looked at.
    pub fn from_der(
        der: &[u8],
        authority: AuthorityCertificate,
    ) -> Result<NodeCertificate, CertificateError> {
        let parsed = parse(der)?;
        let identity = identity_in(&parsed)?;
        if identity.cluster != authority.cluster {
            let named = identity.cluster;
            return Err(CertificateError::OtherCluster { named, authority: authority.cluster });
        }
        let issuer = parse(&authority.der)?;
        if parsed.verify_signature(Some(issuer.public_key())).is_err() {
            return Err(CertificateError::OtherAuthority { identity, authority: authority.pin });
        }
        Ok(NodeCertificate {
            der: CertificateDer::from(der.to_vec()),
            authority,
            identity,
            validity: validity(&parsed),
            public_key: parsed.public_key().raw.to_vec(),
        })
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Which authority signed it.
    pub fn authority(&self) -> &AuthorityCertificate {
        &self.authority
    }

    /// Whether it was issued for this key.
    pub fn is_for(&self, key: &NodeKey) -> bool {
        self.public_key == key.public()
    }

    /// What is presented in a handshake: the node's, then its authority's.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.der.clone(), self.authority.der.clone()]
    }

    /// Both certificates; what travels to the node, and what lies on its disk.
    pub fn to_pem(&self) -> String {
        let mut text = Zeroizing::new(String::new());
        pem::write(pem::CERTIFICATE, &self.der, &mut text);
        pem::write(pem::CERTIFICATE, &self.authority.der, &mut text);
        std::mem::take(&mut text)
    }

    pub fn from_pem(text: &str) -> Result<NodeCertificate, CertificateError> {
        let [der, authority] = pem::read(text)?.exactly([pem::CERTIFICATE, pem::CERTIFICATE])?;
        NodeCertificate::from_der(&der, AuthorityCertificate::from_der(&authority)?)
    }
}

impl fmt::Debug for NodeCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate of {} by {:?}", self.identity, self.authority)
    }
}

/// Who a node's certificate speaks of. The signature is not looked at: the handshake did that.
pub fn read_identity(der: &[u8]) -> Result<Identity, CertificateError> {
    identity_in(&parse(der)?)
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok((&[], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(CertificateError::Malformed),
    }
}

struct Names<'a> {
    uris: Vec<&'a str>,
    dns: Vec<&'a str>,
}

fn names<'a>(certificate: &'a X509Certificate<'_>) -> Result<Names<'a>, CertificateError> {
    let mut names = Names { uris: Vec::new(), dns: Vec::new() };
    let extension = certificate.subject_alternative_name().map_err(|_| CertificateError::Malformed)?;
    let all = extension.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    for name in all {
        match name {
            GeneralName::URI(uri) => names.uris.push(uri),
            GeneralName::DNSName(dns) => names.dns.push(dns),
            _ => return Err(CertificateError::Foreign("it has names that are neither URI nor DNS")),
        }
    }
    Ok(names)
}

fn identity_in(certificate: &X509Certificate<'_>) -> Result<Identity, CertificateError> {
    if certificate.is_ca() {
        return Err(CertificateError::Foreign("it is an authority's, not a node's"));
    }
    if !key::is_p256(certificate.public_key().raw) {
        return Err(CertificateError::Foreign("its key is not ECDSA over P-256"));
    }
    let names = names(certificate)?;
    let identity: Identity = match names.uris.as_slice() {
        [uri] => uri.parse().map_err(|_| CertificateError::Foreign("it names no host of wharf"))?,
        _ => return Err(CertificateError::Foreign("it does not name exactly one host")),
    };
    if names.dns != identity.dns_names() {
        return Err(CertificateError::Foreign("its DNS names are not those of the host that it names"));
    }
    let uses = certificate.extended_key_usage().map_err(|_| CertificateError::Malformed)?;
    let uses = uses.map(|extension| (extension.value.client_auth, extension.value.server_auth));
    let expected = match identity.role {
        HostRole::Server => (true, true),
        HostRole::Agent => (true, false),
    };
    if uses != Some(expected) {
        return Err(CertificateError::Foreign("its uses are not those of the role that it names"));
    }
    Ok(identity)
}

fn validity(certificate: &X509Certificate<'_>) -> Validity {
    let at = |seconds: i64| Timestamp(u64::try_from(seconds).unwrap_or(0) * 1_000);
    let validity = certificate.validity();
    Validity {
        not_before: at(validity.not_before.timestamp()),
        not_after: at(validity.not_after.timestamp()),
    }
}

#[cfg(test)]
mod tests {
    use model::{Millis, NodeId};
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Use, IsCa, Issuer, KeyPair, SanType,
    };

    use super::*;
    use crate::authority::Authority;

    const AGENT: Identity = Identity { cluster: ClusterId(1), role: HostRole::Agent, node: NodeId(2) };

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    /// A certificate as somebody else would write it. Who signed it does not matter for reading its identity.
    fn read(
        names: Vec<SanType>,
        uses: Vec<Use>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Identity, String> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.extended_key_usages = uses;
        change(&mut params);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        read_identity(made.der()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_identity_is_read_only_from_a_certificate_as_wharf_writes_it() {
        let own = || vec![uri(&AGENT.to_string()), dns(&AGENT.dns_name())];
        let with = |more| own().into_iter().chain([more]).collect::<Vec<_>>();
        let client = || vec![Use::ClientAuth];
        let same = |_: &mut CertificateParams| {};
        assert_eq!(read(own(), client(), same), Ok(AGENT));

        let as_server = Identity { role: HostRole::Server, ..AGENT }.to_string();
        let dns_names = "its DNS names are not those of the host that it names";
        for (names, refused) in [
            (vec![], "it does not name exactly one host"),
            (vec![dns(&AGENT.dns_name())], "it does not name exactly one host"),
            (with(uri("wharf://0000000000001/agent/0000000000003")), "it does not name exactly one host"),
            (vec![uri("https://example.org"), dns(&AGENT.dns_name())], "it names no host of wharf"),
            (vec![uri(&AGENT.to_string())], dns_names),
            (with(dns("server.0000000000001.wharf.internal")), dns_names),
            (vec![uri(&as_server), dns(&AGENT.dns_name())], dns_names),
            (with(SanType::IpAddress([127, 0, 0, 1].into())), "it has names that are neither URI nor DNS"),
        ] {
            let told = read(names.clone(), client(), same).unwrap_err();
            assert!(told.ends_with(refused), "{names:?}: {told}");
        }

        for uses in [vec![], vec![Use::ServerAuth], vec![Use::ClientAuth, Use::ServerAuth]] {
            let told = read(own(), uses.clone(), same).unwrap_err();
            assert!(told.ends_with("its uses are not those of the role that it names"), "{uses:?}: {told}");
        }
        let told = read(own(), client(), |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        assert!(told.unwrap_err().ends_with("it is an authority's, not a node's"));
    }

    #[test]
    fn a_certificate_comes_with_the_authority_that_signed_it() {
        let make = |cluster| Authority::make(cluster, Timestamp(0), Millis(1 << 40)).unwrap();
        let (ours, other, foreign) = (make(ClusterId(1)), make(ClusterId(1)), make(ClusterId(2)));
        let key = NodeKey::generate().unwrap();
        let made = ours.sign(&key.request().unwrap(), AGENT, Timestamp(0), Millis(1 << 30)).unwrap();
        assert_eq!(NodeCertificate::from_pem(&made.to_pem()), Ok(made.clone()));
        assert_eq!(made.identity(), AGENT);
        assert!(made.is_for(&key) && !made.is_for(&NodeKey::generate().unwrap()));

        let beside = |authority: &Authority| {
            NodeCertificate::from_der(&made.chain()[0], authority.certificate().clone()).unwrap_err()
        };
        let authority = other.certificate().pin();
        assert_eq!(beside(&other), CertificateError::OtherAuthority { identity: AGENT, authority });
        let (named, authority) = (ClusterId(1), ClusterId(2));
        assert_eq!(beside(&foreign), CertificateError::OtherCluster { named, authority });
    }

    #[test]
    fn an_authority_signs_itself_and_names_its_cluster() {
        let made = Authority::make(ClusterId(1), Timestamp(0), Millis(1 << 40)).unwrap();
        let read = AuthorityCertificate::from_der(made.certificate().der()).unwrap();
        assert_eq!((&read, read.cluster()), (made.certificate(), ClusterId(1)));

        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.subject_alt_names = vec![uri("wharf://0000000000001")];
        let (key, signer) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let read =
            |der: &[u8]| AuthorityCertificate::from_der(der).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(read(params.self_signed(&key).unwrap().der()), Ok(()));
        let crossed = params.signed_by(&key, &Issuer::from_params(&params, &signer)).unwrap();
        assert!(read(crossed.der()).unwrap_err().ends_with("it is not signed by itself"));
        params.subject_alt_names = vec![uri(&AGENT.to_string())];
        assert!(
            read(params.self_signed(&key).unwrap().der())
                .unwrap_err()
                .ends_with("it does not name a cluster")
        );
        params.is_ca = IsCa::ExplicitNoCa;
        assert!(
            read(params.self_signed(&key).unwrap().der()).unwrap_err().ends_with("it is not an authority's")
        );
    }
}
