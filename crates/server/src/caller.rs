//! Who calls, as the connection proves it.

use std::net::SocketAddr;

use model::{HostRole, NodeId};
use tonic::Status;
use trust::identity::Identity;

use crate::strangers::Probation;

/// What is known of a connection; an extension of each of its requests.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub caller: Caller,
    /// None over the socket.
    pub from: Option<SocketAddr>,
    /// Of a stranger.
    pub(crate) probation: Option<Probation>,
}

/// Over a connection that comes from nowhere else.
impl From<Caller> for Arrival {
    fn from(caller: Caller) -> Arrival {
        Arrival { caller, from: None, probation: None }
    }
}

/// Who is at the other end of a connection.
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
        extensions.get::<Arrival>().map_or(Caller::Stranger, |arrival| arrival.caller)
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
}
