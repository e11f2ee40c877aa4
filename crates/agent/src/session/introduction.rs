//! How an agent without a subnet comes by one: it says who it is, and waits until the cluster has given it one.
//!
//! A session of its own, and the only one that is opened before the network is: what an agent would say in a hello it does
//! not know yet.

use std::time::Duration;

use dial::dial;
use model::{NodeInfo, Subnet};
use proto::{
    CLUSTER_HEADER, PROTOCOL_VERSION,
    session::AgentSays,
    v1::{agents_client::AgentsClient, server_message::Message},
};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;

use super::{Ended, PATIENCE, RETRY_FIRST, RETRY_MAX, Ways};
use crate::{host::chain, identity::Identity};

/// Until it has one, however long that takes.
pub(crate) async fn introduce(ways: &mut Ways, identity: &Identity, node: &NodeInfo) -> Subnet {
    let (mut pause, mut said): (Duration, String) = (RETRY_FIRST, String::new());
    loop {
        match ask(ways, identity, node).await {
            Ok(subnet) => return subnet,
            Err(ended) => {
                let reason = chain(&ended);
                if reason != said {
                    tracing::warn!(error = reason, "this node has no subnet yet, so nothing can run here");
                    said = reason;
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

async fn ask(ways: &mut Ways, identity: &Identity, node: &NodeInfo) -> Result<Subnet, Ended> {
    let channel = dial(ways.next(), PATIENCE).await.map_err(Ended::Dial)?;
    let (outbound, messages) = mpsc::channel(1);
    let introduction = AgentSays::Introduction { protocol_version: PROTOCOL_VERSION, node: node.clone() };
    // There is room for it: nothing else was sent.
    let _ = outbound.try_send((&introduction).into());
    let answer = AgentsClient::new(channel).session(ReceiverStream::new(messages)).await;
    let answer = answer.map_err(|refused| ways.refused(refused))?;
    let cluster = answer.metadata().get(CLUSTER_HEADER).and_then(|id| id.to_str().ok()?.parse().ok());
    identity.admit(cluster.ok_or(Ended::NoCluster)?)?;
    let mut inbound = answer.into_inner();
    loop {
        match inbound.message().await {
            Ok(Some(message)) => {
                let Some(Message::Directory(news)) = message.message else { continue };
                let mut news = model::DirectoryNews::try_from(news)?;
                if let Some(subnet) = news.without(node.id).and_then(|listing| listing.subnet) {
                    return Ok(subnet);
                }
                tracing::warn!(
                    "the cluster has no subnet to give; remove nodes that are gone, with `wharf node rm`"
                );
            }
            Ok(None) => return Err(Ended::Closed),
            Err(status) => return Err(Ended::Status(status)),
        }
    }
}
