//! Who a host is: the one thing that a node certificate says.
//!
//! It is written into the certificate as a URI, `wharf://<cluster>/<role>/<node>`, beside the DNS names that clients
//! verify. Reading it back is strict: a certificate has exactly the names of its identity, and exactly the uses of its
//! role, or it is none of ours.

use std::{fmt, str::FromStr};

use model::{ClusterId, HostRole, NodeId};
use rustls::pki_types::ServerName;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub cluster: ClusterId,
    pub role: HostRole,
    pub node: NodeId,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no host of wharf: expected wharf://CLUSTER/server/NODE or wharf://CLUSTER/agent/NODE")]
pub struct IdentityTextError(pub String);

/// What ends every DNS name in a certificate. `internal` is reserved for private use: no public name ends so.
const DOMAIN: &str = "wharf.internal";

impl Identity {
    /// The DNS name of this very host. A Raft member dials its peers by it: another server that answers there is refused.
    pub fn dns_name(&self) -> String {
        format!("{}.{}.{}.{DOMAIN}", self.node, self.role, self.cluster)
    }

    /// Every DNS name of the certificate.
    pub(crate) fn dns_names(&self) -> Vec<String> {
        match self.role {
            HostRole::Server => vec![any_server(self.cluster), self.dns_name()],
            HostRole::Agent => vec![self.dns_name()],
        }
    }

    /// What a client says that it dials, to reach this host and no other.
    pub fn server_name(&self) -> ServerName<'static> {
        name(self.dns_name())
    }
}

/// What a client says that it dials, where each server of the cluster will do.
pub fn any_server_name(cluster: ClusterId) -> ServerName<'static> {
    name(any_server(cluster))
}

fn any_server(cluster: ClusterId) -> String {
    format!("server.{cluster}.{DOMAIN}")
}

fn name(dns: String) -> ServerName<'static> {
    // Ids are letters and digits, so that this is a DNS name whatever they are.
    ServerName::try_from(dns).unwrap_or_else(|error| unreachable!("an id that is no DNS label: {error}"))
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wharf://{}/{}/{}", self.cluster, self.role, self.node)
    }
}

impl FromStr for Identity {
    type Err = IdentityTextError;

    fn from_str(text: &str) -> Result<Identity, IdentityTextError> {
        parse(text).ok_or_else(|| IdentityTextError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Identity> {
    let mut parts = text.strip_prefix("wharf://")?.split('/');
    let identity = Identity {
        cluster: parts.next()?.parse().ok()?,
        role: parts.next()?.parse().ok()?,
        node: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(identity)
}

/// What the certificate of a cluster's authority names.
pub(crate) fn authority_uri(cluster: ClusterId) -> String {
    format!("wharf://{cluster}")
}

pub(crate) fn parse_authority_uri(text: &str) -> Option<ClusterId> {
    text.strip_prefix("wharf://")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_identity_survives_being_written(cluster: u64, node: u64, server: bool) {
            let role = if server { HostRole::Server } else { HostRole::Agent };
            let identity = Identity { cluster: ClusterId(cluster), role, node: NodeId(node) };
            prop_assert_eq!(identity.to_string().parse(), Ok(identity));
            let name = identity.server_name();
            prop_assert_eq!(name.to_str(), identity.dns_name());
            any_server_name(identity.cluster);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let good = "wharf://0000000000001/agent/0000000000002";
        assert_eq!(good.parse::<Identity>().unwrap().to_string(), good);
        for bad in [
            "",
            "wharf://0000000000001/agent",
            "wharf://0000000000001/agent/0000000000002/",
            "wharf://0000000000001/agent/0000000000002/x",
            "wharf://0000000000001/admin/0000000000002",
            "wharf://0000000000001//0000000000002",
            "wharf://0000000000001/Agent/0000000000002",
            "WHARF://0000000000001/agent/0000000000002",
            "wharf://1/agent/2",
            " wharf://0000000000001/agent/0000000000002",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad}");
        }
    }
}
