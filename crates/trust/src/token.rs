//! Tokens: what a host joins with ([`join`]), and what a person or a CI job works with ([`access`]).
//!
//! A token is one word. It says where it belongs (the cluster, and the [`Pin`] of its authority, so that its bearer knows the
//! cluster's servers from others before it sends anything), which token it is, and its secret:
//!
//! ```text
//! wharf_join_agent_<cluster>_<id>_<pin>_<secret>_<check>
//! wharf_access_<cluster>_<id>_<pin>_<secret>_<check>
//! wharf_access_<cluster>_<id>_<pin>_<secret>_<addresses>_<check>
//! ```
//!
//! The addresses, in hex, are where people and CI jobs reach servers; hosts are told these apart.
//!
//! The check is a CRC-32 over all before it. It keeps nobody out; it tells a typing error from a token that is not known.
//! Any one changed character, and any run of up to four, is always told.
//!
//! The cluster stores a hash of the secret (`model::token`); a token that was lost cannot be shown again.

pub mod access;
pub mod join;

use std::fmt;

use model::{ClusterId, SecretHash, TokenId};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::{certificate::Pin, hex, random, random::RandomError};

/// Why a text is no token. What was typed is not repeated: it may be nearly a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenTextError {
    #[error("this is no {expected} token: one begins with {begins:?}, and `{made_by}` makes it")]
    Other { expected: &'static str, begins: &'static str, made_by: &'static str },
    #[error("the token is mistyped or cut off: its last part does not match the rest; copy it again, whole")]
    Mistyped,
}

/// What every token has.
#[derive(Clone)]
pub struct Token {
    pub cluster: ClusterId,
    pub id: TokenId,
    pub pin: Pin,
    secret: Zeroizing<[u8; 32]>,
}

impl Token {
    pub(crate) fn draw(cluster: ClusterId, pin: Pin) -> Result<Token, RandomError> {
        let id = TokenId(u64::from_be_bytes(*random::secret()?));
        Ok(Token { cluster, id, pin, secret: random::secret()? })
    }

    /// Bound to the id, so that no record can be swapped for another's.
    pub fn hash(&self) -> SecretHash {
        let hash = Sha256::new().chain_update("wharf token 1").chain_update(self.id.0.to_be_bytes());
        SecretHash(hash.chain_update(self.secret.as_slice()).finalize().into())
    }

    /// Takes the same time whatever differs.
    pub(crate) fn has_secret_of(&self, id: TokenId, hash: &SecretHash) -> bool {
        let same: bool = self.hash().0.ct_eq(&hash.0).into();
        same && self.id == id
    }

    fn write(&self, begins: &str, more: Option<&str>) -> Zeroizing<String> {
        // Enough for all that follows, so that no part of the secret stays behind in an outgrown buffer.
        let mut text = Zeroizing::new(String::with_capacity(256 + 2 * more.map_or(0, str::len)));
        text.push_str(&format!("{begins}{}_{}_{}_", self.cluster, self.id, self.pin));
        hex::write(self.secret.as_slice(), &mut text);
        if let Some(more) = more {
            text.push('_');
            hex::write(more.as_bytes(), &mut text);
        }
        let check = checksum(&text);
        text.push('_');
        hex::write(&check, &mut text);
        text
    }

    /// What follows the beginning, and what was written with it; `text` is the whole.
    fn read(text: &str, begins: &str) -> Result<(Token, Option<String>), TokenTextError> {
        let (body, check) = text.rsplit_once('_').ok_or(TokenTextError::Mistyped)?;
        if hex::read(check) != Some(checksum(body)) {
            return Err(TokenTextError::Mistyped);
        }
        parse(body, begins).ok_or(TokenTextError::Mistyped)
    }
}

fn parse(body: &str, begins: &str) -> Option<(Token, Option<String>)> {
    let mut parts = body.strip_prefix(begins)?.split('_');
    let token = Token {
        cluster: parts.next()?.parse().ok()?,
        id: parts.next()?.parse().ok()?,
        pin: Pin(hex::read(parts.next()?)?),
        secret: Zeroizing::new(hex::read(parts.next()?)?),
    };
    let more = match parts.next() {
        Some(more) => Some(hex::read_text(more)?),
        None => None,
    };
    parts.next().is_none().then_some((token, more))
}

fn checksum(body: &str) -> [u8; 4] {
    crc32fast::hash(body.as_bytes()).to_be_bytes()
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token {} of {}", self.id, self.cluster)
    }
}
