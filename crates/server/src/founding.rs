//! The beginning of a cluster: the first server makes the authority, and brings it into the state once it leads.
//!
//! Between the two, the authority is in the file `founding` beside the log, for root alone. It goes when the state has it:
//! founding twice changes nothing, so a crash anywhere costs nothing.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use manager::Request;
use model::{ClusterId, ClusterTrust, HostRole, NodeId, SecretText, Timestamp};
use store::{Command, TrustChange};
use trust::{
    authority::{Authority, AuthorityError},
    bundle::Trust,
    folder::{FolderError, IdentityFolder},
    identity::Identity,
    key::{KeyError, RequestError},
    validity,
};

use crate::{brain::Brain, random};

/// A leader that is not elected yet, or whose disk is full, takes it later.
const TRY_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    #[error("{} is of a cluster already; use an empty data folder, or remove this one if nobody needs it", .0.display())]
    Taken(PathBuf),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the kernel gives no random numbers")]
    Random(#[source] io::Error),
    #[error("the cluster's authority cannot be made")]
    Authority(#[from] AuthorityError),
    #[error("the certificate of this server cannot be asked for")]
    Request(#[from] RequestError),
    #[error("the key of this server cannot be made")]
    Key(#[from] KeyError),
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Whether a cluster can be founded here: nothing of another one may be here.
pub fn check(data_dir: &Path, trust_dir: &Path) -> Result<IdentityFolder, FoundError> {
    let folder = IdentityFolder::open(trust_dir)?;
    if folder.load()?.is_some() {
        return Err(FoundError::Taken(trust_dir.to_owned()));
    }
    // What a founding that was cut off leaves, drafts too.
    let drafts = ["founding.tmp", "host.json", "host.tmp"].map(|name| data_dir.join(name));
    let is_ours = |path: PathBuf| path == trust_dir || path == file(data_dir) || drafts.contains(&path);
    let is_used = fs::read_dir(data_dir)
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| !is_ours(entry.path()))));
    if is_used {
        return Err(FoundError::Taken(data_dir.to_owned()));
    }
    Ok(folder)
}

/// Makes a cluster of one server, which others can join: what it needs to run as that server is in `data_dir` and
/// `trust_dir` when this returns.
pub fn found(data_dir: &Path, trust_dir: &Path, now: Timestamp) -> Result<Identity, FoundError> {
    let folder = check(data_dir, trust_dir)?;
    let drawn = || random().map(|number| number | 1).map_err(FoundError::Random);
    let cluster = ClusterId(drawn()?);
    let identity = Identity { cluster, role: HostRole::Server, node: NodeId(drawn()?) };
    let authority = Authority::make(cluster, now, validity::AUTHORITY_LIFETIME)?;
    let bundle = Trust::new(authority.certificate().clone());
    let trust = ClusterTrust {
        bundle: bundle.to_pem(),
        authority: SecretText(authority.encode().to_string()),
        next_authority: None,
        beliefs: BTreeMap::new(),
    };
    keep(data_dir, &trust).map_err(|source| FoundError::Write { path: file(data_dir), source })?;
    // The certificate last: with it the server is founded, and without it this can be done again.
    folder.believe(&bundle)?;
    let request = folder.next_key()?.request()?;
    folder.install(authority.sign(&request, identity, now, validity::NODE_LIFETIME)?)?;
    Ok(identity)
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("founding")
}

fn keep(data_dir: &Path, trust: &ClusterTrust) -> io::Result<()> {
    let change = TrustChange::Found { trust: trust.clone(), tokens: Vec::new() };
    let bytes = proto::codec::encode_command(&Command::Trust(change));
    fs::create_dir_all(data_dir)?;
    durable_file::replace(&file(data_dir), bytes)
}

/// Brings what was made into the state. Ends when it is there.
pub(crate) async fn bring(data_dir: PathBuf, brain: Brain) {
    let path = file(&data_dir);
    let change = match read(&path) {
        Ok(Some(change)) => change,
        Ok(None) => return,
        Err(error) => {
            return tracing::error!(path = %path.display(), %error, "the cluster has no authority: nobody can join");
        }
    };
    loop {
        match brain.request(Request::Trust(change.clone())).await {
            Ok(Ok(_)) => break,
            Ok(Err(error)) => tracing::debug!(%error, "the authority is not written yet"),
            Err(_) => return,
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
    if let Err(error) = durable_file::remove(&path) {
        tracing::warn!(path = %path.display(), %error, "the file of the founding is still there; remove it");
    }
}

fn read(path: &Path) -> Result<Option<TrustChange>, String> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| error.to_string())?,
    };
    match proto::codec::decode_command(&bytes).map_err(|error| error.to_string())? {
        Command::Trust(change) => Ok(Some(change)),
        _ => Err("it is not what a founding writes".to_owned()),
    }
}
