//! Where connections come in: the socket for root on this host, and TLS for everyone else.
//!
//! Each connection knows its [`Caller`]; each handler asks for the one that it is for. A handshake that takes its time
//! holds up nobody else: only so many may be at it at once, and the slowest give way. Whoever has no certificate comes in
//! by a way of its own, and is a stranger until it shows a token: see `strangers`.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixStream},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use trust::tls::{Reloading, explain, peer_identity};

use crate::{
    caller::{Arrival, Caller},
    strangers::{Deadline, Strangers},
};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many may be at it at once; more wait in the kernel's queue.
const HANDSHAKES: usize = 128;
/// How long one may take at least, also when others wait.
const GIVES_WAY: Duration = Duration::from_secs(1);
/// After a connection that could not be accepted: there may be descriptors again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// A connection and who is at its other end.
#[derive(Debug)]
pub enum Connection {
    Host(UnixStream),
    Remote(Box<Remote>),
}

#[derive(Debug)]
pub struct Remote {
    stream: TlsStream<TcpStream>,
    arrival: Arrival,
    /// Of a stranger.
    deadline: Option<Deadline>,
}

impl Connected for Connection {
    type ConnectInfo = Arrival;

    fn connect_info(&self) -> Arrival {
        match self {
            Connection::Host(_) => Caller::Host.into(),
            Connection::Remote(remote) => remote.arrival.clone(),
        }
    }
}

/// The connections that come in, once their handshake is complete. Dropping both stops accepting.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// With a certificate of the cluster.
    pub(crate) hosts: ReceiverStream<io::Result<Connection>>,
    pub(crate) strangers: ReceiverStream<io::Result<Connection>>,
}

/// Where those go that shook hands.
#[derive(Clone)]
struct Ways {
    hosts: mpsc::Sender<io::Result<Connection>>,
    strangers: mpsc::Sender<io::Result<Connection>>,
}

impl Ways {
    /// Nobody takes connections any more when the server stops.
    async fn enter(&self, connection: Remote) {
        let way = match connection.arrival.caller {
            Caller::Stranger => &self.strangers,
            Caller::Host | Caller::Node(_) => &self.hosts,
        };
        let _ = way.send(Ok(Connection::Remote(Box::new(connection)))).await;
    }

    async fn closed(&self) {
        self.hosts.closed().await;
        self.strangers.closed().await;
    }
}

/// The connections that come to `listener`. Each is made with the configuration that is current when it begins. Ends only
/// with the process.
pub(crate) fn over_tls(listener: TcpListener, config: Arc<Reloading<ServerConfig>>) -> Arrivals {
    let (to_hosts, hosts) = mpsc::channel(HANDSHAKES);
    let (to_strangers, strangers) = mpsc::channel(HANDSHAKES);
    let ways = Ways { hosts: to_hosts, strangers: to_strangers };
    tokio::spawn(accept(listener, config, ways));
    Arrivals { hosts: ReceiverStream::new(hosts), strangers: ReceiverStream::new(strangers) }
}

async fn accept(listener: TcpListener, config: Arc<Reloading<ServerConfig>>, ways: Ways) {
    let mut handshakes = Handshakes::default();
    let strangers = Strangers::new();
    loop {
        let (stream, from) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // Out of descriptors, for example: serving those who are connected goes on.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            },
            () = ways.closed() => return,
        };
        let (config, ways, strangers) = (config.current(), ways.clone(), strangers.clone());
        handshakes.make_room().await;
        handshakes.begin(async move {
            if let Some(connection) = shake_hands(stream, from, config, &strangers).await {
                ways.enter(connection).await;
            }
        });
    }
}

/// Those that are being made, the oldest first.
#[derive(Default)]
struct Handshakes {
    tasks: JoinSet<()>,
    begun: VecDeque<(Instant, AbortHandle)>,
}

impl Handshakes {
    /// Waits until there are fewer than may be. One that takes its time gives way to those who wait: else a few silent
    /// connections would keep everybody out.
    async fn make_room(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        while self.tasks.len() >= HANDSHAKES {
            self.begun.retain(|(_, handshake)| !handshake.is_finished());
            let Some((since, oldest)) = self.begun.front() else { return };
            tokio::select! {
                _ = self.tasks.join_next() => {}
                () = sleep_until(*since + GIVES_WAY) => {
                    tracing::debug!("a handshake that takes its time gives way to another");
                    oldest.abort();
                    let _ = self.tasks.join_next().await;
                }
            }
        }
    }

    fn begin(&mut self, handshake: impl Future<Output = ()> + Send + 'static) {
        self.begun.retain(|(_, handshake)| !handshake.is_finished());
        self.begun.push_back((Instant::now(), self.tasks.spawn(handshake)));
    }
}

/// None, with a word in the log, where it fails: whoever scans ports is not to be told more.
async fn shake_hands(
    stream: TcpStream,
    from: SocketAddr,
    config: Arc<ServerConfig>,
    strangers: &Strangers,
) -> Option<Remote> {
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
    let (probation, deadline) = match caller {
        Caller::Stranger => Some(strangers.admit(from.ip())).unzip(),
        Caller::Host | Caller::Node(_) => (None, None),
    };
    let arrival = Arrival { caller, from: Some(from), probation };
    Some(Remote { stream, arrival, deadline })
}

impl Remote {
    /// Fails once a stranger's time is over. Asked whatever the connection does: one that takes no answers does not read
    /// either.
    fn may_go_on(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let passed = self.deadline.as_mut().and_then(|deadline| deadline.has_passed(context));
        passed.map_or(Ok(()), |reason| Err(io::Error::new(io::ErrorKind::TimedOut, reason)))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Host(stream) => Pin::new(stream).poll_read(context, buffer),
            Connection::Remote(remote) => {
                remote.may_go_on(context)?;
                Pin::new(&mut remote.stream).poll_read(context, buffer)
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Host(stream) => Pin::new(stream).poll_write(context, bytes),
            Connection::Remote(remote) => {
                remote.may_go_on(context)?;
                Pin::new(&mut remote.stream).poll_write(context, bytes)
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Host(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Connection::Remote(remote) => {
                remote.may_go_on(context)?;
                Pin::new(&mut remote.stream).poll_write_vectored(context, bytes)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Connection::Host(stream) => stream.is_write_vectored(),
            Connection::Remote(remote) => remote.stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Host(stream) => Pin::new(stream).poll_flush(context),
            Connection::Remote(remote) => {
                remote.may_go_on(context)?;
                Pin::new(&mut remote.stream).poll_flush(context)
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Host(stream) => Pin::new(stream).poll_shutdown(context),
            Connection::Remote(remote) => Pin::new(&mut remote.stream).poll_shutdown(context),
        }
    }
}
