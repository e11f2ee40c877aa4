//! Everything that is done to this host: the one place where images, network and runtime meet. Blocking.
//!
//! Nothing here decides. Each verb does what one action of the core says, can be repeated, and says in words what went
//! wrong. What a replica needs to be started is kept in memory ([`Sandbox`]) and made again when it is missing.

mod adopt;
mod clean;
mod etc;
mod exits;
pub(crate) mod fault;
mod guard;
mod node;
mod prepare;
mod remember;
mod run;
mod skeleton;
mod usage;
mod users;

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use image::{Prepared, Store};
use model::{Directory, Listing, Name, ReplicaId, ServiceKey, Slot, Subnet};
use network::{Addresses, Network};
use oci_spec::runtime::Spec;
use runtime::Runtime;

use crate::{clock::Clock, config::Config, core::ContainerId, remembered};

pub(crate) use exits::{exit_of, unknown_exit};
pub(crate) use node::node_info;
pub(crate) use usage::Meter;
pub(crate) use users::IDS;

/// The number of the overlay that hosts share: always the same, for a host is of one cluster.
const OVERLAY: u32 = 7_480;

/// Shared by all executors; cheap to clone.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) config: Arc<Config>,
    subnet: Subnet,
    pub(crate) runtime: Runtime,
    pub(crate) images: Store,
    pub(crate) clock: Clock,
    network: Arc<Network>,
    users: users::Policy,
    known: Arc<Mutex<Known>>,
}

struct Known {
    addresses: Addresses,
    sandboxes: HashMap<ReplicaId, Arc<Sandbox>>,
    /// Replicas that are not to lose their logs, whatever else does.
    live: BTreeSet<ReplicaId>,
}

/// A replica that can be started.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) service: ServiceKey,
    pub(crate) slot: Slot,
    pub(crate) address: Ipv4Addr,
    pub(crate) containers: HashMap<Name, Startable>,
    users: users::Users,
}

#[derive(Debug)]
pub(crate) struct Startable {
    pub(crate) spec: Spec,
    pub(crate) init: bool,
    pub(crate) stop_signal: u8,
    /// Holding it keeps the image from being collected.
    image: Prepared,
}

#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("cannot make the directory {}", path.display())]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot open the image store")]
    Images(#[source] image::Error),
    #[error("cannot set up the network; `wharf doctor` says what this host lacks")]
    Network(#[source] network::Error),
    #[error("cannot list what runs on this host")]
    List(#[source] runtime::Error),
    #[error("cannot list the snapshots of containers")]
    Snapshots(#[source] image::Error),
    #[error("cannot read {path}")]
    Read { path: &'static str, source: std::io::Error },
    #[error("cannot leave nothing behind")]
    Teardown(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Host {
    /// `subnet` is of the node's replicas.
    pub(crate) fn open(
        config: Arc<Config>,
        subnet: Subnet,
        runtime: Runtime,
        clock: Clock,
    ) -> Result<Host, HostError> {
        for path in [config.logs_dir(), config.netns_dir(), config.replicas_dir()] {
            make_dir(&path)?;
        }
        skeleton::make(&config.skeleton_dir())?;
        let users = users::Policy::find(&config, &runtime);
        let images = Store::open(&config.images_dir()).map_err(HostError::Images)?;
        let mut network = network::Config::new(&config.network, subnet, config.netns_dir());
        network.warm = config.warm_sandboxes;
        let is_reached = !config.address.is_loopback();
        network.overlay =
            is_reached.then_some(network::Overlay { address: config.address, network: OVERLAY });
        let network = Network::open(network).map_err(HostError::Network)?;
        let addresses = Addresses::new(subnet);
        let known = Known { addresses, sandboxes: HashMap::new(), live: BTreeSet::new() };
        let (network, known) = (Arc::new(network), Arc::new(Mutex::new(known)));
        Ok(Host { config, subnet, runtime, images, clock, network, users, known })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every section is one or two changes that belong to one replica.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sandbox(&self, replica: ReplicaId) -> Option<Arc<Sandbox>> {
        self.known().sandboxes.get(&replica).cloned()
    }

    /// Makes again what others took away of the network.
    pub(crate) fn heal_network(&self) -> Result<(), network::Error> {
        self.network.repair()
    }

    /// Remembers the directory, and joins the sandboxes of its nodes with ours. Where that cannot be, published ports lead to
    /// the replicas of this host all the same.
    pub(crate) fn connect(&self, directory: &Directory) -> Result<(), network::Error> {
        if let Err(error) = remembered::write(&self.config.directory_path(), directory) {
            tracing::warn!(
                error = chain(&error),
                "what is known of other nodes is not remembered over a restart"
            );
        }
        let peer = |listing: &Arc<Listing>| {
            let subnet = listing.subnet?;
            Some(network::Peer { address: listing.address, subnet })
                .filter(|peer| !peer.address.is_loopback())
        };
        let peers: Vec<_> = directory.nodes().values().filter_map(peer).collect();
        match self.network.connect(&peers) {
            Err(error @ network::Error::NoOverlay) => {
                tracing::error!(
                    error = chain(&error),
                    "replicas of other hosts are not reached; see --address"
                );
                Ok(())
            }
            other => other,
        }
    }

    /// What people should know of a replica although it runs as it should.
    pub(crate) fn note(&self, replica: ReplicaId) -> Option<String> {
        self.known().sandboxes.get(&replica)?.users.note()
    }

    /// Exactly these ports, from now on.
    pub(crate) fn publish(&self, ports: &[crate::core::Published]) -> Result<(), network::Error> {
        let protocol = |protocol| match protocol {
            model::Protocol::Tcp => network::Protocol::Tcp,
            model::Protocol::Udp => network::Protocol::Udp,
        };
        let published = ports.iter().map(|port| network::Published {
            port: port.port,
            protocol: protocol(port.protocol),
            backends: port.backends.iter().map(|backend| (*backend.ip(), backend.port())).collect(),
        });
        self.network.publish(&published.collect::<Vec<_>>())
    }

    /// Removes images that have no name and are not `in_use`. What cannot be removed now is tried with the next change.
    pub(crate) fn collect_garbage(&self, in_use: &BTreeSet<model::Digest>) {
        let in_use = in_use.iter().filter_map(|digest| digest.as_str().parse().ok()).collect();
        match self.images.collect_garbage(&in_use) {
            Ok(freed) => tracing::debug!(?freed, "images collected"),
            Err(error) => tracing::warn!(error = chain(&error), "images that nobody needs are still there"),
        }
    }

    /// Where the logs of a replica's containers are; kept for a while after the replica is gone.
    pub(crate) fn log_dir(&self, service: &ServiceKey, replica: ReplicaId) -> PathBuf {
        self.service_log_dir(service).join(replica.to_string())
    }

    fn service_log_dir(&self, service: &ServiceKey) -> PathBuf {
        self.config.logs_dir().join(service.namespace.as_str()).join(service.name.as_str())
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("config", &self.config).finish_non_exhaustive()
    }
}

pub(crate) fn make_dir(path: &std::path::Path) -> Result<(), HostError> {
    std::fs::create_dir_all(path).map_err(|source| HostError::Directory { path: path.to_owned(), source })
}

/// The name of an attempt, as the runtime has it.
pub(crate) fn runtime_id(id: &ContainerId) -> Result<runtime::ContainerId, runtime::InvalidId> {
    id.to_string().parse()
}

/// An error with all its causes on one line, for messages that cross a boundary as text.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
