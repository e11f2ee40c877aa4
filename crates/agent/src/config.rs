//! What an agent is told when it starts.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use model::{Bytes, MilliCpu, Name, Subnet};

#[derive(Clone, Debug)]
pub struct Config {
    /// What must survive a restart of the host: ledger, images, snapshots, logs.
    pub data_dir: PathBuf,
    /// What need not: network namespaces and the replicas' own files. Best on a tmpfs. The runtime's own state directory is
    /// given to [`runtime::Runtime::fork`], and must be another one or a folder of its own in here.
    pub run_dir: PathBuf,
    /// What the node is called.
    pub name: Name,
    pub labels: BTreeMap<String, String>,
    pub server: ServerAddress,
    /// Marks bridge, firewall tables and links: at most eight letters, different for each agent on one host.
    pub network: String,
    /// If the cluster is not to give the node one.
    pub subnet: Option<Subnet>,
    /// The first uid and gid of the host that replicas may have for their user namespaces: 65,536 for each address of a
    /// subnet. Agents on one host whose subnets end alike need different ones. `None`: containers have the host's users.
    pub user_namespaces: Option<u32>,
    /// Network namespaces kept ready, so that a start need not wait for one; about 200 KiB of kernel memory each.
    pub warm_sandboxes: usize,
    /// Where published ports are reached, and other hosts send what is for replicas here. On 127.0.0.0/8 no other host is
    /// joined with this one.
    pub address: Ipv4Addr,
    /// Kept for the system: replicas may use the rest.
    pub reserved_cpu: MilliCpu,
    pub reserved_memory: Bytes,
    /// At the end, stop what runs and leave nothing behind. Otherwise containers go on, and the next agent adopts them.
    pub stop_on_exit: bool,
    /// Of the program, as the node tells it.
    pub version: String,
}

/// How servers are reached; see `session/ways.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddress {
    /// The socket of the one on this host. The file's permissions are the authentication.
    Unix(PathBuf),
    /// Over TLS, with what this host was given when it joined: [`Config::trust_dir`] and [`Config::servers_path`].
    Joined,
}

impl Config {
    /// Above what distributions give to the users of a host for their own containers.
    pub const FIRST_HOST_ID: u32 = 1_000_000;

    pub(crate) fn ledger_path(&self) -> PathBuf {
        self.data_dir.join("ledger.redb")
    }

    /// Where the host that joins puts its key, its certificate and whom it believes; see `trust::folder`.
    pub fn trust_dir(data_dir: &Path) -> PathBuf {
        data_dir.join("trust")
    }

    /// Where the servers are: one address, host and port, on each line.
    pub fn servers_path(data_dir: &Path) -> PathBuf {
        data_dir.join("servers")
    }

    pub(crate) fn identity_path(&self) -> PathBuf {
        self.data_dir.join("identity")
    }

    /// What was last known of the other nodes.
    pub(crate) fn directory_path(&self) -> PathBuf {
        self.data_dir.join("directory")
    }

    /// The image store. Whoever wants an image to be there from the start puts it in before the agent runs: the store takes
    /// one process at a time.
    pub fn images_dir(&self) -> PathBuf {
        self.data_dir.join("images")
    }

    /// On the file system of the images: what is true of the layers of one must be true of this one.
    pub(crate) fn skeleton_dir(&self) -> PathBuf {
        self.data_dir.join("skeleton")
    }

    pub(crate) fn logs_dir(&self) -> PathBuf {
        self.data_dir.join("logs")
    }

    pub(crate) fn netns_dir(&self) -> PathBuf {
        self.run_dir.join("netns")
    }

    pub(crate) fn clock_path(&self) -> PathBuf {
        self.run_dir.join("clock")
    }

    pub(crate) fn lease_path(&self) -> PathBuf {
        self.run_dir.join("lease")
    }

    pub(crate) fn replicas_dir(&self) -> PathBuf {
        self.run_dir.join("replicas")
    }
}
