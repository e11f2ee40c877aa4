//! What the hosts of a cluster know each other by, as the state keeps it.
//!
//! Texts that only the crate `trust` reads and writes: the state carries them to every server, so that each can sign.

use std::fmt;

/// The cluster's authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterTrust {
    /// `trust::bundle::Trust`: whom hosts believe.
    pub bundle: String,
    /// `trust::authority::Authority`: whom hosts are signed by, with its private key.
    pub authority: SecretText,
}

/// A text that is not to be seen. Whoever shows it says so by naming the field.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
