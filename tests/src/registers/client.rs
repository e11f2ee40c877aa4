//! A client of one register: each request is another server's turn, and the next one's when that fails.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proto::{
    LEADER_HEADER,
    reason::reason,
    v1::{self, Reason, change_node_request, control_client::ControlClient},
};
use tokio::time::{error::Elapsed, timeout};
use tonic::{Response, Status, transport::Channel};

use super::servers::Servers;

/// How an attempt to write failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    NothingDone,
    OutcomeUnknown,
}

#[derive(Debug)]
pub(super) struct Client {
    servers: Arc<Servers>,
    node: String,
    /// A server that does not answer for so long is asked nothing more for now.
    attempt: Duration,
    register: usize,
    /// Which server is asked.
    turn: usize,
    /// How many servers further the next turn is. Some go the other way round: else all wait for one server together, and
    /// then for the next.
    stride: usize,
    /// As many as there are servers.
    connected: Vec<Option<ControlClient<Channel>>>,
}

impl Client {
    pub(super) fn new(
        servers: Arc<Servers>,
        node: &str,
        attempt: Duration,
        register: usize,
        number: usize,
    ) -> Client {
        let count = servers.count();
        let (connected, turn) = (vec![None; count], number % count);
        let stride = if number.is_multiple_of(2) { 1 } else { count - 1 };
        Client { servers, node: node.to_owned(), attempt, register, turn, stride, connected }
    }

    /// What comes next is asked of another server.
    pub(super) fn take_turns(&mut self) {
        self.turn = (self.turn + self.stride) % self.servers.count();
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
        let answer =
            self.outcome(timeout(self.attempt, server.status(self.servers.request(request))).await)?;
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
        self.outcome(timeout(self.attempt, server.change_node(self.servers.request(request))).await)
            .map(|_| ())
    }

    async fn server(&mut self) -> Result<ControlClient<Channel>, Failed> {
        if let Some(connected) = &self.connected[self.turn] {
            return Ok(connected.clone());
        }
        match self.servers.connect(self.turn, self.attempt).await {
            Ok(channel) => Ok(self.connected[self.turn].insert(ControlClient::new(channel)).clone()),
            Err(_) => {
                self.take_turns();
                Err(Failed::NothingDone)
            }
        }
    }

    fn outcome<T>(&mut self, answered: Result<Result<Response<T>, Status>, Elapsed>) -> Result<T, Failed> {
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
