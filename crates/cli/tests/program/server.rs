//! A server of the control plane that answers what it was told to, over a real socket.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, Weak},
};

use model::{
    Generation, Name, RevisionNumber, Rollout, RolloutPhase, Service, ServiceKey, Slot, Timestamp,
    Unplaceable, Version, WaitingOn,
};
use proto::v1::{self, control_server::ControlServer};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::{Stream, wrappers::UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// What the server knows, and how it answers.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub services: Vec<v1::ServiceStatus>,
    /// Refuses every change in these words.
    pub refuses: Option<(v1::Reason, String)>,
    pub lines: Vec<v1::LogLine>,
}

/// Serves until it is dropped.
pub struct Fake {
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
    script: Arc<Mutex<Script>>,
    changed: tokio::sync::watch::Sender<()>,
    /// Shared with everybody who watches and was told something.
    watching: Arc<()>,
}

impl Fake {
    pub fn start(script: Script) -> Fake {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let script = Arc::new(Mutex::new(script));
        let (changed, changes) = tokio::sync::watch::channel(());
        let watching = Arc::new(());
        let control = Control { script: script.clone(), changes, watching: Arc::downgrade(&watching) };
        let socket = folder.path().join("wharf.sock");
        let _entered = runtime.enter();
        let listener = UnixListener::bind(&socket).expect("a socket");
        let server = tonic::transport::Server::builder().add_service(ControlServer::new(control));
        runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        drop(_entered);
        Fake { folder, runtime, script, changed, watching }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("wharf.sock")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// From now on the server knows this, and tells those who watch.
    pub fn now(&self, services: Vec<v1::ServiceStatus>) {
        self.script.lock().expect("the script").services = services;
        // Fails only when nobody watches.
        let _ = self.changed.send(());
    }

    /// How many commands watch now, and were told what there is.
    pub fn watchers(&self) -> usize {
        Arc::strong_count(&self.watching) - 1
    }

    pub fn stop(self) {
        self.runtime.shutdown_background();
    }
}

struct Control {
    script: Arc<Mutex<Script>>,
    changes: tokio::sync::watch::Receiver<()>,
    watching: Weak<()>,
}

type Answer<T> = Result<Response<T>, Status>;
type Outbound<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Control {
    fn script(&self) -> Script {
        self.script.lock().expect("the script").clone()
    }

    fn may_change(&self) -> Result<(), Status> {
        match self.script().refuses {
            Some((reason, words)) => Err(proto::reason::refuse(reason, words)),
            None => Ok(()),
        }
    }
}

fn status(script: &Script, request: &v1::StatusRequest) -> v1::StatusResponse {
    use v1::status_request::Services;
    let takes = |found: &&v1::ServiceStatus| {
        let key = found.service.as_ref().and_then(|service| service.key.clone()).unwrap_or_default();
        match &request.services {
            None => false,
            Some(Services::All(_)) => true,
            Some(Services::Namespace(namespace)) => key.namespace == *namespace,
            Some(Services::Named(named)) => named.keys.contains(&key),
        }
    };
    v1::StatusResponse {
        services: script.services.iter().filter(takes).cloned().collect(),
        now_unix_ms: 100_000,
        ..v1::StatusResponse::default()
    }
}

#[tonic::async_trait]
impl v1::control_server::Control for Control {
    type WatchStream = Outbound<v1::StatusResponse>;
    type LogsStream = Outbound<v1::LogLine>;
    type ExecStream = Outbound<v1::ExecOutput>;

    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Answer<v1::ApplyResponse> {
        self.may_change()?;
        let result = |declared: v1::ServiceDeclaration| v1::ApplyResult {
            service: declared.service,
            outcome: v1::apply_result::Outcome::Created.into(),
            generation: 2,
            revision: 2,
            rollout: true,
            previous: None,
            resolved: declared.spec,
        };
        let results = request.into_inner().services.into_iter().map(result).collect();
        Ok(Response::new(v1::ApplyResponse { results }))
    }

    async fn delete(&self, _: Request<v1::DeleteRequest>) -> Answer<v1::DeleteResponse> {
        self.may_change()?;
        Ok(Response::new(v1::DeleteResponse {}))
    }

    async fn scale(&self, _: Request<v1::ScaleRequest>) -> Answer<v1::ScaleResponse> {
        self.may_change()?;
        Ok(Response::new(v1::ScaleResponse { generation: 2, revision: 2, previous_replicas: 1 }))
    }

    async fn undo(&self, _: Request<v1::UndoRequest>) -> Answer<v1::UndoResponse> {
        self.may_change()?;
        Ok(Response::new(v1::UndoResponse { generation: 2, revision: 2 }))
    }

