//! A server's answer in the model's words: what comes over the wire is understood here, once, or refused.

use std::collections::BTreeMap;

use model::{
    Bytes, Event, MilliCpu, Node, NodeId, Observed, Reach, Replica, Revision, Service, ServiceKey, Timestamp,
    Usage,
};
use proto::{DecodeError, v1};

use crate::exit::Failure;

/// What is known of the cluster, as far as it was asked for.
#[derive(Clone, Debug)]
pub struct Answer {
    pub services: Vec<ServiceView>,
    pub nodes: Vec<NodeView>,
    /// Oldest first.
    pub events: Vec<EventView>,
    /// The server's clock.
    pub now: Timestamp,
    /// Of services of all namespaces, only these were looked at; none where nothing was left out.
    pub narrowed_to: Vec<String>,
    /// How old it may be, where that was said to be no matter.
    pub stale: Option<v1::Staleness>,
}

#[derive(Clone, Debug)]
pub struct ServiceView {
    pub service: Service,
    /// Oldest first.
    pub revisions: Vec<Revision>,
    /// In the order of their slots.
    pub replicas: Vec<ReplicaView>,
    pub waiting_on: Vec<Waiting>,
    pub ready: u32,
    pub available: u32,
    pub up_to_date: u32,
}

#[derive(Clone, Debug)]
pub struct ReplicaView {
    pub replica: Replica,
    pub observed: Option<Observed>,
    pub node: Option<String>,
}

/// What a service waits for: a kind, to tell one waiting from another, and the server's words.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub on: model::WaitingOn,
    pub text: String,
}

#[derive(Clone, Debug)]
pub struct NodeView {
    pub node: Node,
    pub reach: Reach,
    pub since: Option<Timestamp>,
    /// Why it is not ready; none where it is.
    pub reason: Option<String>,
    /// Those that placement goes by.
    pub labels: BTreeMap<String, String>,
    pub allocated_cpu: MilliCpu,
    pub allocated_memory: Bytes,
    /// By everything on the host; none while that is not known.
    pub used: Option<Usage>,
    pub replicas: u32,
    /// Why its replicas are not joined with those of other nodes; none where they are.
    pub isolated: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventView {
    pub at: Timestamp,
    pub service: Option<ServiceKey>,
    pub what: String,
}

impl Answer {
    pub fn read(response: v1::StatusResponse) -> Result<Answer, Failure> {
        let nodes: Vec<NodeView> = all(response.nodes, NodeView::read)?;
        let names = NodeNames::of(&nodes);
        Ok(Answer {
            services: all(response.services, |found| ServiceView::read(found, &names))?,
            events: all(response.events, |event| EventView::read(event, &names))?,
            nodes,
            now: Timestamp(response.now_unix_ms),
            narrowed_to: response.narrowed_to,
            stale: response.stale,
        })
    }

    pub fn service(&self, key: &ServiceKey) -> Option<&ServiceView> {
        self.services.iter().find(|found| found.service.key == *key)
    }
}

fn all<T, U>(wire: Vec<T>, read: impl Fn(T) -> Result<U, DecodeError>) -> Result<Vec<U>, Failure> {
    understood(wire.into_iter().map(read).collect())
}

pub fn understood<T>(result: Result<T, DecodeError>) -> Result<T, Failure> {
    let help = "this program and the server should have the same version: see `wharf version`";
    result.map_err(|error| Failure::new("the server's answer is not understood").caused_by(error).help(help))
}

impl ServiceView {
    fn read(found: v1::ServiceStatus, names: &NodeNames) -> Result<ServiceView, DecodeError> {
        let waiting = |waiting: v1::WaitingOnStatus| {
            let on = model::WaitingOn::try_from(waiting.waiting_on.unwrap_or_default())?;
            Ok(Waiting { on, text: names.put_into(&waiting.text) })
        };
        Ok(ServiceView {
            service: found.service.unwrap_or_default().try_into()?,
            revisions: found.revisions.into_iter().map(Revision::try_from).collect::<Result<_, _>>()?,
            replicas: found.replicas.into_iter().map(ReplicaView::read).collect::<Result<_, _>>()?,
            waiting_on: found.waiting_on.into_iter().map(waiting).collect::<Result<_, DecodeError>>()?,
            ready: found.ready,
            available: found.available,
            up_to_date: found.up_to_date,
        })
    }
}

impl ReplicaView {
    fn read(found: v1::ReplicaStatus) -> Result<ReplicaView, DecodeError> {
        Ok(ReplicaView {
            replica: found.replica.unwrap_or_default().try_into()?,
            observed: found.observed.map(Observed::try_from).transpose()?,
            node: found.node_name,
        })
    }
}

impl NodeView {
    fn read(found: v1::NodeStatus) -> Result<NodeView, DecodeError> {
        Ok(NodeView {
            reach: found.readiness().into(),
            reason: found.reason,
            labels: found.labels,
            node: found.node.unwrap_or_default().try_into()?,
            since: found.since_unix_ms.map(Timestamp),
            allocated_cpu: MilliCpu(found.allocated_cpu_millicores),
            allocated_memory: Bytes(found.allocated_memory_bytes),
            used: found.used.map(Into::into),
            replicas: found.replicas,
            isolated: found.isolated,
        })
    }

    pub fn name(&self) -> &str {
        self.node.info.name.as_str()
    }
}

impl EventView {
    /// What a newer server tells and this program has no words for is said to be that, and hides nothing else.
    fn read(event: v1::Event, names: &NodeNames) -> Result<EventView, DecodeError> {
        let at = Timestamp(event.at_unix_ms);
        let service = event.service.clone().map(ServiceKey::try_from).transpose()?;
        let what = match Event::try_from(event) {
            Ok(event) => names.put_into(&event.kind.to_string()),
            Err(_) => "something that this version of wharf has no words for".to_owned(),
        };
        Ok(EventView { at, service, what })
    }
}

/// Sentences of the server call nodes by their ids; people know them by their names.
struct NodeNames(Vec<(String, String)>);

impl NodeNames {
    fn of(nodes: &[NodeView]) -> NodeNames {
        let name = |node: &NodeView| (NodeId::to_string(&node.node.info.id), node.name().to_owned());
        NodeNames(nodes.iter().map(name).collect())
    }

    fn put_into(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (id, name)| {
            // Where both are said, as when a node registers, both stay.
            if text.contains(&format!("({id})")) { text } else { text.replace(id, name) }
        })
    }
}
