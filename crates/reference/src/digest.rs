//! Content addresses.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// `sha256:` and 64 lower-case hex digits (OCI image spec, descriptor.md, "Digests").
///
/// The spec also registers sha512; no tool writes it, and one algorithm keeps one blob at one address, so it is refused.
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a digest: expected \"sha256:\" and 64 lower-case hex digits")]
pub struct DigestError(pub String);

const PREFIX: &str = "sha256:";

impl Digest {
    /// The digest of bytes that are already in memory.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::of_hash(Sha256::digest(bytes).into())
    }

    /// The digest of what has this SHA-256.
    pub fn of_hash(hash: [u8; 32]) -> Digest {
        let hex = hash.iter().map(|byte| format!("{byte:02x}"));
        Digest(format!("{PREFIX}{}", hex.collect::<String>()).into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hex digits without the algorithm.
    pub fn hex(&self) -> &str {
        &self.0[PREFIX.len()..]
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let hex = text.strip_prefix(PREFIX).unwrap_or_default();
        let is_hex = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_hex { Ok(Digest(text.into())) } else { Err(DigestError(text.to_owned())) }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Digest, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.as_str().to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_nothing_is_the_well_known_one() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
    }

    #[test]
    fn only_lower_case_sha256_is_a_digest() {
        let hex = "0123456789abcdef".repeat(4);
        for (text, good) in [
            (format!("sha256:{hex}"), true),
            (format!("sha256:{}", hex.to_uppercase()), false),
            (format!("sha512:{hex}{hex}"), false),
            (format!("sha256:{}", &hex[1..]), false),
            (hex.clone(), false),
            ("sha256:../../../../etc/passwd".to_owned(), false),
        ] {
            assert_eq!(text.parse::<Digest>().is_ok(), good, "{text}");
        }
    }
}
