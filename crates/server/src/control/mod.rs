//! The gRPC service that users and CI call. One file per kind of call; this one only says which is where.

mod chosen;
mod exec;
mod images;
mod logs;
mod nodes;
mod read;
pub(crate) mod refuse;
mod write;

use std::pin::Pin;

use proto::v1;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{brain::Brain, relay::Relays};

#[derive(Clone, Debug)]
pub struct Control {
    brain: Brain,
    relays: Relays,
}

impl Control {
    pub fn new(brain: Brain, relays: Relays) -> Control {
        Control { brain, relays }
    }
}

type Outbound<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::control_server::Control for Control {
    type WatchStream = Outbound<v1::StatusResponse>;
    type LogsStream = Outbound<v1::LogLine>;
    type ExecStream = Outbound<v1::ExecOutput>;

    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Answer<v1::ApplyResponse> {
        self.do_apply(request.into_inner()).await.map(Response::new)
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Answer<v1::DeleteResponse> {
        self.do_delete(request.into_inner()).await.map(Response::new)
    }

    async fn scale(&self, request: Request<v1::ScaleRequest>) -> Answer<v1::ScaleResponse> {
        self.do_scale(request.into_inner()).await.map(Response::new)
    }

    async fn undo(&self, request: Request<v1::UndoRequest>) -> Answer<v1::UndoResponse> {
        self.do_undo(request.into_inner()).await.map(Response::new)
    }

    async fn restart(&self, request: Request<v1::RestartRequest>) -> Answer<v1::RestartResponse> {
        self.do_restart(request.into_inner()).await.map(Response::new)
    }

    async fn change_node(&self, request: Request<v1::ChangeNodeRequest>) -> Answer<v1::ChangeNodeResponse> {
        self.do_change_node(request.into_inner()).await.map(Response::new)
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        self.do_status(request.into_inner()).await.map(Response::new)
    }

    async fn watch(&self, request: Request<v1::StatusRequest>) -> Answer<Self::WatchStream> {
        self.do_watch(request.into_inner()).await.map(Response::new)
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Answer<Self::LogsStream> {
        self.do_logs(request.into_inner()).await.map(Response::new)
    }

    async fn exec(&self, request: Request<Streaming<v1::ExecInput>>) -> Answer<Self::ExecStream> {
        self.do_exec(request.into_inner()).await.map(Response::new)
    }

    async fn load_image(
        &self,
        request: Request<Streaming<v1::LoadImageRequest>>,
    ) -> Answer<v1::LoadImageResponse> {
        self.do_load_image(request.into_inner()).await.map(Response::new)
    }

    async fn list_images(&self, request: Request<v1::ListImagesRequest>) -> Answer<v1::ListImagesResponse> {
        self.do_list_images(request.into_inner()).await.map(Response::new)
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Answer<v1::RemoveImageResponse> {
        self.do_remove_image(request.into_inner()).await.map(Response::new)
    }

    async fn get_version(&self, _: Request<v1::GetVersionRequest>) -> Answer<v1::GetVersionResponse> {
        Ok(Response::new(v1::GetVersionResponse { server_version: crate::VERSION.to_owned() }))
    }
}
