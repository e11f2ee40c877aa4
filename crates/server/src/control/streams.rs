//! Logs and commands in containers: found here, streamed from the nodes where they are.

use model::{Name, NodeId, Replica, ReplicaId, ServiceKey};
use proto::v1::{self, exec_input::Input, relay_frame::Frame, replica_selector};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    Control, Outbound,
    refuse::{invalid, not_found, refuse, stopped},
};
use crate::relay::Relay;

const QUEUE: usize = 256;

impl Control {
    pub(super) async fn do_logs(&self, request: v1::LogsRequest) -> Result<Outbound<v1::LogLine>, Status> {
        let replicas = self.replicas(&request.namespace, &request.service, request.replica.as_ref()).await?;
        let (to_user, outbound) = mpsc::channel(QUEUE);
        for (replica, node) in replicas {
            let wanted = v1::open::NodeLogs { replica: replica.0, request: Some(request.clone()) };
            let relay = self.relays.open(node, v1::open::Request::Logs(wanted)).await?;
            tokio::spawn(forward_lines(relay, to_user.clone()));
        }
        Ok(Box::pin(ReceiverStream::new(outbound)))
    }

    pub(super) async fn do_exec(
        &self,
        mut input: Streaming<v1::ExecInput>,
    ) -> Result<Outbound<v1::ExecOutput>, Status> {
        let Some(Input::Start(start)) = input.message().await?.and_then(|first| first.input) else {
            return Err(invalid("a command begins with start"));
        };
        let replicas = self.replicas(&start.namespace, &start.service, start.replica.as_ref()).await?;
        let view = self.brain.read().await.map_err(stopped)?;
        let runs = |id: &ReplicaId| {
            view.observed.replica(*id).is_some_and(|seen| seen.phase == model::Phase::Running)
        };
        let Some((replica, node)) = replicas.into_iter().find(|(id, _)| runs(id)) else {
            let message = format!("no replica of {} that was asked for is running", start.service);
            return Err(refuse(v1::Reason::NotRunning, message));
        };
        let wanted = v1::open::NodeExec { replica: replica.0, start: Some(start) };
        let relay = self.relays.open(node, v1::open::Request::Exec(wanted)).await?;
        let (to_user, outbound) = mpsc::channel(QUEUE);
        tokio::spawn(pump_exec(relay, input, to_user));
        Ok(Box::pin(ReceiverStream::new(outbound)))
    }

    /// The replicas that a user means and that have a node, in the order of their slots, newest first within one.
    async fn replicas(
        &self,
        namespace: &str,
        service: &str,
        selector: Option<&v1::ReplicaSelector>,
    ) -> Result<Vec<(ReplicaId, NodeId)>, Status> {
        let namespace = if namespace.is_empty() { "default" } else { namespace };
        let key = ServiceKey {
            namespace: Name::new(namespace).map_err(invalid)?,
            name: Name::new(service).map_err(invalid)?,
        };
        let view = self.brain.read().await.map_err(stopped)?;
        if view.state.service(&key).is_none() {
            return Err(not_found(format!("there is no service {key}; `wharf get services -A` lists all")));
        }
        let selector = selector.and_then(|selector| selector.replica);
        let takes = |replica: &&std::sync::Arc<Replica>| match selector {
            None => true,
            Some(replica_selector::Replica::Slot(slot)) => replica.slot.get() == slot,
            Some(replica_selector::Replica::Id(id)) => replica.id.0 == id,
        };
        let mut found: Vec<_> = view
            .state
            .replicas_of(&key)
            .filter(takes)
            .filter(|replica| replica.node.is_some())
            .cloned()
            .collect();
        found.sort_by_key(|replica| (replica.slot, std::cmp::Reverse(replica.created_at)));
        if let Some(replica_selector::Replica::Slot(_)) = selector {
            found.truncate(1);
        }
        let placed: Vec<_> = found.iter().filter_map(|replica| Some((replica.id, replica.node?))).collect();
        match (placed.is_empty(), selector) {
            (true, Some(_)) => Err(not_found(format!("service {key} has no such replica on a node"))),
            (true, None) | (false, _) => Ok(placed),
        }
    }
}

async fn forward_lines(mut relay: Relay, to_user: mpsc::Sender<Result<v1::LogLine, Status>>) {
    loop {
        let next = tokio::select! {
            next = relay.next() => next,
            () = to_user.closed() => return,
        };
        let item = match next {
            Ok(Some(Frame::LogLine(line))) => Ok(line),
            Ok(Some(_)) => continue,
            Ok(None) => return,
            Err(status) => Err(status),
        };
        let failed = item.is_err();
        if to_user.send(item).await.is_err() || failed {
            return;
        }
    }
}

/// Both directions at once, until the command has exited or either side is gone. Dropping the relay ends the command.
async fn pump_exec(
    mut relay: Relay,
    mut input: Streaming<v1::ExecInput>,
    to_user: mpsc::Sender<Result<v1::ExecOutput, Status>>,
) {
    let to_agent = relay.to_agent.clone();
    let inward = async move {
        while let Ok(Some(message)) = input.message().await {
            let frame = v1::RelayFrame { frame: Some(Frame::ExecInput(message)) };
            if to_agent.send(Ok(frame)).await.is_err() {
                return;
            }
        }
        // A user whose stream ended normally has said all; the command may still be answering.
        std::future::pending::<()>().await;
    };
    let outward = async {
        loop {
            let item = match relay.next().await {
                Ok(Some(Frame::ExecOutput(output))) => Ok(output),
                Ok(Some(_)) => continue,
                Ok(None) => return,
                Err(status) => Err(status),
            };
            let failed = item.is_err();
            if to_user.send(item).await.is_err() || failed {
                return;
            }
        }
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
        () = to_user.closed() => {}
    }
}
