//! A cluster's authority: the key that says who is who.
//!
//! It is made at `cluster init`, kept in the log (sealed), and never leaves the servers. Whoever issues a certificate sets
//! every name in it; of a request only the key counts.

use std::fmt;

use model::{ClusterId, HostRole, Millis, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber, SubjectPublicKeyInfo, string::Ia5String,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{
    certificate::{AuthorityCertificate, CertificateError, NodeCertificate, Pin, pin_of},
    identity::{self, Identity},
    key::{CertificateRequest, KeyError, PrivateKey},
    pem::{self, PemError},
    random::{self, RandomError},
    validity::Validity,
};

pub struct Authority {
    key: PrivateKey,
    certificate: AuthorityCertificate,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Random(#[from] RandomError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("a certificate could not be made: {0}")]
    Issue(rcgen::Error),
    #[error("the authority is of cluster {ours}, and cannot speak for {asked}")]
    OtherCluster { ours: ClusterId, asked: Identity },
    #[error("the authority {0} does not hold now; rotate it (and look at this host's clock)")]
    NotHolding(Pin),
    #[error("a lifetime of {0} is too short: a certificate lives a second at least")]
    TooShort(Millis),
    #[error("the stored authority is damaged")]
    Pem(#[from] PemError),
    #[error(
        "the stored authority begins with {0:?}, not with {HEADER:?}: was it written by a newer version?"
    )]
    Header(String),
    #[error("the stored authority's key and certificate do not belong together")]
    Mismatch,
}

const HEADER: &str = "wharf-authority 1";

impl Authority {
    /// A new one, whose certificate it signs itself. [`crate::validity::AUTHORITY_LIFETIME`] is the usual lifetime.
    pub fn make(cluster: ClusterId, now: Timestamp, lifetime: Millis) -> Result<Authority, AuthorityError> {
        let key = PrivateKey::generate()?;
        let pin = pin_of(&key.subject_public_key_info());
        // With the pin in its subject, two authorities of one cluster have different names during a rotation.
        let mut params = named(&format!("wharf {cluster} {pin:.8}"), Validity::starting(now, lifetime))?;
        params.subject_alt_names = vec![uri(identity::authority_uri(cluster))?];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let made = params.self_signed(&key).map_err(AuthorityError::Issue)?;
        let certificate = AuthorityCertificate::from_der(made.der())?;
        Ok(Authority { key, certificate })
    }

    pub fn certificate(&self) -> &AuthorityCertificate {
        &self.certificate
    }

    /// A certificate for whoever sent `request`, over which the caller has decided that it is `identity`.
    ///
    /// It ends with the authority at the latest. [`crate::validity::NODE_LIFETIME`] is the usual lifetime.
    pub fn sign(
        &self,
        request: &CertificateRequest,
        identity: Identity,
        now: Timestamp,
        lifetime: Millis,
    ) -> Result<NodeCertificate, AuthorityError> {
        let ours = self.certificate.cluster();
        if identity.cluster != ours {
            return Err(AuthorityError::OtherCluster { ours, asked: identity });
        }
        if lifetime.0 < 1_000 {
            return Err(AuthorityError::TooShort(lifetime));
        }
        let own = self.certificate.validity();
        if !own.holds_at(now) {
            return Err(AuthorityError::NotHolding(self.certificate.pin()));
        }
        let asked = Validity::starting(now, lifetime);
        let validity = Validity { not_after: asked.not_after.min(own.not_after), ..asked };
        let key = SubjectPublicKeyInfo::from_der(request.public_key()).map_err(AuthorityError::Issue)?;
        let issuer = Issuer::from_ca_cert_der(self.certificate.der(), &self.key);
        let issuer = issuer.map_err(AuthorityError::Issue)?;
        let params = node_params(identity, validity)?;
        let made = params.signed_by(&key, &issuer).map_err(AuthorityError::Issue)?;
        Ok(NodeCertificate::from_der(made.der(), self.certificate.clone())?)
    }

    /// Key and certificate as text. It is a secret: seal it before it is stored.
    pub fn encode(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(format!("{HEADER}\n"));
        pem::write(pem::CERTIFICATE, self.certificate.der(), &mut text);
        pem::write(pem::PRIVATE_KEY, self.key.pkcs8(), &mut text);
        text
    }

    pub fn decode(text: &str) -> Result<Authority, AuthorityError> {
        let document = pem::read(text)?;
        if document.text != [HEADER] {
            return Err(AuthorityError::Header(document.text.join(" ")));
        }
        let [certificate, pkcs8] = document.exactly([pem::CERTIFICATE, pem::PRIVATE_KEY])?;
        let certificate = AuthorityCertificate::from_der(&certificate)?;
        let key = PrivateKey::from_pkcs8(&pkcs8)?;
        if pin_of(&key.subject_public_key_info()) != certificate.pin() {
            return Err(AuthorityError::Mismatch);
        }
        Ok(Authority { key, certificate })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.certificate, f)
    }
}

