//! What users look at: status, once or again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use manager::View;
use model::{Name, NodeId, Reach, ServiceKey, Timestamp};
use proto::v1::{self, Reason, status_request::Services};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{
    Control, Outbound,
    refuse::{invalid, refuse, stopped, unread},
};
use crate::{access::Passed, brain::Stopped};

/// How many events an answer has at most.
const MAX_EVENTS: usize = 1_000;
/// How far apart answers to a watcher are at least: a change after a quiet moment is told at once, what follows is one
/// answer. People see no difference, and a rollout of many replicas is few answers.
const GATHER: Duration = Duration::from_millis(10);

/// A `StatusRequest` that was understood.
#[derive(Clone, Debug)]
struct Wanted {
    services: Selection,
    nodes: bool,
    events: Option<usize>,
    /// Whether this server's own knowledge will do.
    is_stale: bool,
}

#[derive(Clone, Debug)]
enum Selection {
    None,
    All,
    Namespace(String),
    /// All that whoever asks may read.
    Narrowed(BTreeSet<Name>),
    Named(BTreeSet<ServiceKey>),
}

impl Selection {
    fn takes(&self, key: &ServiceKey) -> bool {
        match self {
            Selection::None => false,
            Selection::All => true,
            Selection::Namespace(namespace) => key.namespace.as_str() == namespace,
            Selection::Narrowed(namespaces) => namespaces.contains(&key.namespace),
            Selection::Named(keys) => keys.contains(key),
        }
    }

    fn narrowed_to(&self) -> Vec<String> {
        match self {
            Selection::Narrowed(namespaces) => namespaces.iter().map(Name::to_string).collect(),
            Selection::None | Selection::All | Selection::Namespace(_) | Selection::Named(_) => Vec::new(),
        }
    }
}

impl Control {
    pub(super) async fn do_status(
        &self,
        asked: Passed<v1::StatusRequest>,
    ) -> Result<v1::StatusResponse, Status> {
        let wanted = read_request(asked)?;
        let view = self.view(&wanted).await?;
        Ok(self.status(&view, &wanted))
    }

    async fn view(&self, wanted: &Wanted) -> Result<View, Status> {
        match wanted.is_stale {
            true => Ok(self.brain.newest()),
            false => self.leaders_view().await,
        }
    }

    /// What is so now. How replicas and nodes are, only the leader knows: one that leads no more knows nothing of it.
    pub(super) async fn leaders_view(&self) -> Result<View, Status> {
        let view = self.brain.read().await.map_err(unread)?;
        if view.is_leader { Ok(view) } else { Err(leads_no_more()) }
    }

    fn status(&self, view: &View, wanted: &Wanted) -> v1::StatusResponse {
        let stale = wanted.is_stale.then(|| self.staleness(view));
        v1::StatusResponse { stale, ..status(view, wanted) }
    }

    fn staleness(&self, view: &View) -> v1::Staleness {
        let own = self.own.and_then(|own| view.state.member(own));
        v1::Staleness {
            server: own.map(|member| member.name.to_string()),
            leads: view.is_leader,
            leader_heard_ms_ago: self.brain.leader_heard().map(|at| at.elapsed().as_millis() as u64),
        }
    }

    pub(super) async fn do_watch(
        &self,
        asked: Passed<v1::StatusRequest>,
    ) -> Result<Outbound<v1::StatusResponse>, Status> {
        let wanted = read_request(asked)?;
        // In this order: every later view is as new as the first answer, or newer.
        let mut views = self.brain.views();
        let mut view = self.view(&wanted).await?;
        let control = self.clone();
        let (to_user, outbound) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut last = None;
            loop {
                let again = Instant::now() + GATHER;
                let next = control.status(&view, &wanted);
                if last.as_ref().is_none_or(|last| differs(last, &next)) {
                    if to_user.send(Ok(next.clone())).await.is_err() {
                        return;
                    }
                    last = Some(next);
                }
                tokio::select! {
                    changed = views.changed() => if changed.is_err() {
                        // Nobody may be there to hear it.
                        let _ = to_user.send(Err(stopped(Stopped))).await;
                        return;
                    },
                    () = to_user.closed() => return,
                }
                tokio::time::sleep_until(again).await;
                view = views.borrow_and_update().clone();
                if !view.is_leader && !wanted.is_stale {
                    let _ = to_user.send(Err(leads_no_more())).await;
                    return;
                }
            }
        });
        Ok(Box::pin(ReceiverStream::new(outbound)))
    }
}

/// What was asked is to be asked again: another server leads, or will in a moment.
pub(super) fn leads_no_more() -> Status {
    refuse(Reason::NoLeader, "the server that was asked does not lead the cluster any more; ask again")
}

