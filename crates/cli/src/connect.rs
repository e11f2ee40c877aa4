//! The way to a server: its socket on this host.

use std::path::Path;

use hyper_util::rt::TokioIo;
use proto::v1::control_client::ControlClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::exit::Failure;

pub type Client = ControlClient<Channel>;

pub async fn connect(socket: &Path) -> Result<Client, Failure> {
    let channel = channel(socket).await.map_err(|error| {
        let help = if is_root() {
            "is it running? `wharf dev` runs a whole cluster here; --socket or WHARF_SOCKET names another socket"
        } else {
            "its socket is only root's: use sudo, or --socket for another one"
        };
        Failure::new(format!("no server answers at {}", socket.display())).caused_by(error).help(help)
    })?;
    let client = ControlClient::new(channel);
    Ok(client.max_decoding_message_size(server::MAX_MESSAGE).max_encoding_message_size(server::MAX_MESSAGE))
}

/// Whether a server answers at the socket now.
pub async fn answers(socket: &Path) -> bool {
    match channel(socket).await {
        Ok(channel) => ControlClient::new(channel).get_version(proto::v1::GetVersionRequest {}).await.is_ok(),
        Err(_) => false,
    }
}

async fn channel(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = socket.to_owned();
    // The address is only for the HTTP/2 headers; the connector goes to the socket whatever it says.
    Endpoint::from_static("http://wharf.local")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
