//! A server: the shell around the manager. It owns the disk, the socket and the clock.
//!
//! - `brain`: who owns the manager and executes its effects, one turn at a time.
//! - `log`: the Raft log and the snapshots on disk; `keys`: what they are encrypted with.
//! - `serving`: what answers a connection.
//! - `control`: the gRPC service for users; `members`: the one about servers; `agents`: the one for agents; `relay`: streams to agents.
//! - `peers`: the way to the other servers; `remote`: this server as they meet it; `forward`: what only the leader can answer.
//! - `founding`: how a cluster begins; `joins`: how hosts become its own; `announce`: how a server becomes a member;
//!   `renewal`: how its certificate never ends; `rotation`: how the cluster gets another authority, and `authority`: how
//!   users ask for that.
//! - `entrance`: where connections come in; `socket`: the one on this host; `caller`: who calls; `strangers`: without a
//!   certificate; `threshold`: what hosts may call, before it is read;
//!   `middleware`: how such things stand before a service.
//! - `access`: which user asks, and whether they may; `tokens`: what they show, and hosts that join; `audit`: what was asked
//!   and how it ended.
//! - `limits`: how long words may be that are kept; `shares`: so much at once for each.
//! - `rescue`: backups, and going on with one server; `backups`: one on its way.
//! - `clock`: what time it is.
//!
//! Start reading at [`run`], then `brain`.

mod access;
pub mod agents;
mod announce;
pub mod audit;
mod authority;
mod backups;
pub mod brain;
pub mod caller;
pub mod chain;
mod clock;
pub mod cluster;
pub mod codec;
mod control;
pub mod entrance;
mod forward;
pub mod founding;
mod joins;
pub mod keys;
mod limits;
pub mod log;
mod members;
mod middleware;
pub mod peers;
pub mod relay;
pub mod remote;
mod renewal;
pub mod rescue;
mod rotation;
mod serving;
mod shares;
pub mod socket;
mod strangers;
mod threshold;
mod tokens;

use std::{future::Future, path::PathBuf, time::Duration};

use consensus::Recovered;
use futures_util::{StreamExt as _, stream};
use manager::{Manager, MemberError, MemberRequest};
use model::{ClusterId, Level, MemberId, Millis};
use tokio::sync::oneshot;
use trust::identity::Identity;

use crate::{
    audit::Audit,
    brain::{Brain, Started},
    cluster::BeginError,
    codec::WireCodec,
    entrance::Arrivals,
    keys::{Keys, KeysError, Unlock},
    log::{HostDisk, Log, SegmentSizes},
    remote::{Beginning, Remote, RemoteConfig, RemoteError},
    serving::Serving,
    socket::Socket,
};

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The largest gRPC message in bytes: an assignment set of a large node, an apply of many services.
pub const MAX_MESSAGE: usize = 64 << 20;
/// How long another server may take to lead; two round trips and a write to its disk are enough.
const HANDOVER: Duration = Duration::from_secs(1);
/// How long the ends of streams may take to arrive when the server stops.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// So many applied entries after the last snapshot, another is written.
const SNAPSHOT_EVERY: u64 = 10_000;
/// Long against a write of a few users at once, and nothing that a person who waits for a rollout would notice.
pub const NOTE_WITHIN: Millis = Millis(20);

