//! Commands in containers: a replica is found here, the command runs on its node, and both directions are pumped.

use std::sync::Arc;

use manager::View;
use model::{NodeId, Phase, Replica, ReplicaId};
use proto::v1::{self, exec_input::Input, relay_frame::Frame};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    Control, Outbound,
    chosen::Chosen,
    refuse::{invalid, refuse},
};
use crate::{access::Passed, relay::Relay};

const QUEUE: usize = 256;

impl Control {
    pub(super) async fn do_exec(
        &self,
        first: Passed<v1::ExecInput>,
        input: Streaming<v1::ExecInput>,
    ) -> Result<Outbound<v1::ExecOutput>, Status> {
        let Some(Input::Start(start)) = first.into_inner().input else {
            return Err(invalid("a command begins with start"));
        };
        let chosen = Chosen::read(&start.namespace, &start.service, start.replica.as_ref())?;
        let view = self.leaders_view().await?;
        chosen.check(&view)?;
        let (replica, node) = self.best(&chosen, &view)?;
        let wanted = v1::open::NodeExec { replica: replica.0, start: Some(start) };
        let relay = self.relays.open(node, v1::open::Request::Exec(wanted)).await?;
        let (to_user, outbound) = mpsc::channel(QUEUE);
        tokio::spawn(pump(relay, input, to_user));
        Ok(Box::pin(ReceiverStream::new(outbound)))
    }

    /// One that runs on a node that can be asked; rather one that is ready, then by its slot.
    fn best(&self, chosen: &Chosen, view: &View) -> Result<(ReplicaId, NodeId), Status> {
        let running = |replica: &Arc<Replica>| {
            let seen = view.observed.replica(replica.id).filter(|seen| seen.phase == Phase::Running)?;
            Some((seen.ready_since.is_none(), replica.id, replica.node?))
        };
        let mut running: Vec<_> = chosen.among(view).into_iter().filter_map(running).collect();
        running.sort_by_key(|(is_unready, ..)| *is_unready);
        let reachable = running.iter().find(|(_, _, node)| self.relays.session_of(*node).is_some());
        match (reachable, running.first()) {
            (Some((_, replica, node)), _) => Ok((*replica, *node)),
            (None, Some(_)) => {
                let message =
                    format!("every node where {chosen} runs is silent; `wharf get nodes` says since when");
                Err(refuse(v1::Reason::NodeSilent, message))
            }
            (None, None) => {
                let message = format!("{chosen} is not running anywhere; see `wharf describe`");
                Err(refuse(v1::Reason::NotRunning, message))
            }
        }
    }
}

/// Both directions at once, until the command has exited or either side is gone. Dropping the relay ends the command.
async fn pump(
    mut relay: Relay,
    mut input: Streaming<v1::ExecInput>,
    to_user: mpsc::Sender<Result<v1::ExecOutput, Status>>,
) {
    let to_agent = relay.sender();
    let inward = async move {
        while let Ok(Some(message)) = input.message().await {
            if to_agent.send(Frame::ExecInput(message)).await.is_err() {
                break;
            }
        }
        // The user has said all, or the agent hears no more: the command may still be answering.
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
