//! A server: the shell around the manager. It owns the disk, the socket and the clock.
//!
//! - `brain`: the thread that owns the manager and executes its effects.
//! - `log`: the Raft log and the snapshots on disk.
//! - `control`: the gRPC service for users; `agents`: the one for agents; `relay`: streams to agents.
//! - `socket`: who may connect; `clock`: what time it is.
//!
//! Start reading at [`run`], then `brain`.

pub mod agents;
pub mod brain;
mod clock;
mod cluster;
pub mod codec;
pub mod control;
pub mod log;
pub mod relay;
pub mod socket;

use std::{future::Future, path::PathBuf, time::Duration};

use consensus::Recovered;
use http_body_util::BodyExt as _;
use manager::Manager;
use model::ClusterId;
use proto::v1::{agents_server::AgentsServer, control_server::ControlServer};
use tokio::sync::oneshot;
use tonic::{Status, body::Body, codegen::http, transport::Server};
use tower::util::MapRequestLayer;

use crate::{
    agents::Agents, brain::Brain, codec::WireCodec, control::Control, log::Log, relay::Relays, socket::Socket,
};

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The largest gRPC message in bytes: an assignment set of a large node, an apply of many services.
pub const MAX_MESSAGE: usize = 64 << 20;
/// In one connection: an agent has one, for the logs of all its replicas.
const MAX_STREAMS: u32 = 10_000;
/// How long the ends of streams may take to arrive when the server stops.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// So many applied entries after the last snapshot, another is written.
const SNAPSHOT_EVERY: u64 = 10_000;

#[derive(Clone, Debug)]
pub struct Config {
    /// Holds the log and the snapshots; one server per folder.
    pub data_dir: PathBuf,
    /// Where users and agents of this host connect.
    pub socket: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the log in {} cannot be used", dir.display())]
    Log { dir: PathBuf, source: log::OpenError },
    #[error("the state in {} cannot be restored", dir.display())]
    Restore { dir: PathBuf, source: manager::RestoreError },
    #[error("{} does not tell which cluster this is", path.display())]
    Cluster { path: PathBuf, source: std::io::Error },
    #[error("the server cannot listen on {}", path.display())]
    Listen { path: PathBuf, source: std::io::Error },
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
    #[error("the kernel gives no random numbers")]
    Random(#[source] std::io::Error),
    #[error("the server stopped serving")]
    Serve(#[from] tonic::transport::Error),
}

/// Serves until `shutdown` completes. What was acknowledged is on disk whenever and however this ends.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let Config { data_dir, socket: path } = config;
    let seed = random().map_err(Error::Random)?;
    let (manager, log) = open(data_dir.clone(), seed)?;
    let cluster = cluster::identify(&data_dir, ClusterId(seed));
    let cluster = cluster.map_err(|source| Error::Cluster { path: data_dir.join("cluster"), source })?;
    let socket = Socket::listen(&path).map_err(|source| Error::Listen { path: path.clone(), source })?;
    let (brain, thread) = brain::start(manager, log).map_err(Error::Thread)?;
    let _stops = StopsBrain(brain.clone());
    tracing::info!(socket = %path.display(), "serving");
    let (close, closed) = oneshot::channel::<()>();
    let serve = serve(&brain, cluster, &socket, async { drop(closed.await) });
    tokio::pin!(serve);
    let served = tokio::select! {
        served = &mut serve => Some(served),
        () = shutdown => None,
    };
    brain.stop();
    // Only its panic could make this fail, and that aborts the process.
    let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    if let Some(ended_early) = served {
        return Ok(ended_early?);
    }
    // Sessions and watches have ended with the brain; what else is open, a command in a container, is not waited for.
    drop(close);
    match tokio::time::timeout(LAST_WORDS, serve).await {
        Ok(served) => Ok(served?),
        Err(_) => Ok(()),
    }
}

/// Whoever drops [`run`] half-way wants no thread to go on.
struct StopsBrain(Brain);

impl Drop for StopsBrain {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn serve(
    brain: &Brain,
    cluster: ClusterId,
    socket: &Socket,
    close: impl Future<Output = ()>,
) -> impl Future<Output = Result<(), tonic::transport::Error>> {
    let relays = Relays::default();
    let control = ControlServer::new(Control::new(brain.clone(), relays.clone()));
    let agents = AgentsServer::new(Agents::new(brain.clone(), relays, cluster));
    Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .layer(MapRequestLayer::new(say_when_cut_off))
        .add_service(control.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
        .add_service(agents.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
        .serve_with_incoming_shutdown(socket.incoming(), close)
}

/// tonic takes a stream that its client reset for one that ended, and so half an archive for a whole one. An error that
/// is a status already, it passes on.
fn say_when_cut_off(request: http::Request<Body>) -> http::Request<Body> {
    let cut_off = |status: Status| Status::aborted(format!("the stream was cut off: {}", status.message()));
    request.map(|body| Body::new(body.map_err(cut_off)))
}

fn open(dir: PathBuf, seed: u64) -> Result<(Manager<WireCodec>, Log), Error> {
    let opened = Log::open(&dir, || Recovered::bootstrap(seed | 1));
    let opened = opened.map_err(|source| Error::Log { dir: dir.clone(), source })?;
    if let Some(torn) = &opened.report.torn {
        tracing::warn!(
            ?torn,
            "the end of the last write before a crash was cut off; it was never acknowledged"
        );
    }
    let config = manager::Config {
        consensus: consensus::Config::new(opened.recovered.id),
        snapshot_every: SNAPSHOT_EVERY,
        seed,
        itself: None,
    };
    let manager = Manager::restore(config, WireCodec, opened.recovered);
    let manager = manager.map_err(|source| Error::Restore { dir, source })?;
    Ok((manager, opened.log))
}

/// Different at every start and on every server: what replica ids and this member's id are drawn from.
fn random() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}