    async fn restart(&self, _: Request<v1::RestartRequest>) -> Answer<v1::RestartResponse> {
        self.may_change()?;
        Ok(Response::new(v1::RestartResponse { generation: 2, revision: 2 }))
    }

    async fn change_node(&self, request: Request<v1::ChangeNodeRequest>) -> Answer<v1::ChangeNodeResponse> {
        self.may_change()?;
        Ok(Response::new(v1::ChangeNodeResponse { node: 1, name: request.into_inner().node }))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        Ok(Response::new(status(&self.script(), request.get_ref())))
    }

    async fn watch(&self, request: Request<v1::StatusRequest>) -> Answer<Self::WatchStream> {
        let (request, script, mut changes) =
            (request.into_inner(), self.script.clone(), self.changes.clone());
        let (to_user, outbound) = tokio::sync::mpsc::channel(4);
        let watching = self.watching.clone();
        tokio::spawn(async move {
            let mut told = None;
            loop {
                let now = script.lock().expect("the script").clone();
                if to_user.send(Ok(status(&now, &request))).await.is_err() {
                    return;
                }
                told = told.or_else(|| watching.upgrade());
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    () = to_user.closed() => return,
                }
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(outbound))))
    }

    async fn logs(&self, _: Request<v1::LogsRequest>) -> Answer<Self::LogsStream> {
        let lines: Vec<_> = self.script().lines.into_iter().map(Ok).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(lines))))
    }

    async fn exec(&self, _: Request<Streaming<v1::ExecInput>>) -> Answer<Self::ExecStream> {
        Err(proto::reason::refuse(v1::Reason::NotRunning, "nothing runs here"))
    }

    async fn load_image(&self, _: Request<Streaming<v1::LoadImageRequest>>) -> Answer<v1::LoadImageResponse> {
        Err(Status::unimplemented("no images here"))
    }

    async fn list_images(&self, _: Request<v1::ListImagesRequest>) -> Answer<v1::ListImagesResponse> {
        Ok(Response::new(v1::ListImagesResponse::default()))
    }

    async fn remove_image(&self, _: Request<v1::RemoveImageRequest>) -> Answer<v1::RemoveImageResponse> {
        Err(Status::unimplemented("no images here"))
    }

    async fn get_version(&self, _: Request<v1::GetVersionRequest>) -> Answer<v1::GetVersionResponse> {
        Ok(Response::new(v1::GetVersionResponse { server_version: "9.9.9".to_owned() }))
    }
}

pub const MANIFEST: &str =
    "apiVersion: wharf/v1\nkind: Service\nmetadata: {name: web}\nspec: {image: app:1, replicas: 2}\n";

/// The service `web` of a namespace, with its rollout to revision 2 in this phase, asked for by generation 2.
pub fn service(namespace: &str, phase: RolloutPhase) -> v1::ServiceStatus {
    let manifest = manifest::parse("web.yaml", MANIFEST).expect("a manifest").remove(0);
    let name = |text| Name::new(text).expect("a name");
    let is_over = matches!(phase, RolloutPhase::Completed { .. });
    let service = Service {
        key: ServiceKey { namespace: name(namespace), name: name("web") },
        labels: manifest.labels,
        annotations: manifest.annotations,
        spec: manifest.spec,
        generation: Generation(2),
        version: Version(9),
        created_at: Timestamp(10_000),
        revision: RevisionNumber(2),
        rollout: Rollout {
            generation: Generation(2),
            from: Some(RevisionNumber(1)),
            to: RevisionNumber(2),
            started_at: Timestamp(90_000),
            progressed_at: Timestamp(90_000),
            available: 0,
            phase,
        },
        deleting_since: None,
    };
    let ready = if is_over { 2 } else { 0 };
    v1::ServiceStatus {
        service: Some(v1::Service::from(&service)),
        ready,
        available: ready,
        up_to_date: 2,
        ..v1::ServiceStatus::default()
    }
}

/// The same, waiting for a place that no node has.
pub fn unplaceable() -> v1::ServiceStatus {
    let reason = Unplaceable { nodes: 1, too_little_memory: 1, ..Unplaceable::default() };
    let on = WaitingOn::Placement { slot: Slot::new(1).expect("a slot"), reason };
    let waiting = v1::WaitingOnStatus { text: on.to_string(), waiting_on: Some(v1::WaitingOn::from(&on)) };
    v1::ServiceStatus { waiting_on: vec![waiting], ..service("default", RolloutPhase::Progressing) }
}

pub fn completed() -> RolloutPhase {
    RolloutPhase::Completed { at: Timestamp(95_000) }
}
