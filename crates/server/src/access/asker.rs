//! Who asks, and how one server tells another.
//!
//! A server hands on what only the leader answers over a connection of its own, with its certificate. In the head it says
//! where it got that from; beside it stands the token, unless root asked. Nobody but a server is believed to hand on, and a
//! token is looked at again where it arrives, so a server cannot lend it rights that it has not got.

use std::{net::SocketAddr, sync::Arc};

use model::{AccessRole, AccessToken, Grant, MemberId, Scope};
use serde_json::{Value as Json, json};
use tonic::{
    Status,
    codegen::http::{HeaderMap, HeaderValue, header::AUTHORIZATION},
};

/// In the head of what one server hands on to another for root on its host. Servers that know no tokens hand on with it
/// too.
const HANDED_ON: &str = "wharf-handed-on";
/// The same for whoever has the token in the head. Servers that know no tokens refuse it.
const HANDED_ON_BY_TOKEN: &str = "wharf-handed-on-by-token";
/// The address that it came from.
const FROM: &str = "wharf-handed-on-from";

#[derive(Clone, Debug)]
pub(crate) enum Who {
    /// Root on the host of this server; none where it is not one of several.
    Root(Option<MemberId>),
    Token(Arc<AccessToken>),
}

/// An extension of each request of a user.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) who: Who,
    /// As the server saw it that was asked; none over its socket.
    pub(crate) from: Option<SocketAddr>,
}

impl Asker {
    /// Nobody can have got past `recognise` without one.
    pub(crate) fn of(extensions: &tonic::Extensions) -> Result<Asker, Status> {
        let asker = extensions.get().cloned();
        asker.ok_or_else(|| Status::unauthenticated("it is not known who asks"))
    }

    pub(crate) fn grant(&self) -> Grant {
        match &self.who {
            Who::Root(_) => Grant { role: AccessRole::Admin, scope: Scope::Everywhere },
            Who::Token(token) => token.grant.clone(),
        }
    }

    /// For the audit.
    pub(crate) fn to_json(&self) -> Json {
        match &self.who {
            Who::Root(server) => json!({ "root": server.map(|id| id.to_string()), "uid": 0 }),
            Who::Token(token) => json!({ "token": token.name.as_str(), "id": token.id.to_string() }),
        }
    }

    /// For the audit.
    pub(crate) fn shown_from(&self) -> String {
        self.from.map_or_else(|| "socket".to_owned(), |from| from.to_string())
    }
}

/// What a head says of where it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandedOn {
    ForRoot,
    ForToken { from: Option<SocketAddr> },
}

impl HandedOn {
    pub(crate) fn read(head: &HeaderMap) -> Option<HandedOn> {
        match (head.contains_key(HANDED_ON), head.contains_key(HANDED_ON_BY_TOKEN)) {
            (_, true) => {
                let from = head.get(FROM).and_then(|from| from.to_str().ok()?.parse().ok());
                Some(HandedOn::ForToken { from })
            }
            (true, false) => Some(HandedOn::ForRoot),
            (false, false) => None,
        }
    }

    /// Whoever is no server has nothing to say with this.
    pub(crate) fn take_out(head: &mut HeaderMap) {
        for name in [HANDED_ON, HANDED_ON_BY_TOKEN, FROM] {
            head.remove(name);
        }
    }

    /// Into the head of what is handed on now. Nobody asks where a host joins: that has a token of its own.
    pub(crate) fn put_in(head: &mut HeaderMap, asker: Option<&Asker>) {
        HandedOn::take_out(head);
        let yes = HeaderValue::from_static("1");
        match asker.map(|asker| (&asker.who, asker.from)) {
            Some((Who::Token(_), from)) => {
                head.insert(HANDED_ON_BY_TOKEN, yes);
                let from = from.and_then(|from| HeaderValue::try_from(from.to_string()).ok());
                from.and_then(|from| head.insert(FROM, from));
            }
            Some((Who::Root(_), _)) | None => {
                head.remove(AUTHORIZATION);
                head.insert(HANDED_ON, yes);
            }
        }
    }
}
