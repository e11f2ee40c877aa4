//! Which node this is, of which cluster, and which subnet that gave it: lines of text beside the ledger, which outlive its
//! loss.
//!
//! With the node's id kept, a lost ledger means that the server assigns again what it had assigned. With the cluster's id
//! kept, a server that lost its state, or the wrong one, is not taken for one that wants nothing to run any more.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use model::{ClusterId, NodeId, Subnet};

#[derive(Debug)]
pub(crate) struct Identity {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    node: NodeId,
    cluster: Option<ClusterId>,
    /// That the cluster gave the node for its replicas.
    subnet: Option<Subnet>,
}

/// Why this node does not take orders from a server.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "this node belongs to cluster {ours}, the server to cluster {theirs} (did it lose its data?); what runs goes on \
         running. To give the node to the other cluster, which then stops what it does not know, remove {} and start the \
         agent again", path.display()
    )]
    OtherCluster { ours: ClusterId, theirs: ClusterId, path: PathBuf },
    #[error(
        "{} says that this is node {ours}, the certificate that it is node {certified}; start the agent with an empty data \
         folder, or join again with this one", path.display()
    )]
    OtherNode { ours: NodeId, certified: NodeId, path: PathBuf },
    #[error("cannot use {}, which tells which node this is", path.display())]
    File { path: PathBuf, source: io::Error },
}

impl Identity {
    /// `node` gives the id where the file does not know it.
    pub(crate) fn open<E: From<IdentityError>>(
        path: PathBuf,
        node: impl FnOnce() -> Result<NodeId, E>,
    ) -> Result<Identity, E> {
        let failed = |source| IdentityError::File { path: path.clone(), source };
        let known = match fs::read_to_string(&path) {
            Ok(text) => read(&text).ok_or_else(|| {
                failed(io::Error::other("it has no line `node ID`; remove it if nothing can mend it"))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let known = Known { node: node()?, cluster: None, subnet: None };
                write(&path, known).map_err(failed)?;
                known
            }
            Err(error) => return Err(failed(error).into()),
        };
        Ok(Identity { path, known: Mutex::new(known) })
    }

    pub(crate) fn node(&self) -> NodeId {
        self.known().node
    }

    pub(crate) fn subnet(&self) -> Option<Subnet> {
        self.known().subnet
    }

    /// Keeps what the cluster gave.
    pub(crate) fn keep_subnet(&self, subnet: Subnet) -> Result<(), IdentityError> {
        let mut known = self.known();
        let settled = Known { subnet: Some(subnet), ..*known };
        write(&self.path, settled)
            .map_err(|source| IdentityError::File { path: self.path.clone(), source })?;
        *known = settled;
        Ok(())
    }

    /// A certificate, where there is one, is for this node.
    pub(crate) fn agrees_with(&self, certified: Option<NodeId>) -> Result<(), IdentityError> {
        let ours = self.node();
        match certified.filter(|certified| *certified != ours) {
            None => Ok(()),
            Some(certified) => Err(IdentityError::OtherNode { ours, certified, path: self.path.clone() }),
        }
    }

    /// Whether a server of this cluster may give orders here. The first one that is heard decides.
    pub(crate) fn admit(&self, theirs: ClusterId) -> Result<(), IdentityError> {
        let mut known = self.known();
        match known.cluster {
            Some(ours) if ours == theirs => Ok(()),
            Some(ours) => Err(IdentityError::OtherCluster { ours, theirs, path: self.path.clone() }),
            None => {
                let joined = Known { cluster: Some(theirs), ..*known };
                write(&self.path, joined)
                    .map_err(|source| IdentityError::File { path: self.path.clone(), source })?;
                *known = joined;
                Ok(())
            }
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn read(text: &str) -> Option<Known> {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    let cluster = match value("cluster") {
        Some(id) => Some(id.trim().parse().ok()?),
        None => None,
    };
    let subnet = match value("subnet") {
        Some(subnet) => Some(subnet.trim().parse().ok()?),
        None => None,
    };
    Some(Known { node: value("node")?.trim().parse().ok()?, cluster, subnet })
}

fn write(path: &Path, known: Known) -> io::Result<()> {
    let cluster = known.cluster.map(|cluster| format!("cluster {cluster}\n")).unwrap_or_default();
    let subnet = known.subnet.map(|subnet| format!("subnet {subnet}\n")).unwrap_or_default();
    durable_file::replace(path, format!("node {}\n{cluster}{subnet}", known.node))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, drawn: u64) -> Result<Identity, IdentityError> {
        Identity::open(path.to_owned(), || Ok(NodeId(drawn)))
    }

    #[test]
    fn the_first_cluster_is_kept_and_others_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        let (first, other) = (ClusterId(1), ClusterId(2));
        let identity = open(&path, 5).unwrap();
        identity.admit(first).unwrap();
        let again = open(&path, 6).unwrap();
        assert_eq!(again.node(), NodeId(5));
        again.admit(first).unwrap();
        let refused = again.admit(other).unwrap_err().to_string();
        again.keep_subnet("10.64.2.0/23".parse().unwrap()).unwrap();
        assert_eq!(open(&path, 7).unwrap().subnet(), Some("10.64.2.0/23".parse().unwrap()));
        assert!(refused.contains(&first.to_string()) && refused.contains(&other.to_string()), "{refused}");
    }

    #[test]
    fn a_damaged_file_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        for text in ["", "node x", "cluster 0000000000001", "node 0000000000001\ncluster y"] {
            fs::write(&path, text).unwrap();
            let refused = open(&path, 1).unwrap_err().to_string();
            assert!(refused.contains("identity"), "{text:?}: {refused}");
        }
    }
}