fn node_params(identity: Identity, validity: Validity) -> Result<CertificateParams, AuthorityError> {
    let mut params = named(&format!("{} {}", identity.role, identity.node), validity)?;
    params.subject_alt_names = vec![uri(identity.to_string())?];
    for name in identity.dns_names() {
        params.subject_alt_names.push(SanType::DnsName(ia5(name)?));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match identity.role {
        HostRole::Server => vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
        HostRole::Agent => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    Ok(params)
}

/// What both kinds of certificates have: a subject, an end and a serial number of their own.
fn named(common_name: &str, validity: Validity) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let mut serial = random::secret::<16>()?;
    // RFC 5280 section 4.1.2.2: positive, and not zero.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(serial.as_slice()));
    params.not_before = moment(validity.not_before)?;
    params.not_after = moment(validity.not_after)?;
    Ok(params)
}

fn moment(at: Timestamp) -> Result<OffsetDateTime, AuthorityError> {
    let seconds = i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| AuthorityError::Issue(rcgen::Error::Time))
}

fn uri(text: String) -> Result<SanType, AuthorityError> {
    ia5(text).map(SanType::URI)
}

fn ia5(text: String) -> Result<Ia5String, AuthorityError> {
    Ia5String::try_from(text).map_err(AuthorityError::Issue)
}

#[cfg(test)]
mod tests {
    use model::NodeId;

    use super::*;
    use crate::{
        key::NodeKey,
        validity::{AUTHORITY_LIFETIME, NODE_LIFETIME},
    };

    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    fn make(cluster: u64) -> Authority {
        Authority::make(ClusterId(cluster), NOW, AUTHORITY_LIFETIME).unwrap()
    }

    #[test]
    fn it_survives_being_stored() {
        let (ours, other) = (make(1), make(1));
        let text = ours.encode();
        let again = Authority::decode(&text).unwrap();
        assert_eq!(again.certificate(), ours.certificate());
        assert_eq!(again.encode(), text);
        assert!(!format!("{ours:?}").contains("KEY"));

        // Its certificate with the key of another.
        let at = |text: &str| text.find("-----BEGIN PRIVATE").unwrap();
        let others = other.encode();
        let crossed = format!("{}{}", &text[..at(&text)], &others[at(&others)..]);
        assert_eq!(Authority::decode(&crossed).unwrap_err(), AuthorityError::Mismatch);
        let newer = text.replace("authority 1", "authority 2");
        let told = Authority::decode(&newer).unwrap_err().to_string();
        assert!(told.contains("\"wharf-authority 2\""), "{told}");
        let cut = Authority::decode(&text[..text.find("-----END PRIVATE").unwrap()]).unwrap_err();
        assert!(matches!(cut, AuthorityError::Pem(PemError::Unfinished(_))), "{cut:?}");
    }

    #[test]
    fn it_speaks_for_its_own_cluster_while_it_holds() {
        let ours = make(1);
        let request = NodeKey::generate().unwrap().request().unwrap();
        let identity = Identity { cluster: ClusterId(1), role: HostRole::Agent, node: NodeId(1) };
        let foreign = Identity { cluster: ClusterId(2), ..identity };
        let sign = |identity, now, lifetime| ours.sign(&request, identity, now, lifetime).map(|_| ());
        assert_eq!(sign(identity, NOW, NODE_LIFETIME), Ok(()));
        let refused = AuthorityError::OtherCluster { ours: ClusterId(1), asked: foreign };
        assert_eq!(sign(foreign, NOW, NODE_LIFETIME), Err(refused));
        assert_eq!(sign(identity, NOW, Millis(999)), Err(AuthorityError::TooShort(Millis(999))));
        let late = NOW + AUTHORITY_LIFETIME + Millis(1_000);
        let pin = ours.certificate().pin();
        assert_eq!(sign(identity, late, NODE_LIFETIME), Err(AuthorityError::NotHolding(pin)));
    }

    #[test]
    fn what_a_request_asks_for_is_ignored() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut wish = CertificateParams::default();
        wish.subject_alt_names = vec![uri("wharf://0000000000001/server/0000000000009".to_owned()).unwrap()];
        wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let request = CertificateRequest::from_der(wish.serialize_request(&key).unwrap().der()).unwrap();
        let identity = Identity { cluster: ClusterId(1), role: HostRole::Agent, node: NodeId(1) };
        let made = make(1).sign(&request, identity, NOW, NODE_LIFETIME).unwrap();
        assert_eq!(made.identity(), identity);
    }

    /// Two certificates for one key are two: an audit tells them apart by their serial numbers.
    #[test]
    fn no_two_certificates_are_alike() {
        let ours = make(1);
        let request = NodeKey::generate().unwrap().request().unwrap();
        let identity = Identity { cluster: ClusterId(1), role: HostRole::Server, node: NodeId(1) };
        let sign = || ours.sign(&request, identity, NOW, NODE_LIFETIME).unwrap();
        assert!(sign() != sign());
    }
}