#[derive(Clone, Debug)]
pub struct Config {
    /// Holds the log and the snapshots; one server per folder.
    pub data_dir: PathBuf,
    /// Where users and agents of this host connect.
    pub socket: PathBuf,
    /// What opens the keys that the log is encrypted with.
    pub unlock: Unlock,
    /// Where the audit is written; none for the data folder.
    pub audit_log: Option<PathBuf>,
    /// How it takes part in a cluster of several hosts; none where this host is the cluster.
    pub remote: Option<RemoteConfig>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the log in {} cannot be used", dir.display())]
    Log { dir: PathBuf, source: log::OpenError },
    #[error("the data keys in {} cannot be used", dir.display())]
    Keys { dir: PathBuf, source: KeysError },
    #[error("the state in {} cannot be restored", dir.display())]
    Restore { dir: PathBuf, source: manager::RestoreError },
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("{} does not tell which cluster this is", path.display())]
    Cluster { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Begin(#[from] BeginError),
    #[error(
        "the log in {} is of cluster {found}, and the certificate beside it is that of {identity}; put together what \
         belongs together", dir.display()
    )]
    OtherCluster { dir: PathBuf, found: ClusterId, identity: Identity },
    #[error(
        "the log in {} is that of server {found}, and the certificate beside it is that of {identity}; put together what \
         belongs together", dir.display()
    )]
    OtherServer { dir: PathBuf, found: MemberId, identity: Identity },
    #[error("the server cannot listen on {}", path.display())]
    Listen { path: PathBuf, source: std::io::Error },
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
    #[error("the kernel gives no random numbers")]
    Random(#[source] std::io::Error),
    #[error("the server stopped serving")]
    Serve(#[from] tonic::transport::Error),
    #[error("the server stopped serving by itself")]
    Ended,
    #[error("this server is no member of the cluster any more: {reason}")]
    Removed { reason: String },
}

/// Serves until `shutdown` completes. What was acknowledged is on disk whenever and however this ends.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let Config { data_dir, socket: path, unlock, audit_log, remote } = config;
    let seed = random().map_err(Error::Random)?;
    let remote = remote.map(Remote::open).transpose()?;
    let audit = Audit::new(audit_log.unwrap_or_else(|| data_dir.join(audit::FILE)));
    let Open { manager, log, keys, cluster } = open(data_dir.clone(), unlock, seed, remote.as_ref())?;
    let socket = Socket::listen(&path).map_err(|source| Error::Listen { path: path.clone(), source })?;
    let (hosts, strangers) = match &remote {
        Some(remote) => {
            let Arrivals { hosts, strangers } = remote.listen().await?;
            (hosts.left_stream(), strangers.left_stream())
        }
        None => (stream::pending().right_stream(), stream::pending().right_stream()),
    };
    let runtime = tokio::runtime::Handle::current();
    let connect = |tell| remote.as_ref().map(|remote| remote.peers(runtime, tell));
    let whose = match &remote {
        Some(remote) => format!("server {}, in {}", remote.config.name, data_dir.display()),
        None => format!("the server's data, in {}", data_dir.display()),
    };
    let Started { brain, thread, removed } =
        brain::start(manager, log, whose, connect).map_err(Error::Thread)?;
    let _stops = StopsBrain(brain.clone());
    if let Some(remote) = &remote {
        tokio::spawn(renewal::keep_valid(remote.renewing(), brain.clone()));
        tokio::spawn(remote.announcing().run(brain.clone()));
        tokio::spawn(rotation::go_on(MemberId(remote.member()), brain.clone()));
        match remote.config.beginning {
            Beginning::Founds => drop(tokio::spawn(founding::bring(data_dir, brain.clone()))),
            Beginning::Joins => {}
        }
    }
    tracing::info!(socket = %path.display(), listen = ?remote.as_ref().map(|remote| remote.config.listen), "serving");
    let (close, closed) = oneshot::channel::<()>();
    let hosts = stream::select(Box::pin(socket.incoming()), hosts);
    let serving = Serving { brain: &brain, cluster, keys, audit, remote: remote.as_ref() };
    let serve = serving.serve(hosts, strangers, async { drop(closed.await) });
    tokio::pin!(serve);
    let shutdown = async {
        shutdown.await;
        if remote.is_some() {
            hand_over(&brain).await;
        }
    };
    let ended = tokio::select! {
        served = &mut serve => Err(served.map_or_else(Error::Serve, |()| Error::Ended)),
        () = shutdown => Ok(()),
        Ok(reason) = removed => Err(Error::Removed { reason }),
    };
    brain.stop();
    // Only its panic could make this fail, and that aborts the process.
    let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    ended?;
    // Sessions and watches have ended with the brain; what else is open, a command in a container, is not waited for.
    drop(close);
    match tokio::time::timeout(LAST_WORDS, serve).await {
        Ok(served) => Ok(served?),
        Err(_) => Ok(()),
    }
}

