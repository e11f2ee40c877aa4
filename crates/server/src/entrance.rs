//! Where connections come in: the socket for root on this host, and TLS for everyone else.
//!
//! Each connection knows its [`Caller`]; each handler asks for the one that it is for. A handshake that takes its time
//! holds up nobody else, and of strangers only so many may be at it at once.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use trust::tls::{Reloading, explain, peer_identity};

use crate::caller::Caller;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many may be at it at once; more wait in the kernel's queue.
const HANDSHAKES: usize = 128;
/// After a connection that could not be accepted: there may be descriptors again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// A connection and who is at its other end.
#[derive(Debug)]
pub enum Connection {
    Host(UnixStream),
    Remote(Box<TlsStream<TcpStream>>, Caller),
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        match self {
            Connection::Host(_) => Caller::Host,
            Connection::Remote(_, caller) => *caller,
        }
    }
}

/// The connections that come to `listener`, once their handshake is complete. Each is made with the configuration that is
/// current when it begins. Ends only with the process; dropping it stops accepting.
pub(crate) fn over_tls(
    listener: TcpListener,
    config: Arc<Reloading<ServerConfig>>,
) -> impl Stream<Item = io::Result<Connection>> {
    let (accepted, connections) = mpsc::channel(HANDSHAKES);
    tokio::spawn(async move {
        let turns = Arc::new(Semaphore::new(HANDSHAKES));
        while !accepted.is_closed() {
            // The semaphore is never closed.
            let Ok(turn) = turns.clone().acquire_owned().await else { return };
            let stream = tokio::select! {
                accept = listener.accept() => match accept {
                    Ok((stream, from)) => (stream, from),
                    // Out of descriptors, for example: serving those who are connected goes on.
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        sleep(ACCEPT_AGAIN).await;
                        continue;
                    }
                },
                () = accepted.closed() => return,
            };
            let (config, accepted) = (config.current(), accepted.clone());
            tokio::spawn(async move {
                let (stream, from) = stream;
                if let Some(connection) = shake_hands(stream, from, config).await {
                    // Nobody takes connections any more when the server stops.
                    let _ = accepted.send(Ok(connection)).await;
                }
                drop(turn);
            });
        }
    });
    ReceiverStream::new(connections)
}

/// None, with a word in the log, where it fails: whoever scans ports is not to be told more.
async fn shake_hands(stream: TcpStream, from: SocketAddr, config: Arc<ServerConfig>) -> Option<Connection> {
    // Small messages that wait for each other are most of what is said.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%from, %error, "a connection may be slow");
    }
    let stream = match timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let reason = explain(&error).unwrap_or_else(|| error.to_string());
            tracing::info!(%from, reason, "a connection was refused");
            return None;
        }
        Err(_) => {
            tracing::info!(%from, "a connection did not finish its handshake");
            return None;
        }
    };
    let caller = match peer_identity(stream.get_ref().1) {
        Ok(Some(identity)) => Caller::Node(identity),
        Ok(None) => Caller::Stranger,
        Err(error) => {
            tracing::info!(%from, %error, "a connection was refused");
            return None;
        }
    };
    Some(Connection::Remote(Box::new(stream), caller))
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Host(stream) => Pin::new(stream).poll_read(context, buffer),
            Connection::Remote(stream, _) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Host(stream) => Pin::new(stream).poll_write(context, bytes),
            Connection::Remote(stream, _) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Host(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Connection::Remote(stream, _) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Connection::Host(stream) => stream.is_write_vectored(),
            Connection::Remote(stream, _) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Host(stream) => Pin::new(stream).poll_flush(context),
            Connection::Remote(stream, _) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Host(stream) => Pin::new(stream).poll_shutdown(context),
            Connection::Remote(stream, _) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
