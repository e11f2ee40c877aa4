//! What a host joins with, and whether it may.

use std::fmt;

use model::{ClusterId, HostRole, JoinToken, Timestamp, TokenId, Uses};
use zeroize::Zeroizing;

use super::{Token, TokenTextError};
use crate::{certificate::Pin, random::RandomError, validity::Roughly};

/// A join token as its bearer has it.
#[derive(Clone)]
pub struct JoinTokenText {
    pub role: HostRole,
    pub token: Token,
}

/// Why a host may not join with what it presented. Whether a token with this id exists is not told to whoever does not have
/// its secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedeemError {
    #[error("the cluster does not know this join token: it was rotated or withdrawn; ask for a new one")]
    Unknown,
    #[error("this join token is for joining as {allows}, not as {asked}; ask for one for the role {asked}")]
    OtherRole { allows: HostRole, asked: HostRole },
    #[error("this join token expired {} ago; ask for a new one", Roughly(.now.since(*.at)))]
    Expired { at: Timestamp, now: Timestamp },
    #[error("this join token was used up: as many hosts as it allows have joined; ask for a new one")]
    UsedUp,
}

/// A new token: the text for whoever joins, and the record for the cluster.
pub fn make(
    cluster: ClusterId,
    pin: Pin,
    role: HostRole,
    expires_at: Option<Timestamp>,
    uses: Uses,
) -> Result<(JoinTokenText, JoinToken), RandomError> {
    let token = Token::draw(cluster, pin)?;
    let record = JoinToken { id: token.id, secret: token.hash(), role, expires_at, uses };
    Ok((JoinTokenText { role, token }, record))
}

/// The record after one more host joined as `asked`, or why it may not. `record` is the one with the presented id.
///
/// Pure. The record that is returned has to be written only if the one given is still the stored one: two hosts may redeem
/// the last use at the same time.
pub fn redeem(
    record: Option<&JoinToken>,
    presented: &JoinTokenText,
    asked: HostRole,
    now: Timestamp,
) -> Result<JoinToken, RedeemError> {
    let known = record.filter(|record| presented.token.has_secret_of(record.id, &record.secret));
    let record = known.ok_or(RedeemError::Unknown)?;
    if record.role != asked {
        return Err(RedeemError::OtherRole { allows: record.role, asked });
    }
    if let Some(at) = record.expires_at
        && now >= at
    {
        return Err(RedeemError::Expired { at, now });
    }
    let uses = match record.uses {
        Uses::Unlimited => Uses::Unlimited,
        Uses::Left(0) => return Err(RedeemError::UsedUp),
        Uses::Left(left) => Uses::Left(left - 1),
    };
    Ok(JoinToken { uses, ..record.clone() })
}

const KIND: &str = "join";
const MADE_BY: &str = "wharf cluster token create";
const BEGINS: &str = "wharf_join_";

const fn begins(role: HostRole) -> &'static str {
    match role {
        HostRole::Server => "wharf_join_server_",
        HostRole::Agent => "wharf_join_agent_",
    }
}

impl JoinTokenText {
    pub fn id(&self) -> TokenId {
        self.token.id
    }

    /// The token, secret and all.
    pub fn reveal(&self) -> Zeroizing<String> {
        self.token.write(begins(self.role), None)
    }

    /// Blanks around it do not matter: files end with a new line.
    pub fn parse(text: &str) -> Result<JoinTokenText, TokenTextError> {
        let text = text.trim();
        if !text.starts_with(BEGINS) {
            return Err(TokenTextError::Other { expected: KIND, begins: BEGINS, made_by: MADE_BY });
        }
        let roles = [HostRole::Server, HostRole::Agent];
        let role = roles.into_iter().find(|role| text.starts_with(begins(*role)));
        let role = role.ok_or(TokenTextError::Mistyped)?;
        match Token::read(text, begins(role))? {
            (token, None) => Ok(JoinTokenText { role, token }),
            (_, Some(_)) => Err(TokenTextError::Mistyped),
        }
    }
}

impl fmt::Debug for JoinTokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.role, self.token)
    }
}
