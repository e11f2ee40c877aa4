//! Private keys: ECDSA over P-256, made on the host that uses them.
//!
//! A node's key never leaves its host: what travels is a [`CertificateRequest`], which proves that whoever asks has the
//! key. Keys are kept as PKCS#8 and wiped when dropped; the copy that ring computes with lives in its own structure, which
//! ring does not wipe.

use std::fmt;

use rcgen::{
    CertificateParams, DistinguishedName, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};
use zeroize::Zeroizing;

use crate::{
    pem::{self, PemError},
    random::RandomError,
};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Random(#[from] RandomError),
    #[error("this is no private key of wharf: expected ECDSA over P-256 as PKCS#8")]
    NotOurs,
    #[error("the private key is damaged")]
    Pem(#[from] PemError),
}

/// What an authority and a node have in common.
pub(crate) struct PrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: EcdsaKeyPair,
}

impl PrivateKey {
    pub(crate) fn generate() -> Result<PrivateKey, KeyError> {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        PrivateKey::from_pkcs8(made.map_err(|_| RandomError)?.as_ref())
    }

    pub(crate) fn from_pkcs8(pkcs8: &[u8]) -> Result<PrivateKey, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &SystemRandom::new());
        let pair = pair.map_err(|_| KeyError::NotOurs)?;
        Ok(PrivateKey { pkcs8: Zeroizing::new(pkcs8.to_vec()), pair })
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| rcgen::Error::RingUnspecified)?.as_ref().to_vec())
    }
}

/// The key of one node in one role.
pub struct NodeKey(PrivateKey);

impl NodeKey {
    pub fn generate() -> Result<NodeKey, KeyError> {
        PrivateKey::generate().map(NodeKey)
    }

    /// What the node sends to have a certificate for this key.
    pub fn request(&self) -> Result<CertificateRequest, RequestError> {
        let mut params = CertificateParams::default();
        // The issuer sets every name; a name asked for would only be ignored.
        params.distinguished_name = DistinguishedName::new();
        let made = params.serialize_request(&self.0).map_err(|_| RequestError::Unsigned)?;
        CertificateRequest::from_der(made.der())
    }

    pub fn to_pem(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        pem::write(pem::PRIVATE_KEY, self.0.pkcs8(), &mut text);
        text
    }

    pub fn from_pem(text: &str) -> Result<NodeKey, KeyError> {
        let [pkcs8] = pem::read(text)?.exactly([pem::PRIVATE_KEY])?;
        PrivateKey::from_pkcs8(&pkcs8).map(NodeKey)
    }

    /// SubjectPublicKeyInfo in DER, which a certificate for this key repeats.
    pub(crate) fn public(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    pub(crate) fn as_rustls(&self) -> PrivateKeyDer<'_> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.pkcs8()))
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(..)")
    }
}

/// A node's wish for a certificate (PKCS#10, RFC 2986), already checked: it is signed by the key that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    der: Vec<u8>,
    /// SubjectPublicKeyInfo in DER.
    public_key: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the certificate request has {0} bytes, more than the {max} that one can need", max = CertificateRequest::MAX_BYTES)]
    TooLong(usize),
    #[error("the certificate request cannot be read: it is not PKCS#10 in DER")]
    Malformed,
    #[error("the certificate request is for another kind of key; wharf uses ECDSA over P-256")]
    Key,
    #[error("the certificate request is not signed by its key: whoever asks does not have it")]
    Unsigned,
}

impl CertificateRequest {
    pub const MAX_BYTES: usize = 2_048;

    /// From what a peer sent. Names and extensions in it are not even looked at.
    pub fn from_der(der: &[u8]) -> Result<CertificateRequest, RequestError> {
        if der.len() > CertificateRequest::MAX_BYTES {
            return Err(RequestError::TooLong(der.len()));
        }
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| RequestError::Malformed)?;
        if !rest.is_empty() {
            return Err(RequestError::Malformed);
        }
        let public_key = request.certification_request_info.subject_pki.raw;
        if !is_p256(public_key) {
            return Err(RequestError::Key);
        }
        request.verify_signature().map_err(|_| RequestError::Unsigned)?;
        Ok(CertificateRequest { der: der.to_vec(), public_key: public_key.to_vec() })
    }

    pub fn der(&self) -> &[u8] {
        &self.der
    }

    pub(crate) fn public_key(&self) -> &[u8] {
        &self.public_key
    }
}

/// Whether a SubjectPublicKeyInfo is an uncompressed point on P-256: the only form that wharf writes. RFC 5480 section 2.
pub(crate) fn is_p256(public_key: &[u8]) -> bool {
    const BEGINS: [u8; 27] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
    ];
    const POINT_BYTES: usize = 64;
    public_key.len() == BEGINS.len() + POINT_BYTES && public_key.starts_with(&BEGINS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_being_written() {
        let key = NodeKey::generate().unwrap();
        let again = NodeKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(key.public(), again.public());
        assert!(is_p256(&key.public()));
        assert_eq!(format!("{key:?}"), "NodeKey(..)");
    }

    #[test]
    fn a_request_names_its_key_and_nothing_else() {
        let key = NodeKey::generate().unwrap();
        let request = key.request().unwrap();
        assert_eq!(request.public_key(), key.public());
        assert_eq!(CertificateRequest::from_der(request.der()), Ok(request));
    }

    #[test]
    fn a_request_with_any_byte_changed_is_refused() {
        let request = NodeKey::generate().unwrap().request().unwrap();
        for at in 0..request.der().len() {
            let mut changed = request.der().to_vec();
            changed[at] ^= 1;
            // Some bytes do not matter to the signature's algorithm identifier; the key may never change.
            if let Ok(read) = CertificateRequest::from_der(&changed) {
                assert_eq!(read.public_key(), request.public_key(), "byte {at}");
            }
        }
        let mut longer = request.der().to_vec();
        longer.push(0);
        assert_eq!(CertificateRequest::from_der(&longer), Err(RequestError::Malformed));
        assert_eq!(CertificateRequest::from_der(&[0; 3_000]), Err(RequestError::TooLong(3_000)));
    }

    #[test]
    fn other_kinds_of_keys_are_refused() {
        for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let request = CertificateParams::default().serialize_request(&key).unwrap();
            assert_eq!(CertificateRequest::from_der(request.der()), Err(RequestError::Key));
            assert_eq!(NodeKey::from_pem(&to_pem(&key)).unwrap_err(), KeyError::NotOurs);
        }
    }

    fn to_pem(key: &rcgen::KeyPair) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        pem::write(pem::PRIVATE_KEY, key.serialized_der(), &mut text);
        text
    }
}
