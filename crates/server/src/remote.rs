//! This server towards other hosts: who it is by its certificate, whom it believes, and where it listens.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc};

use consensus::MemberId;
use dial::Way;
use model::{Belief, HostRole, MemberId as Id, Millis, Name, NodeId};
use rustls::{ClientConfig, ServerConfig, time_provider::DefaultTimeProvider};
use tokio::{net::TcpListener, runtime::Handle, sync::watch};
use trust::{
    folder::{FolderError, IdentityFolder},
    identity::{Identity, any_server_name},
    tls::{ConfigError, Reloading},
};

use crate::{
    announce::{Announcing, FindAny},
    entrance::{self, Arrivals},
    peers::{Exchanges, FindWay, Peers, Tell},
    renewal::Renewing,
};

/// How a server takes part in a cluster of several hosts.
#[derive(Clone, Debug)]
pub struct RemoteConfig {
    /// What people call it.
    pub name: Name,
    pub listen: SocketAddr,
    /// Where others reach it: host and port.
    pub advertise: String,
    /// Its key, its certificate and whom it believes; see `trust::folder`.
    pub identity: PathBuf,
    /// What an empty data directory means.
    pub beginning: Beginning,
    /// What the certificates live that this server signs, its own among them.
    pub certificate_lifetime: Millis,
    /// Where other servers were when this one joined. The state tells better, once it is here.
    pub contacts: BTreeMap<MemberId, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// The first server of a new cluster.
    Founds,
    /// It waits until the leader of the cluster, which has been told of it, sends it the state.
    Joins,
}

#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("{} has no certificate; make a cluster with `wharf cluster init`, or join one with `wharf join`", .0.display())]
    NoIdentity(PathBuf),
    #[error(transparent)]
    Tls(#[from] ConfigError),
    #[error("the server cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
}

#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) config: RemoteConfig,
    pub(crate) identity: Identity,
    serves: Arc<Reloading<ServerConfig>>,
    dials: Arc<Reloading<ClientConfig>>,
    pub(crate) belief: watch::Sender<Belief>,
    /// With other servers.
    pub(crate) exchanges: Exchanges,
}

impl Remote {
    pub(crate) fn open(config: RemoteConfig) -> Result<Remote, RemoteError> {
        let stored = IdentityFolder::open(&config.identity)?.load()?;
        let stored = stored.ok_or_else(|| RemoteError::NoIdentity(config.identity.clone()))?;
        Ok(Remote {
            identity: stored.credentials.identity(),
            belief: watch::Sender::new(stored.belief()),
            config,
            serves: Arc::new(Reloading::new(stored.server_config(Arc::new(DefaultTimeProvider))?)),
            dials: Arc::new(Reloading::new(stored.client_config(Arc::new(DefaultTimeProvider))?)),
            exchanges: Exchanges::default(),
        })
    }

    pub(crate) fn renewing(&self) -> Renewing {
        Renewing {
            folder: self.config.identity.clone(),
            identity: self.identity,
            lifetime: self.config.certificate_lifetime,
            serves: self.serves.clone(),
            dials: self.dials.clone(),
            belief: self.belief.clone(),
        }
    }

    /// A server's node id is its id in consensus: so its certificate proves whom its messages are from.
    pub(crate) fn member(&self) -> MemberId {
        self.identity.node.0
    }

    pub(crate) fn find_way(&self) -> FindWay {
        let (dials, cluster) = (self.dials.clone(), self.identity.cluster);
        Arc::new(move |member, address| {
            let peer = Identity { cluster, role: HostRole::Server, node: NodeId(member) };
            Way::Tls { address, name: peer.server_name(), config: dials.current() }
        })
    }

    pub(crate) fn announcing(&self) -> Announcing {
        Announcing {
            own: Id(self.member()),
            config: self.config.clone(),
            belief: self.belief.subscribe(),
            find_any: self.find_any(),
        }
    }

    /// The way to whatever server of this cluster listens at an address.
    fn find_any(&self) -> FindAny {
        let (dials, name) = (self.dials.clone(), any_server_name(self.identity.cluster));
        Box::new(move |address| Way::Tls { address, name: name.clone(), config: dials.current() })
    }

    pub(crate) fn peers(&self, runtime: Handle, tell: Tell) -> Peers {
        let (contacts, exchanges) = (self.config.contacts.clone(), self.exchanges.clone());
        Peers::new(self.member(), contacts, runtime, self.find_way(), tell, exchanges)
    }

    pub(crate) async fn listen(&self) -> Result<Arrivals, RemoteError> {
        let address = self.config.listen;
        let listener =
            TcpListener::bind(address).await.map_err(|source| RemoteError::Listen { address, source })?;
        Ok(entrance::over_tls(listener, self.serves.clone()))
    }
}
