//! The way to a server: its socket on this host, or any server of a cluster over TLS.

use std::{
    error::Error,
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
};

use dial::{DialError, Way};
use proto::v1::{cluster_client::ClusterClient, control_client::ControlClient};
use rustls::time_provider::DefaultTimeProvider;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use trust::{
    identity::any_server_name,
    tls::{Believe, Present, client_config},
};
use zeroize::Zeroizing;

use crate::{
    args::Global,
    contexts::{Goal, Remote},
    exit::Failure,
    patience::Patient,
    reach::{Reach, Unreachable, reason},
};

pub type Client = ControlClient<Patient>;

/// How new answers have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// They see every write that was answered before.
    Now,
    /// What the server that is asked knows by itself.
    Stale,
}

/// To the cluster that is meant.
pub async fn connect(global: &Global) -> Result<Client, Failure> {
    connect_for(global, Freshness::Now).await
}

pub async fn connect_for(global: &Global, freshness: Freshness) -> Result<Client, Failure> {
    Ok(control(to(Goal::of(global)?, freshness).await?))
}

/// For what is about the servers themselves, and about who may do what.
pub async fn cluster(global: &Global) -> Result<ClusterClient<Patient>, Failure> {
    to(Goal::of(global)?, Freshness::Now).await.map(about_cluster)
}

/// To the server on this host, whatever cluster is meant elsewhere; the other one for what is about the servers.
pub async fn at_socket(socket: &Path) -> Result<Client, Failure> {
    Ok(control(to(Goal::Socket(socket.to_owned()), Freshness::Now).await?))
}

pub async fn cluster_at_socket(socket: &Path) -> Result<ClusterClient<Patient>, Failure> {
    to(Goal::Socket(socket.to_owned()), Freshness::Now).await.map(about_cluster)
}

/// Whether a server answers at the socket now.
pub async fn answers(socket: &Path) -> bool {
    match at_socket(socket).await {
        Ok(mut client) => client.get_version(proto::v1::GetVersionRequest {}).await.is_ok(),
        Err(_) => false,
    }
}

fn control(patient: Patient) -> Client {
    let client = ControlClient::new(patient);
    client.max_decoding_message_size(server::MAX_MESSAGE).max_encoding_message_size(server::MAX_MESSAGE)
}

fn about_cluster(patient: Patient) -> ClusterClient<Patient> {
    let client = ClusterClient::new(patient);
    client.max_decoding_message_size(server::MAX_MESSAGE).max_encoding_message_size(server::MAX_MESSAGE)
}

/// Connected, so that what is wrong with the way is told before anything is asked.
async fn to(goal: Goal, freshness: Freshness) -> Result<Patient, Failure> {
    let mut head = HeaderMap::new();
    if freshness == Freshness::Stale {
        head.insert(HeaderName::from_static("wharf-read"), HeaderValue::from_static("stale"));
    }
    let reach = match &goal {
        Goal::Socket(socket) => Reach::new(vec![Way::Socket(socket.clone())]),
        Goal::Remote(remote) => {
            head.insert(AUTHORIZATION, bearer(remote)?);
            Reach::new(ways(remote)?)
        }
    };
    match reach.channel().await {
        Ok(_) => Ok(Patient::new(reach, head)),
        Err(unreachable) => Err(match goal {
            Goal::Socket(socket) => unreachable_at(&socket, unreachable),
            Goal::Remote(remote) => unreachable.into_failure(&remote.named),
        }),
    }
}

fn bearer(remote: &Remote) -> Result<HeaderValue, Failure> {
    let shown = Zeroizing::new(format!("Bearer {}", *remote.token.bearer()));
    let value = HeaderValue::try_from(shown.as_str());
    let mut value = value.map_err(|error| Failure::new("the token cannot be shown").caused_by(error))?;
    value.set_sensitive(true);
    Ok(value)
}

fn ways(remote: &Remote) -> Result<Vec<Way>, Failure> {
    let cluster = remote.token.token.cluster;
    let believe = Believe::Pin(cluster, remote.pin);
    let config = client_config(Present::Nothing, believe, Arc::new(DefaultTimeProvider));
    let config = Arc::new(config.map_err(|error| Failure::new("TLS cannot be set up").caused_by(error))?);
    let name = any_server_name(cluster);
    let way =
        |address: &String| Way::Tls { address: address.clone(), name: name.clone(), config: config.clone() };
    Ok(remote.addresses.iter().map(way).collect())
}

fn unreachable_at(socket: &Path, unreachable: Unreachable) -> Failure {
    const START: &str = "`wharf dev` runs a whole cluster here; --socket or WHARF_SOCKET names another socket, and \
                         `wharf context add` takes what reaches a cluster elsewhere";
    let failure = Failure::new(format!("no server answers at {}", socket.display()));
    let Some(error) = unreachable.tried.first() else { return failure.help(START) };
    let Some(io) = io_error(error) else {
        return failure.because(reason(error)).help(START);
    };
    match io.kind() {
        ErrorKind::NotFound => failure.because("there is no such socket").help(START),
        ErrorKind::ConnectionRefused => {
            failure.because("the server that made the socket has ended").help(START)
        }
        ErrorKind::PermissionDenied if !is_root() => failure.because("the socket is only root's").help(
            "use sudo, name another socket by --socket, or work with a token of your own: `wharf context add`",
        ),
        _ => failure.because(io.to_string()).help(START),
    }
}

fn io_error(error: &DialError) -> Option<&io::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error.source.as_ref());
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
