//! The gRPC service that users and CI call. One file per kind of call; this one only says which is where, and lets each
//! message through the gate.

mod chosen;
mod exec;
mod images;
mod logs;
mod nodes;
mod read;
pub(crate) mod refuse;
mod write;

use std::pin::Pin;

use model::MemberId;
use proto::v1;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{access::Gate, brain::Brain, relay::Relays};

#[derive(Clone, Debug)]
pub(crate) struct Control {
    brain: Brain,
    relays: Relays,
    gate: Gate,
    /// This server, where it is one of several.
    own: Option<MemberId>,
}

impl Control {
    pub(crate) fn new(brain: Brain, relays: Relays, gate: Gate, own: Option<MemberId>) -> Control {
        Control { brain, relays, gate, own }
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
        let (asked, write) = self.gate.write(request)?;
        write.ended(self.do_apply(asked).await)
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Answer<v1::DeleteResponse> {
        let (asked, write) = self.gate.write(request)?;
        write.ended(self.do_delete(asked).await)
    }

    async fn scale(&self, request: Request<v1::ScaleRequest>) -> Answer<v1::ScaleResponse> {
        let (asked, write) = self.gate.write(request)?;
        write.ended(self.do_scale(asked).await)
    }

    async fn undo(&self, request: Request<v1::UndoRequest>) -> Answer<v1::UndoResponse> {
        let (asked, write) = self.gate.write(request)?;
        write.ended(self.do_undo(asked).await)
    }

    async fn restart(&self, request: Request<v1::RestartRequest>) -> Answer<v1::RestartResponse> {
        let (asked, write) = self.gate.write(request)?;
        write.ended(self.do_restart(asked).await)
    }

    async fn change_node(&self, request: Request<v1::ChangeNodeRequest>) -> Answer<v1::ChangeNodeResponse> {
        let (asked, write) = self.gate.write(request)?;
        write.ended(self.do_change_node(asked).await)
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let asked = self.gate.read(request)?;
        self.do_status(asked).await.map(Response::new)
    }

    async fn watch(&self, request: Request<v1::StatusRequest>) -> Answer<Self::WatchStream> {
        let asked = self.gate.read(request)?;
        self.do_watch(asked).await.map(Response::new)
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Answer<Self::LogsStream> {
        let asked = self.gate.read(request)?;
        self.do_logs(asked).await.map(Response::new)
    }

    async fn exec(&self, request: Request<Streaming<v1::ExecInput>>) -> Answer<Self::ExecStream> {
        let (first, input, write) = self.gate.write_by_stream(request).await?;
        write.begun(self.do_exec(first, input).await)
    }

    async fn load_image(
        &self,
        request: Request<Streaming<v1::LoadImageRequest>>,
    ) -> Answer<v1::LoadImageResponse> {
        let (first, input, write) = self.gate.write_by_stream(request).await?;
        write.ended(self.do_load_image(first, input).await)
    }

    async fn list_images(&self, request: Request<v1::ListImagesRequest>) -> Answer<v1::ListImagesResponse> {
        let asked = self.gate.read(request)?;
        self.do_list_images(asked).await.map(Response::new)
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Answer<v1::RemoveImageResponse> {
        let (asked, write) = self.gate.write(request)?;
        write.ended(self.do_remove_image(asked).await)
    }

    async fn get_version(&self, request: Request<v1::GetVersionRequest>) -> Answer<v1::GetVersionResponse> {
        self.gate.read(request)?;
        Ok(Response::new(v1::GetVersionResponse { server_version: crate::VERSION.to_owned() }))
    }
}
