//! A client of one register: each request is another server's turn, and the next one's when that fails.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use proto::{
    LEADER_HEADER,
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
    /// How many servers further the next turn is. Some go the other way round: else all wait for one server together, and
    /// then for the next.
    stride: usize,
    /// As many as there are sockets.
    connected: Vec<Option<ControlClient<Channel>>>,
}

impl Client {
    pub(super) fn new(sockets: &[PathBuf], node: &str, register: usize, number: usize) -> Client {
        let connected = vec![None; sockets.len()];
        let turn = number % sockets.len();
        let stride = if number.is_multiple_of(2) { 1 } else { sockets.len() - 1 };
        Client { sockets: sockets.to_vec(), node: node.to_owned(), register, turn, stride, connected }
    }

    /// What comes next is asked of another server.
    pub(super) fn take_turns(&mut self) {
        self.turn = (self.turn + self.stride) % self.sockets.len();
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
        if let Some(connected) = &self.connected[self.turn] {
            return Ok(connected.clone());
        }
        match timeout(ATTEMPT, connect(&self.sockets[self.turn])).await {
            Ok(Ok(channel)) => Ok(self.connected[self.turn].insert(ControlClient::new(channel)).clone()),
            _ => {
                self.take_turns();
                Err(Failed::NothingDone)
            }
        }
    }

    fn outcome<T>(
        &mut self,
        answered: Result<Result<tonic::Response<T>, Status>, tokio::time::error::Elapsed>,
    ) -> Result<T, Failed> {
        let failed = match &answered {
            Ok(Err(status)) if reason(status) == Some(Reason::NoLeader) => Failed::NothingDone,
            Ok(_) | Err(_) => Failed::OutcomeUnknown,
        };
        match answered {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            // Whoever knows who leads now is the one to be asked again.
            Ok(Err(status)) if status.metadata().contains_key(LEADER_HEADER) => {}
            Ok(Err(_)) | Err(_) => {
                self.connected[self.turn] = None;
                self.take_turns();
            }
        }
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
