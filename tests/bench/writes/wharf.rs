//! wharf as a store of declarations. Its services have no replicas, so that what is measured is the write and what it
//! makes necessary by itself: no node is there to do anything.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use dial::{Way, dial};
use prost::Message;
use proto::v1::{self, apply_result::Outcome};
use tests::Several;
use tokio::{sync::oneshot, task::AbortHandle};
use tonic::{client::Grpc, transport::Channel};

use super::load::{Known, PATIENCE, call};
use crate::{agent::Agent, declared};

const NODE: u64 = 7;

#[derive(Debug)]
pub(super) struct Wharf {
    cluster: Several,
    members: usize,
}

impl Wharf {
    pub(super) fn start(folder: &Path, members: usize) -> Wharf {
        Wharf { cluster: Several::servers_in(folder, members), members }
    }

    pub(super) fn leaders_socket(&self) -> PathBuf {
        self.cluster.socket(&self.cluster.leader())
    }

    /// Images are looked up on nodes, so there is one, on which nothing runs. Gone when the task is aborted.
    pub(super) async fn attended(&self, socket: &Path) -> Result<AbortHandle, String> {
        let channel = dial(Way::Socket(socket.to_owned()), PATIENCE).await.map_err(|e| e.to_string())?;
        let (says_opened, opened) = oneshot::channel();
        // Nobody waits for it any more where this is not heard.
        let says_opened = move || {
            let _ = says_opened.send(());
        };
        let node = tokio::spawn(async move { Agent::new(NODE).attend(channel, says_opened).await });
        let handle = node.abort_handle();
        match opened.await {
            Ok(()) => Ok(handle),
            Err(_) => Err(format!("the node has no session: {:?}", node.await)),
        }
    }

    pub(super) fn pids(&self) -> Vec<i32> {
        (1..=self.members).map(|number| self.cluster.pid(&format!("server{number}"))).collect()
    }
}

/// What an apply changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// What the replicas are made from: another revision, and a rollout to it.
    Template,
    /// What is noted beside it.
    Annotation,
}

/// Asks as `wharf apply` does when it has shown what will change. What stays the same of a declaration is encoded once, and
/// of an answer only that is decoded which is looked at: as little is spent here as on a put of etcd.
#[derive(Clone, Debug)]
pub(super) struct WharfClient {
    grpc: Grpc<Channel>,
    change: Change,
    service: Option<v1::ServiceKey>,
    /// The declaration without what changes.
    declared: Vec<u8>,
}

/// The name of what changes.
const NAME: &str = "NOTE";

impl WharfClient {
    pub(super) fn new(channel: Channel, number: usize, change: Change) -> WharfClient {
        let name = match change {
            Change::Template => "template",
            Change::Annotation => "annotation",
        };
        let declared = declared::service(&format!("{name}-{number}"), 0);
        let service = declared.service.clone();
        WharfClient { grpc: Grpc::new(channel), change, service, declared: declared.encode_to_vec() }
    }

    pub(super) async fn apply(&mut self, value: &str) -> Result<(), String> {
        let mut changed = v1::ServiceDeclaration::default();
        let values = match self.change {
            Change::Annotation => &mut changed.annotations,
            Change::Template => variables(&mut changed.spec),
        };
        values.insert(NAME.to_owned(), value.to_owned());
        // Two encodings in a row are that of both, merged.
        let mut service = self.declared.clone();
        changed.encode(&mut service).map_err(|error| error.to_string())?;
        let request = ApplyRequest { services: vec![service], brief: true };
        let answer: ApplyResponse = call(&mut self.grpc, "/wharf.v1.Control/Apply", request).await?;
        match answer.results.first().map(|result| result.outcome) {
            Some(CREATED | CHANGED) => Ok(()),
            other => Err(format!("an apply that changes something was answered with {other:?}")),
        }
    }

    pub(super) async fn read(&mut self) -> Result<Known, String> {
        let keys = self.service.clone().into_iter().collect();
        let named = v1::status_request::Services::Named(v1::status_request::ServiceKeys { keys });
        let request = v1::StatusRequest { services: Some(named), ..Default::default() };
        let status: v1::StatusResponse = call(&mut self.grpc, "/wharf.v1.Control/Status", request).await?;
        let found = status.services.into_iter().find_map(|status| status.service);
        let mut found = found.ok_or("a service that was applied is not there")?;
        let writes = found.generation;
        let values = match self.change {
            Change::Annotation => &mut found.annotations,
            Change::Template => variables(&mut found.spec),
        };
        Ok(Known { value: values.remove(NAME).unwrap_or_default(), writes })
    }
}

fn variables(spec: &mut Option<v1::ServiceSpec>) -> &mut BTreeMap<String, String> {
    let template = spec.get_or_insert_default().template.get_or_insert_default();
    &mut template.main.get_or_insert_default().env
}

const CREATED: i32 = Outcome::Created as i32;
const CHANGED: i32 = Outcome::Changed as i32;

/// `wharf.v1.ApplyRequest`, with encoded declarations.
#[derive(Clone, PartialEq, Message)]
struct ApplyRequest {
    #[prost(bytes = "vec", repeated, tag = "1")]
    services: Vec<Vec<u8>>,
    #[prost(bool, tag = "3")]
    brief: bool,
}

/// `wharf.v1.ApplyResponse`, as much of it as is looked at.
#[derive(Clone, PartialEq, Message)]
struct ApplyResponse {
    #[prost(message, repeated, tag = "1")]
    results: Vec<ApplyResult>,
}

#[derive(Clone, PartialEq, Message)]
struct ApplyResult {
    #[prost(int32, tag = "2")]
    outcome: i32,
}
