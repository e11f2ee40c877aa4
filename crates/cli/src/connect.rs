//! The way to a server: its socket on this host.

use std::{
    error::Error,
    io::{self, ErrorKind},
    path::Path,
};

use hyper_util::rt::TokioIo;
use proto::v1::{cluster_client::ClusterClient, control_client::ControlClient};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{exit::Failure, patience::Patient};

pub type Client = ControlClient<Patient>;

pub async fn connect(socket: &Path) -> Result<Client, Failure> {
    let channel = channel(socket).await.map_err(|error| unreachable_at(socket, &error))?;
    let client = ControlClient::new(Patient::new(channel));
    Ok(client.max_decoding_message_size(server::MAX_MESSAGE).max_encoding_message_size(server::MAX_MESSAGE))
}

/// For what is about the servers themselves.
pub async fn cluster(socket: &Path) -> Result<ClusterClient<Patient>, Failure> {
    let channel = channel(socket).await;
    channel
        .map(|channel| ClusterClient::new(Patient::new(channel)))
        .map_err(|error| unreachable_at(socket, &error))
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

fn unreachable_at(socket: &Path, error: &tonic::transport::Error) -> Failure {
    const START: &str =
        "`wharf dev` runs a whole cluster here; --socket or WHARF_SOCKET names another socket";
    let failure = Failure::new(format!("no server answers at {}", socket.display()));
    let Some(io) = io_error(error) else {
        return failure.because(error.to_string()).help(START);
    };
    match io.kind() {
        ErrorKind::NotFound => failure.because("there is no such socket").help(START),
        ErrorKind::ConnectionRefused => {
            failure.because("the server that made the socket has ended").help(START)
        }
        ErrorKind::PermissionDenied if !is_root() => {
            failure.because("the socket is only root's").help("use sudo, or name another socket by --socket")
        }
        _ => failure.because(io.to_string()).help(START),
    }
}

fn io_error(error: &tonic::transport::Error) -> Option<&io::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        match error.downcast_ref() {
            Some(io) => return Some(io),
            None => next = error.source(),
        }
    }
    None
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
