//! How a server is reached. Everything above speaks to a tonic channel and does not know what is below it.

use std::{path::PathBuf, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Error, Uri};
use tower::service_fn;

use crate::config::ServerAddress;

/// A peer that is silent for so long, though asked, is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn dial(server: &ServerAddress) -> Result<Channel, Error> {
    // The name means nothing below a connector that does not resolve it.
    let endpoint = Endpoint::from_static("http://wharf")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    match server {
        ServerAddress::Unix(path) => {
            let path = path.clone();
            endpoint.connect_with_connector(service_fn(move |_: Uri| connect_unix(path.clone()))).await
        }
    }
}

async fn connect_unix(path: PathBuf) -> std::io::Result<TokioIo<UnixStream>> {
    UnixStream::connect(path).await.map(TokioIo::new)
}