fn read_request(asked: Passed<v1::StatusRequest>) -> Result<Wanted, Status> {
    let (narrowed_to, is_stale) = (asked.narrowed_to(), asked.is_stale());
    let request = asked.into_inner();
    let services = match request.services {
        None => Selection::None,
        Some(Services::All(_)) => narrowed_to.map_or(Selection::All, Selection::Narrowed),
        Some(Services::Namespace(namespace)) => Selection::Namespace(namespace),
        Some(Services::Named(named)) => {
            let keys = named.keys.into_iter().map(TryInto::try_into).collect::<Result<_, _>>();
            Selection::Named(keys.map_err(invalid)?)
        }
    };
    let limit = match request.event_limit {
        0 => MAX_EVENTS,
        limit => MAX_EVENTS.min(limit as usize),
    };
    Ok(Wanted { services, nodes: request.nodes, events: request.events.then_some(limit), is_stale })
}

/// Whether there is anything new for a watcher: time alone is not.
fn differs(last: &v1::StatusResponse, next: &v1::StatusResponse) -> bool {
    last.services != next.services || last.nodes != next.nodes || last.events != next.events
}

fn status(view: &View, wanted: &Wanted) -> v1::StatusResponse {
    let now = view.reckoning.time(crate::clock::now());
    let services = view.state.services().filter(|service| wanted.services.takes(&service.key));
    v1::StatusResponse {
        version: view.state.version().0,
        services: services.map(|service| service_status(view, service, now)).collect(),
        nodes: if wanted.nodes { node_statuses(view) } else { Vec::new() },
        events: wanted.events.map(|limit| events(view, &wanted.services, limit)).unwrap_or_default(),
        server_version: crate::VERSION.to_owned(),
        now_unix_ms: now.0,
        narrowed_to: wanted.services.narrowed_to(),
        stale: None,
    }
}

fn service_status(view: &View, service: &Arc<model::Service>, now: Timestamp) -> v1::ServiceStatus {
    let replicas = || view.state.replicas_of(&service.key);
    let counts = view.counts(&service.key, now);
    v1::ServiceStatus {
        service: Some(v1::Service::from(&**service)),
        revisions: view
            .state
            .revisions(&service.key)
            .map(|revision| v1::Revision::from(&**revision))
            .collect(),
        replicas: replicas().map(|replica| replica_status(view, replica)).collect(),
        waiting_on: view.waiting_on(&service.key).iter().map(waiting_on).collect(),
        ready: counts.ready,
        available: counts.available,
        up_to_date: counts.up_to_date,
    }
}

fn waiting_on(waiting: &model::WaitingOn) -> v1::WaitingOnStatus {
    v1::WaitingOnStatus { waiting_on: Some(v1::WaitingOn::from(waiting)), text: waiting.to_string() }
}

fn replica_status(view: &View, replica: &model::Replica) -> v1::ReplicaStatus {
    let node = replica.node.and_then(|id| view.state.node(id));
    v1::ReplicaStatus {
        replica: Some(v1::Replica::from(replica)),
        observed: view.observed.replica(replica.id).map(|observed| v1::Observed::from(&**observed)),
        node_name: node.map(|node| node.info.name.to_string()),
    }
}

fn node_statuses(view: &View) -> Vec<v1::NodeStatus> {
    let loads: BTreeMap<NodeId, _> =
        view.node_loads().into_iter().map(|load| (load.id, load.allocated)).collect();
    let one = |node: &Arc<model::Node>| {
        let id = node.info.id;
        let report = view.observed.node(id);
        let (reach, allocated) = (view.reach(node), loads.get(&id));
        let since = match (reach, node.down) {
            (Reach::Down, Some(down)) => Some(down.since),
            (Reach::Ready | Reach::Unknown | Reach::Down, _) => report.map(|report| report.since),
        };
        v1::NodeStatus {
            node: Some(v1::Node::from(&**node)),
            readiness: v1::node_status::Readiness::from(reach).into(),
            since_unix_ms: since.map(|since| since.0),
            allocated_cpu_millicores: allocated.map_or(0, |allocated| allocated.cpu.0),
            allocated_memory_bytes: allocated.map_or(0, |allocated| allocated.memory.0),
            replicas: view.state.replicas_on(id).count() as u32,
            reason: report.and_then(|report| report.silence).map(|silence| silence.to_string()),
            labels: node.effective_labels(),
            used: report.and_then(|report| report.usage).map(Into::into),
            isolated: isolated(view, node),
        }
    };
    view.state.nodes().map(one).collect()
}

/// Why a node's replicas are not joined with those of others.
fn isolated(view: &View, node: &model::Node) -> Option<String> {
    let Some(subnet) = node.subnet else {
        let range = view.state.settings().replica_range.range();
        return Some(format!("the cluster has given all of {range}; remove nodes that are gone"));
    };
    let other = view.state.subnet_conflict(node)?;
    let (name, taken) = (&other.info.name, other.subnet?);
    Some(format!(
        "its subnet {subnet} has addresses of {name}, which has {taken}; give its agent another --subnet"
    ))
}

/// The newest `limit`, oldest first.
fn events(view: &View, services: &Selection, limit: usize) -> Vec<v1::Event> {
    let takes = |event: &&Arc<model::Event>| match &event.service {
        Some(key) => services.takes(key),
        None => matches!(services, Selection::All),
    };
    let mut newest: Vec<_> =
        view.state.events().rev().filter(takes).take(limit).map(|event| v1::Event::from(&**event)).collect();
    newest.reverse();
    newest
}
