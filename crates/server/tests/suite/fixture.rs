//! A server and its users.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use proto::v1::{self, agents_client::AgentsClient, control_client::ControlClient};
use server::{keys::Unlock, remote::RemoteConfig};
use tempfile::TempDir;
use tokio::{
    net::UnixStream,
    runtime::Handle,
    sync::oneshot,
    task::{JoinError, JoinHandle, block_in_place},
};
use tonic::transport::{Channel, Endpoint, Uri};

/// How long anything may take; a loaded machine is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Control = ControlClient<Channel>;

/// Where a server of this test listens, and nobody else does: whatever other tests dial or listen on, and however often this
/// one is stopped and started. All of 127.0.0.0/8 is this host.
pub(crate) fn own_address() -> SocketAddr {
    static DRAWN: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id().wrapping_mul(1_024).wrapping_add(DRAWN.fetch_add(1, Ordering::Relaxed));
    SocketAddr::from((Ipv4Addr::from_bits(0x7f40_0000 | number & 0x003f_ffff), 7_400))
}

/// Dropping it stops it, and waits for that: its folder is taken away after it.
pub(crate) struct Server {
    pub(crate) home: Home,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), server::Error>>,
}

/// Where a server lives. Clones are the same place; the last takes its folder away.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) data: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) unlock: Unlock,
    pub(crate) remote: Option<RemoteConfig>,
    _folder: Option<Arc<TempDir>>,
}

impl Home {
    pub(crate) fn new() -> Home {
        let folder = tempfile::Builder::new().prefix("wharf-server-").tempdir().unwrap();
        let home = Home::at(folder.path());
        Home { _folder: Some(Arc::new(folder)), ..home }
    }

    /// In a folder that somebody else takes away.
    pub(crate) fn at(folder: &Path) -> Home {
        let (data, socket) = (folder.join("data"), folder.join("wharf.sock"));
        Home { data, socket, unlock: Unlock::Beside, remote: None, _folder: None }
    }

    /// One of several servers.
    pub(crate) fn remote(self, remote: RemoteConfig) -> Home {
        Home { remote: Some(remote), ..self }
    }

    pub(crate) fn unlock(self, unlock: Unlock) -> Home {
        Home { unlock, ..self }
    }

    pub(crate) fn config(&self) -> server::Config {
        server::Config {
            data_dir: self.data.clone(),
            socket: self.socket.clone(),
            unlock: self.unlock.clone(),
            audit_log: None,
            remote: self.remote.clone(),
        }
    }
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::start_in(Home::new()).await
    }

    pub(crate) async fn start_in(home: Home) -> Server {
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { drop(stopped.await) };
        let running = tokio::spawn(server::run(home.config(), shutdown));
        let mut server = Server { home, stop: Some(stop), running };
        server.wait_until_up().await;
        server
    }

    async fn wait_until_up(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while channel(&self.home.socket).await.is_err() {
            if self.running.is_finished() {
                panic!("the server ended: {:?}", (&mut self.running).await);
            }
            assert!(Instant::now() < deadline, "the server does not listen");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// As SIGTERM does.
    pub(crate) async fn stop(mut self) -> Home {
        self.ends().await.unwrap().unwrap();
        self.home.clone()
    }

    async fn ends(&mut self) -> Result<Result<(), server::Error>, JoinError> {
        drop(self.stop.take());
        in_time("the server ends", &mut self.running).await
    }

    /// Waits until it stops without being told to.
    pub(crate) async fn ended_by_itself(mut self) -> server::Error {
        let running = std::mem::replace(&mut self.running, tokio::spawn(async { Ok(()) }));
        in_time("the server ends", running).await.unwrap().unwrap_err()
    }

    pub(crate) async fn restart(self) -> Server {
        Server::start_in(self.stop().await).await
    }

    pub(crate) async fn control(&self) -> Control {
        let client = ControlClient::new(self.channel().await);
        client.max_decoding_message_size(server::MAX_MESSAGE).max_encoding_message_size(usize::MAX)
    }

    pub(crate) async fn agents(&self) -> AgentsClient<Channel> {
        AgentsClient::new(self.channel().await)
    }

    async fn channel(&self) -> Channel {
        channel(&self.home.socket).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.running.is_finished() {
            let ended = block_in_place(|| Handle::current().block_on(self.ends()));
            // A test that fails already says so itself.
            assert!(std::thread::panicking() || ended.is_ok_and(|ended| ended.is_ok()), "it ends badly");
        }
    }
}

pub(crate) async fn channel(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = socket.to_owned();
    let connect = move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    };
    Endpoint::from_static("http://wharf.test").connect_with_connector(tower::service_fn(connect)).await
}

/// Fails where it takes too long.
pub(crate) async fn in_time<T>(what: &str, waits: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, waits).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Asks again and again, until the answer is good or it takes too long.
pub(crate) async fn eventually<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(last) if Instant::now() > deadline => panic!("in vain: {what}; last: {last:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

pub(crate) fn key(name: &str) -> v1::ServiceKey {
    v1::ServiceKey { namespace: "default".to_owned(), name: name.to_owned() }
}

/// A service as a manifest with this below its `spec`.
pub(crate) fn declaration(name: &str, spec: &str) -> v1::ServiceDeclaration {
    let indented: String = spec.lines().map(|line| format!("  {}\n", line.trim_start())).collect();
    let text = format!("apiVersion: wharf/v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n{indented}");
    let manifest = manifest::parse("test", &text).unwrap_or_else(|errors| panic!("{errors}")).remove(0);
    v1::ServiceDeclaration {
        service: Some((&manifest.key).into()),
        labels: manifest.labels.into_iter().collect(),
        annotations: manifest.annotations.into_iter().collect(),
        spec: Some((&manifest.spec).into()),
        expects_version: None,
    }
}

pub(crate) fn web(spec: &str) -> v1::ApplyRequest {
    apply_of([declaration("web", &format!("image: hello\n{spec}"))])
}

pub(crate) fn apply_of(services: impl IntoIterator<Item = v1::ServiceDeclaration>) -> v1::ApplyRequest {
    v1::ApplyRequest { services: services.into_iter().collect(), ..Default::default() }
}

pub(crate) fn everything() -> v1::StatusRequest {
    let services = Some(v1::status_request::Services::All(v1::status_request::All {}));
    v1::StatusRequest { services, nodes: true, events: true, event_limit: 0 }
}

/// The services that there are, with their generations.
pub(crate) async fn generations(control: &mut Control) -> Vec<(String, u64)> {
    let status = control.status(everything()).await.unwrap().into_inner();
    let services = status.services.into_iter().filter_map(|status| status.service);
    services.map(|service| (service.key.unwrap_or_default().name, service.generation)).collect()
}

/// Waits until so many slots of every service are ready.
pub(crate) async fn until_ready(server: &Server, count: u32) {
    eventually("replicas are ready", || async {
        let status = server.control().await.status(everything()).await.unwrap().into_inner();
        let ready: Vec<u32> = status.services.iter().map(|service| service.ready).collect();
        if ready.iter().all(|ready| *ready == count) { Ok(()) } else { Err(ready) }
    })
    .await;
}