/// Whoever leads and has to go lets another one lead first: otherwise nothing is decided until the others miss it. What
/// others ask meanwhile is still answered.
async fn hand_over(brain: &Brain) {
    let handed = tokio::time::timeout(HANDOVER, brain.members(MemberRequest::Transfer { to: None })).await;
    match handed {
        Ok(Ok(Ok(()))) => tracing::info!("another server leads now"),
        Ok(Ok(Err(MemberError::NotLeader { .. } | MemberError::NoHeir))) | Ok(Err(_)) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "nobody took over the lead"),
        Err(_) => tracing::warn!("nobody took over the lead in time"),
    }
}

/// Whoever drops [`run`] half-way wants no thread to go on.
struct StopsBrain(Brain);

impl Drop for StopsBrain {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What a data directory has become.
struct Open {
    manager: Manager<WireCodec>,
    log: Log,
    keys: Keys,
    cluster: ClusterId,
}

fn open(dir: PathBuf, unlock: Unlock, seed: u64, remote: Option<&Remote>) -> Result<Open, Error> {
    let failed = |source| Error::Log { dir: dir.clone(), source };
    let disk = HostDisk::open(&dir).map_err(failed)?;
    let cluster = remote.map_or(ClusterId(seed), |remote| remote.identity.cluster);
    if !log::is_there(&disk).map_err(failed)? {
        cluster::begin(&dir)?;
    }
    let cluster = cluster::identify(&dir, cluster);
    let cluster = cluster.map_err(|source| Error::Cluster { path: dir.join("cluster"), source })?;
    if let Some(remote) = remote
        && remote.identity.cluster != cluster
    {
        return Err(Error::OtherCluster { dir, found: cluster, identity: remote.identity });
    }
    let unusable = |source| Error::Keys { dir: dir.clone(), source };
    let is_encrypted = !Keys::are_in(&dir) && log::is_encrypted(&disk).map_err(failed)?;
    let mut keys = Keys::open(&dir, cluster, unlock, is_encrypted).map_err(unusable)?;
    let new = || match remote {
        None => Recovered::bootstrap(seed | 1),
        Some(remote) => match remote.config.beginning {
            Beginning::Founds => Recovered::bootstrap(remote.member()),
            Beginning::Joins => Recovered::joining(remote.member()),
        },
    };
    let opened = Log::open_on(disk, SegmentSizes::default(), Some(keys.vault()), new).map_err(failed)?;
    cluster::begun(&dir)?;
    if let Some(torn) = &opened.report.torn {
        tracing::warn!(
            ?torn,
            "the end of the last write before a crash was cut off; it was never acknowledged"
        );
    }
    let retired = keys.retire_all_but(&opened.report.keys).map_err(unusable)?;
    if !retired.is_empty() {
        tracing::info!(?retired, "data keys that nothing on the disk needs any more are forgotten");
    }
    if let Some(remote) = remote
        && remote.member() != opened.recovered.id
    {
        let found = MemberId(opened.recovered.id);
        return Err(Error::OtherServer { dir, found, identity: remote.identity });
    }
    let config = manager::Config {
        consensus: consensus::Config::new(opened.recovered.id),
        snapshot_every: SNAPSHOT_EVERY,
        note_within: NOTE_WITHIN,
        seed,
        itself: remote.map(|remote| (remote.config.name.clone(), remote.config.advertise.clone())),
        contacts: remote.map(|remote| remote.config.contacts.keys().copied().collect()).unwrap_or_default(),
        level: Level::NEWEST,
    };
    let manager = Manager::restore(config, WireCodec, opened.recovered);
    let manager = manager.map_err(|source| Error::Restore { dir: dir.clone(), source })?;
    Ok(Open { manager, log: opened.log, keys, cluster })
}

/// Different at every start and on every server: what replica ids and this member's id are drawn from.
fn random() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}
