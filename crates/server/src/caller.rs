//! Who calls, as the connection proves it.

use model::{HostRole, MemberId, NodeId};
use tonic::Status;
use trust::identity::Identity;

/// Who is at the other end of a connection; an extension of each of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Root on this host.
    Host,
    /// A host of this cluster.
    Node(Identity),
    /// Whoever could connect.
    Stranger,
}

impl Caller {
    /// Of a request that came over a connection; one that did not is nobody's.
    pub fn of(extensions: &tonic::Extensions) -> Caller {
        extensions.get().copied().unwrap_or(Caller::Stranger)
    }

    /// The member that a server's certificate names: a server's node id is its id in consensus.
    pub fn member(self) -> Result<consensus::MemberId, Status> {
        match self {
            Caller::Node(Identity { role: HostRole::Server, node, .. }) => Ok(node.0),
            Caller::Node(Identity { role: HostRole::Agent, .. }) | Caller::Host | Caller::Stranger => {
                Err(Status::permission_denied("only servers of this cluster may call this"))
            }
        }
    }

    /// Whether this may speak for the agent of a node.
    pub fn is_agent_of(self, node: NodeId) -> Result<(), Status> {
        match self {
            Caller::Host => Ok(()),
            Caller::Node(Identity { role: HostRole::Agent, node: own, .. }) if own == node => Ok(()),
            Caller::Node(identity) => Err(Status::permission_denied(format!(
                "the certificate of {identity} does not speak for the agent of node {node}"
            ))),
            Caller::Stranger => Err(Status::unauthenticated(
                "only agents of this cluster may call this: join first, see `wharf join --help`",
            )),
        }
    }

    /// Whether this is root on this host or the agent of any node of the cluster.
    pub fn is_agent(self) -> Result<(), Status> {
        match self {
            Caller::Node(Identity { role: HostRole::Agent, node, .. }) => self.is_agent_of(node),
            Caller::Host | Caller::Node(_) | Caller::Stranger => self.is_agent_of(NodeId(0)),
        }
    }

    /// Whether this may do what users do; a server may, for a user, if `speaks_for_users` says so of it.
    pub fn is_user(self, speaks_for_users: impl FnOnce(MemberId) -> bool) -> Result<(), Status> {
        match self {
            Caller::Host => Ok(()),
            Caller::Node(Identity { role: HostRole::Server, node, .. })
                if speaks_for_users(MemberId(node.0)) =>
            {
                Ok(())
            }
            Caller::Node(_) | Caller::Stranger => Err(Status::unauthenticated(
                "users of this cluster call over the socket of a server, as root",
            )),
        }
    }
}
