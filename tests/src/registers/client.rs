//! A client of one register: it asks one server, and the next one when that fails.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use proto::{
    reason::reason,
    v1::{self, Reason, change_node_request, control_client::ControlClient},
};
use tokio::{net::UnixStream, time::timeout};
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};

/// A server that does not answer for so long is asked nothing more for now.
const ATTEMPT: Duration = Duration::from_secs(1);

/// How an attempt to write failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    NothingDone,
    OutcomeUnknown,
}

#[derive(Debug)]
pub(super) struct Client {
    sockets: Vec<PathBuf>,
    node: String,
    register: usize,
    /// Which server is asked.
    turn: usize,
    connected: Option<ControlClient<Channel>>,
}

impl Client {
    pub(super) fn new(sockets: &[PathBuf], node: &str, register: usize, turn: usize) -> Client {
        Client { sockets: sockets.to_vec(), node: node.to_owned(), register, turn, connected: None }
    }

    pub(super) fn register(&self) -> usize {
        self.register
    }

    fn label(&self) -> String {
        format!("register-{}", self.register)
    }

    /// 0 for what was never written.
    pub(super) async fn read(&mut self) -> Result<u64, Failed> {
        let request = v1::StatusRequest { services: None, nodes: true, events: false, event_limit: 0 };
        let mut server = self.server().await?;
        let answer = self.outcome(timeout(ATTEMPT, server.status(request)).await)?;
        let label = self.label();
        let node = answer.nodes.iter().find(|node| node.labels.contains_key(&label));
        Ok(node.map_or(0, |node| node.labels[&label].parse().expect("a number")))
    }

    pub(super) async fn write(&mut self, value: u64) -> Result<(), Failed> {
        let set = BTreeMap::from([(self.label(), value.to_string())]);
        let label = change_node_request::Label { set, unset: Vec::new() };
        let change = change_node_request::Change::Label(label);
        let request = v1::ChangeNodeRequest { node: self.node.clone(), change: Some(change) };
        let mut server = self.server().await?;
        self.outcome(timeout(ATTEMPT, server.change_node(request)).await).map(|_| ())
    }

    async fn server(&mut self) -> Result<ControlClient<Channel>, Failed> {
        if let Some(connected) = &self.connected {
            return Ok(connected.clone());
        }
        match timeout(ATTEMPT, connect(&self.sockets[self.turn % self.sockets.len()])).await {
            Ok(Ok(channel)) => Ok(self.connected.insert(ControlClient::new(channel)).clone()),
            _ => {
                self.turn += 1;
                Err(Failed::NothingDone)
            }
        }
    }

    fn outcome<T>(
        &mut self,
        answered: Result<Result<tonic::Response<T>, Status>, tokio::time::error::Elapsed>,
    ) -> Result<T, Failed> {
        let failed = match answered {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) if reason(&status) == Some(Reason::NoLeader) => Failed::NothingDone,
            Ok(Err(_)) | Err(_) => Failed::OutcomeUnknown,
        };
        self.turn += 1;
        self.connected = None;
        Err(failed)
    }
}

async fn connect(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is only for the HTTP/2 headers.
    Endpoint::from_static("http://wharf.local").connect_with_connector(connector).await
}
