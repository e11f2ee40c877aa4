//! How a server is reached: over the socket on its own host, or over TLS from anywhere.
//!
//! Gives a tonic channel; everything above it does not know which way it goes. What is presented and believed over TLS is in
//! the configuration, which `trust` makes.

pub mod renewal;

use std::{error::Error, fmt, net::Ipv6Addr, path::PathBuf, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;
use trust::tls::explain;

/// The way to one server.
#[derive(Clone)]
pub enum Way {
    /// Its socket on this host.
    Socket(PathBuf),
    Tls {
        /// Host and port, such as `10.0.0.1:7400`.
        address: String,
        /// Who has to answer there.
        name: ServerName<'static>,
        config: Arc<ClientConfig>,
    },
}

/// Whether this is a host, by its name (RFC 1123 section 2.1) or number (an IPv6 one in brackets), and a port:
/// `10.0.0.1:7400`.
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let is_host = match host.strip_prefix('[') {
        Some(number) => number.strip_suffix(']').is_some_and(|number| number.parse::<Ipv6Addr>().is_ok()),
        None => host.len() <= 253 && host.split('.').all(is_label),
    };
    is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// How patient a channel is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection, its handshake included.
    pub connect: Duration,
    /// A peer that is silent for so long is asked, and gone if it is silent for as long again.
    pub silence: Duration,
}

#[derive(Debug, thiserror::Error)]
#[error("{way} cannot be reached")]
pub struct DialError {
    pub way: String,
    pub source: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Socket(path) => write!(f, "the server at {}", path.display()),
            Way::Tls { address, .. } => write!(f, "the server at {address}"),
        }
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Connects. Once the connection ends, the channel makes another one the same way at the next call.
pub async fn dial(way: Way, patience: Patience) -> Result<Channel, DialError> {
    let endpoint = Endpoint::from_static("http://wharf.internal")
        .connect_timeout(patience.connect)
        .http2_keep_alive_interval(patience.silence)
        .keep_alive_timeout(patience.silence)
        .keep_alive_while_idle(true);
    let shown = way.to_string();
    let connect = async {
        match way {
            Way::Socket(path) => {
                let connect = service_fn(move |_: Uri| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                });
                endpoint.connect_with_connector(connect).await
            }
            Way::Tls { address, name, config } => {
                let connect =
                    service_fn(move |_: Uri| over_tls(address.clone(), name.clone(), config.clone()));
                endpoint.connect_with_connector(connect).await
            }
        }
    };
    let failed = |source| DialError { way: shown.clone(), source };
    match tokio::time::timeout(patience.connect, connect).await {
        Ok(connected) => connected.map_err(|error| {
            // What a refused certificate means is not to be read out of the layers above it.
            let meaning = explain(&error).map(Into::into);
            failed(meaning.unwrap_or_else(|| error.into()))
        }),
        Err(_) => Err(failed(format!("no answer within {:?}", patience.connect).into())),
    }
}

async fn over_tls(
    address: String,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
) -> std::io::Result<TokioIo<TlsStream<TcpStream>>> {
    let stream = TcpStream::connect(address).await?;
    // Small messages that wait for each other are most of what is said.
    stream.set_nodelay(true)?;
    TlsConnector::from(config).connect(name, stream).await.map(TokioIo::new)
}

#[cfg(test)]
mod tests {
    #[test]
    fn addresses_are_names_or_numbers_with_a_port() {
        for good in ["10.0.0.1:7400", "server-1.example:1", "localhost:65535", "[fe80::1]:7400", "a_b:80"] {
            assert!(super::is_address(good), "{good}");
        }
        let long = format!("{}:80", "a".repeat(64));
        for bad in [
            "10.0.0.1", ":7400", "a:0", "a:65536", "a b:1", "a,b:1", "a\n:1", "::1:80", "[a]:80", "a..b:1",
            &long,
        ] {
            assert!(!super::is_address(bad), "{bad}");
        }
    }
}
