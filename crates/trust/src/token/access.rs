//! What a person or a CI job works with. What it allows is decided in [`crate::rights`].

use std::fmt;

use model::{AccessToken, ClusterId, Grant, Timestamp, TokenId};
use zeroize::Zeroizing;

use super::{Token, TokenTextError};
use crate::{certificate::Pin, random::RandomError, validity::Roughly};

/// An access token as its bearer has it.
#[derive(Clone)]
pub struct AccessTokenText {
    pub token: Token,
}

/// Why what somebody presented lets them in nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    #[error("the cluster does not know this access token: it was withdrawn; ask an admin for a new one")]
    Unknown,
    #[error("the access token {description:?} expired {} ago; ask an admin for a new one", Roughly(.now.since(*.at)))]
    Expired { description: String, at: Timestamp, now: Timestamp },
}

/// A new token: the text for whoever is to have it, and the record for the cluster.
pub fn make(
    cluster: ClusterId,
    pin: Pin,
    description: String,
    grant: Grant,
    expires_at: Option<Timestamp>,
) -> Result<(AccessTokenText, AccessToken), RandomError> {
    let token = Token::draw(cluster, pin)?;
    let record = AccessToken { id: token.id, secret: token.hash(), description, grant, expires_at };
    Ok((AccessTokenText { token }, record))
}

/// Whether whoever presents this is who the record speaks of. `record` is the one with the presented id.
pub fn recognise<'a>(
    record: Option<&'a AccessToken>,
    presented: &AccessTokenText,
    now: Timestamp,
) -> Result<&'a AccessToken, AccessError> {
    let known = record.filter(|record| presented.token.has_secret_of(record.id, &record.secret));
    let record = known.ok_or(AccessError::Unknown)?;
    match record.expires_at {
        Some(at) if now >= at => {
            Err(AccessError::Expired { description: record.description.clone(), at, now })
        }
        Some(_) | None => Ok(record),
    }
}

const KIND: &str = "access";
const BEGINS: &str = "wharf_access_";

impl AccessTokenText {
    pub fn id(&self) -> TokenId {
        self.token.id
    }

    /// The token, secret and all.
    pub fn reveal(&self) -> Zeroizing<String> {
        self.token.write(BEGINS)
    }

    /// Blanks around it do not matter: files end with a new line.
    pub fn parse(text: &str) -> Result<AccessTokenText, TokenTextError> {
        let text = text.trim();
        if !text.starts_with(BEGINS) {
            return Err(TokenTextError::Other { expected: KIND, begins: BEGINS });
        }
        Ok(AccessTokenText { token: Token::read(text, BEGINS)? })
    }
}

impl fmt::Debug for AccessTokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.token, f)
    }
}
