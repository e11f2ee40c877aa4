//! What the hosts of a cluster know each other by, as the state keeps it.
//!
//! Texts that only the crate `trust` reads and writes: the state carries them to every server, so that each can sign.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::NodeId;

/// The cluster's authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterTrust {
    /// `trust::bundle::Trust`: whom hosts believe.
    pub bundle: String,
    /// `trust::authority::Authority`: whom hosts are signed by, with its private key.
    pub authority: SecretText,
    /// The same, of the authority that is made known to hosts and does not sign yet.
    pub next_authority: Option<SecretText>,
    /// How far hosts have followed a rotation. Of a host that said nothing since the last one began, nothing is known.
    pub beliefs: BTreeMap<NodeId, Belief>,
}

/// What a host says that it believes, and by whom its certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Belief {
    /// Of the bundle that it has, durably.
    pub generation: u64,
    /// `None` of a host that has no certificate: it shares a host with the only server that it speaks to.
    pub signed_by: Option<Pin>,
}

/// SHA-256 over an authority's public key (its SubjectPublicKeyInfo, RFC 5280 section 4.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin(pub [u8; 32]);

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.pad(&text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no pin: expected 64 hex digits, the SHA-256 of an authority's public key")]
pub struct PinError(pub String);

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Pin, PinError> {
        let digits = text.len() == 64 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        let mut pin = [0; 32];
        for (byte, at) in pin.iter_mut().zip((0..64).step_by(2)) {
            let pair =
                text.get(at..at + 2).filter(|_| digits).and_then(|pair| u8::from_str_radix(pair, 16).ok());
            *byte = pair.ok_or_else(|| PinError(text.to_owned()))?;
        }
        Ok(Pin(pin))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:.8}..")
    }
}

/// A text that is not to be seen. Whoever shows it says so by naming the field.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
