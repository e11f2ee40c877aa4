//! The ways to the servers: which is tried next, and what is remembered of where they are.
//!
//! Any server will do to begin with: one that does not lead says who does. Where all of them are, the leader tells; that is
//! kept in a file, so that an agent finds a cluster again whose servers were replaced one by one.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use dial::Way;
use model::{Belief, HostRole, NodeId};
use rustls::{ClientConfig, pki_types::ServerName, time_provider::DefaultTimeProvider};
use tokio::sync::watch;
use trust::{
    bundle::{Trust, TrustTextError},
    folder::{FolderError, IdentityFolder},
    identity::{Identity, any_server_name},
    tls::{ConfigError, Reloading},
};

use super::renewal::Renewing;
use crate::config::{Config, ServerAddress};

#[derive(Debug, thiserror::Error)]
pub enum WaysError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("{} has no certificate: this host has not joined a cluster; see `wharf join --help`", .0.display())]
    NotJoined(PathBuf),
    #[error("the certificate in {} is for a {}, and this is an agent", path.display(), identity.role.as_str())]
    OtherRole { path: PathBuf, identity: Identity },
    #[error(transparent)]
    Tls(#[from] ConfigError),
    #[error("the leader tells whom to believe in a way that cannot be read")]
    Bundle(#[from] TrustTextError),
    #[error("cannot use {}, which tells where the servers are", path.display())]
    Servers { path: PathBuf, source: io::Error },
    #[error("{} names no server: expected an address such as 10.0.0.1:7400 on each line", .0.display())]
    NoServers(PathBuf),
}

#[derive(Debug)]
pub(crate) enum Ways {
    Socket(PathBuf, watch::Sender<Belief>),
    Joined(Joined),
}

#[derive(Debug)]
pub(crate) struct Joined {
    identity: Identity,
    data_dir: PathBuf,
    config: Arc<Reloading<ClientConfig>>,
    name: ServerName<'static>,
    servers: Servers,
    /// Counts attempts, so that all are tried in turn.
    turn: usize,
    /// Said to lead by one that does not.
    leader: Option<String>,
    /// The newest bundle that a leader told; empty before the first.
    offered: watch::Sender<String>,
    /// Whom this host believes, durably.
    belief: watch::Sender<Belief>,
}

impl Ways {
    pub(crate) fn open(config: &Config) -> Result<Ways, WaysError> {
        match &config.server {
            ServerAddress::Unix(path) => {
                let belief = Belief { generation: 0, signed_by: None };
                Ok(Ways::Socket(path.clone(), watch::Sender::new(belief)))
            }
            ServerAddress::Joined => Joined::open(&config.data_dir).map(Ways::Joined),
        }
    }

    /// As whom the cluster knows this agent, if a certificate says it.
    pub(crate) fn node(&self) -> Option<NodeId> {
        match self {
            Ways::Socket(..) => None,
            Ways::Joined(joined) => Some(joined.identity.node),
        }
    }

    /// Keeps the certificate valid, and what is believed current, if there are such.
    pub(super) fn renew_in_time(&self) {
        if let Ways::Joined(joined) = self {
            let renewing = Renewing {
                data_dir: joined.data_dir.clone(),
                config: joined.config.clone(),
                offered: joined.offered.subscribe(),
                belief: joined.belief.clone(),
            };
            tokio::spawn(renewing.keep_valid());
        }
    }

    /// Whom this host believes, for the leader to be told: what it is now, and whenever it changes.
    pub(super) fn beliefs(&self) -> watch::Receiver<Belief> {
        let (Ways::Socket(_, belief) | Ways::Joined(Joined { belief, .. })) = self;
        let mut beliefs = belief.subscribe();
        beliefs.mark_changed();
        beliefs
    }

    /// Whom to believe, in the words of the leader.
    pub(super) fn trust_is(&mut self, bundle: String) -> Result<(), WaysError> {
        match self {
            Ways::Joined(joined) => drop(joined.offered.send_replace(bundle)),
            // The socket's permissions are what counts: there is nothing to follow.
            Ways::Socket(_, belief) => {
                let generation = Trust::from_pem(&bundle)?.generation();
                belief.send_replace(Belief { generation, signed_by: None });
            }
        }
        Ok(())
    }

    /// The way to try now.
    pub(super) fn next(&mut self) -> Way {
        match self {
            Ways::Socket(path, _) => Way::Socket(path.clone()),
            Ways::Joined(joined) => joined.next(),
        }
    }

    /// Where the leader is, in the words of a server that does not lead. It is tried next, once.
    pub(super) fn leader_is(&mut self, address: &str) {
        if let Ways::Joined(joined) = self {
            joined.leader = Some(address.to_owned());
        }
    }

    /// Where the servers are, in the words of the leader.
    pub(super) fn servers_are(&mut self, addresses: Vec<String>) -> Result<(), WaysError> {
        match self {
            Ways::Joined(joined) if !addresses.is_empty() => joined.servers.replace(addresses),
            Ways::Joined(_) | Ways::Socket(..) => Ok(()),
        }
    }
}

impl Joined {
    fn open(data_dir: &Path) -> Result<Joined, WaysError> {
        let path = Config::trust_dir(data_dir);
        let stored =
            IdentityFolder::open(&path)?.load()?.ok_or_else(|| WaysError::NotJoined(path.clone()))?;
        let identity = stored.credentials.identity();
        if identity.role != HostRole::Agent {
            return Err(WaysError::OtherRole { path, identity });
        }
        Ok(Joined {
            identity,
            data_dir: data_dir.to_owned(),
            config: Arc::new(Reloading::new(stored.client_config(Arc::new(DefaultTimeProvider))?)),
            name: any_server_name(identity.cluster),
            servers: Servers::read(Config::servers_path(data_dir))?,
            turn: 0,
            leader: None,
            offered: watch::Sender::default(),
            belief: watch::Sender::new(stored.belief()),
        })
    }

    fn next(&mut self) -> Way {
        let in_turn = self.servers.in_turn(self.turn);
        self.turn += 1;
        let address = self.leader.take().unwrap_or(in_turn);
        Way::Tls { address, name: self.name.clone(), config: self.config.current() }
    }
}

/// The file that tells where the servers are. Never empty.
#[derive(Debug)]
pub(super) struct Servers {
    path: PathBuf,
    addresses: Vec<String>,
    /// Whether the file says the same.
    is_written: bool,
}

impl Servers {
    pub(super) fn read(path: PathBuf) -> Result<Servers, WaysError> {
        let text =
            fs::read_to_string(&path).map_err(|source| WaysError::Servers { path: path.clone(), source })?;
        let addresses: Vec<String> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        match addresses.is_empty() {
            true => Err(WaysError::NoServers(path)),
            false => Ok(Servers { path, addresses, is_written: true }),
        }
    }

    /// All of them, one after the other.
    pub(super) fn in_turn(&self, turn: usize) -> String {
        self.addresses.get(turn % self.addresses.len().max(1)).cloned().unwrap_or_default()
    }

    /// What was told counts at once; a file that cannot be written is told anew with each session.
    fn replace(&mut self, addresses: Vec<String>) -> Result<(), WaysError> {
        if addresses == self.addresses && self.is_written {
            return Ok(());
        }
        self.addresses = addresses;
        let written = write_servers(&self.path, &self.addresses);
        self.is_written = written.is_ok();
        written.map_err(|source| WaysError::Servers { path: self.path.clone(), source })
    }
}

/// Writes where the servers are; durable when it returns, and after a crash the file is the old one or the new one.
pub fn write_servers(path: &Path, addresses: &[String]) -> io::Result<()> {
    durable_file::replace(path, addresses.iter().map(|address| format!("{address}\n")).collect::<String>())
}

#[cfg(test)]
mod tests {
    use model::{ClusterId, Millis, Timestamp};
    use trust::{authority::Authority, validity};

    use super::*;

    fn joined(dir: &Path, role: HostRole, servers: &[&str]) -> Result<Joined, WaysError> {
        let now = Timestamp(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64);
        let cluster = ClusterId(5);
        let authority = Authority::make(cluster, now, validity::AUTHORITY_LIFETIME).unwrap();
        let folder = IdentityFolder::open(&Config::trust_dir(dir)).unwrap();
        folder.believe(&Trust::new(authority.certificate().clone())).unwrap();
        let request = folder.next_key().unwrap().request().unwrap();
        let identity = Identity { cluster, role, node: NodeId(9) };
        folder.install(authority.sign(&request, identity, now, Millis(3_600_000)).unwrap()).unwrap();
        let servers: Vec<String> = servers.iter().map(|&server| server.to_owned()).collect();
        write_servers(&Config::servers_path(dir), &servers).unwrap();
        Joined::open(dir)
    }

    fn dialled(joined: &mut Joined) -> String {
        match joined.next() {
            Way::Tls { address, .. } => address,
            Way::Socket(_) => unreachable!("a joined agent dials over TLS"),
        }
    }

    #[test]
    fn all_servers_are_tried_in_turn_and_the_leader_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut joined = joined(dir.path(), HostRole::Agent, &["a:1", "b:1"]).unwrap();
        assert_eq!([(); 3].map(|()| dialled(&mut joined)), ["a:1", "b:1", "a:1"]);
        let mut ways = Ways::Joined(joined);
        ways.leader_is("c:1");
        let Ways::Joined(joined) = &mut ways else { unreachable!() };
        assert_eq!(dialled(joined), "c:1");
        assert_ne!(dialled(joined), "c:1");
    }

    #[test]
    fn what_the_leader_told_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let mut ways = Ways::Joined(joined(dir.path(), HostRole::Agent, &["a:1"]).unwrap());
        assert_eq!(ways.node(), Some(NodeId(9)));
        ways.servers_are(vec!["b:1".to_owned()]).unwrap();
        ways.servers_are(Vec::new()).unwrap();
        let mut again = Joined::open(dir.path()).unwrap();
        assert_eq!(dialled(&mut again), "b:1");
    }

    #[test]
    fn what_is_missing_or_meant_for_others_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let refused = Joined::open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("wharf join"), "{refused}");
        let refused = joined(dir.path(), HostRole::Server, &["a:1"]).unwrap_err().to_string();
        assert!(refused.contains("is for a server"), "{refused}");
        let other = tempfile::tempdir().unwrap();
        let refused = joined(other.path(), HostRole::Agent, &[]).unwrap_err().to_string();
        assert!(refused.contains("names no server"), "{refused}");
    }
}
