//! What a person or a CI job works with. What it allows is decided in [`crate::rights`].

use std::fmt;

use model::{AccessToken, ClusterId, Grant, Name, Timestamp, TokenId};
use zeroize::Zeroizing;

use super::{Token, TokenTextError};
use crate::{certificate::Pin, random::RandomError, validity::Roughly};

/// An access token as its bearer has it.
#[derive(Clone)]
pub struct AccessTokenText {
    pub token: Token,
    /// Where servers of the cluster are reached, host and port each: so one word is all that a person or a CI job needs.
    pub addresses: Vec<String>,
}

/// Why what somebody presented lets them in nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    #[error("the cluster does not know this access token: it was withdrawn; ask an admin for a new one")]
    Unknown,
    #[error("the access token {name} expired {} ago; ask an admin for a new one", Roughly(.now.since(*.at)))]
    Expired { name: Name, at: Timestamp, now: Timestamp },
}

/// What a new token is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub name: Name,
    pub grant: Grant,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub addresses: Vec<String>,
}

/// A new token: the text for whoever is to have it, and the record for the cluster.
pub fn make(
    cluster: ClusterId,
    pin: Pin,
    wanted: Wanted,
) -> Result<(AccessTokenText, AccessToken), RandomError> {
    let Wanted { name, grant, created_at, expires_at, addresses } = wanted;
    let token = Token::draw(cluster, pin)?;
    let record = AccessToken { id: token.id, secret: token.hash(), name, grant, created_at, expires_at };
    Ok((AccessTokenText { token, addresses }, record))
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
        Some(at) if now >= at => Err(AccessError::Expired { name: record.name.clone(), at, now }),
        Some(_) | None => Ok(record),
    }
}

const KIND: &str = "access";
const MADE_BY: &str = "wharf token create";
const BEGINS: &str = "wharf_access_";

impl AccessTokenText {
    pub fn id(&self) -> TokenId {
        self.token.id
    }

    /// The token, secret and all.
    pub fn reveal(&self) -> Zeroizing<String> {
        let addresses = (!self.addresses.is_empty()).then(|| self.addresses.join(","));
        self.token.write(BEGINS, addresses.as_deref())
    }

    /// What its bearer shows to a server, which knows where it is.
    pub fn bearer(&self) -> Zeroizing<String> {
        self.token.write(BEGINS, None)
    }

    /// Blanks around it do not matter: files end with a new line.
    pub fn parse(text: &str) -> Result<AccessTokenText, TokenTextError> {
        let text = text.trim();
        if !text.starts_with(BEGINS) {
            return Err(TokenTextError::Other { expected: KIND, begins: BEGINS, made_by: MADE_BY });
        }
        let (token, more) = Token::read(text, BEGINS)?;
        let addresses = more.iter().flat_map(|more| more.split(','));
        Ok(AccessTokenText { token, addresses: addresses.map(str::to_owned).collect() })
    }
}

impl fmt::Debug for AccessTokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.token, f)
    }
}
