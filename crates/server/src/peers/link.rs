//! The link to one peer: two tasks, one for messages and one for snapshots, each with a queue of its own, so that a
//! snapshot of many seconds does not hold up heartbeats. What a peer answers that has no link here comes back over it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use consensus::{Delivery, PeerMessage, PeerMessageKind};
use dial::{DialError, dial};
use futures_util::FutureExt as _;
use proto::v1::{self, peers_client::PeersClient};
use tokio::{runtime::Handle, sync::mpsc, task::AbortHandle, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use super::{
    FindWay, PATIENCE, PeerEvent, Tell,
    exchange::{Ends, QUEUE, in_words},
    snapshot,
};
use crate::chain::chain;

/// Waits between attempts to connect.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(1);

/// Dropping it ends its tasks.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) address: String,
    messages: mpsc::Sender<v1::PeerMessage>,
    snapshots: mpsc::Sender<Bytes>,
    stands: Arc<AtomicBool>,
    tasks: [AbortHandle; 2],
}

impl Link {
    pub(super) fn open(runtime: &Handle, ends: Ends, address: String, find_way: FindWay, tell: Tell) -> Link {
        let (messages, queued) = mpsc::channel(QUEUE);
        // Consensus sends no other snapshot to a peer before it knows how the last one ended.
        let (snapshots, queued_snapshots) = mpsc::channel(1);
        let stands = Arc::new(AtomicBool::new(false));
        let messenger = Messenger {
            ends,
            address: address.clone(),
            find_way: find_way.clone(),
            tell: tell.clone(),
            queued,
            stands: stands.clone(),
        };
        let courier = Courier { ends, address: address.clone(), find_way, tell, queued: queued_snapshots };
        let tasks =
            [runtime.spawn(messenger.run()).abort_handle(), runtime.spawn(courier.run()).abort_handle()];
        Link { address, messages, snapshots, stands, tasks }
    }

    /// Whether there was room for it.
    pub(super) fn take(&self, message: PeerMessage) -> bool {
        if message.kind == PeerMessageKind::Snapshot {
            return self.snapshots.try_send(message.bytes).is_ok();
        }
        in_words(message).is_some_and(|message| self.messages.try_send(message).is_ok())
    }

    /// Whether what it takes is on its way to the peer, as far as can be known.
    pub(super) fn stands(&self) -> bool {
        self.stands.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the peer ended the exchange: {}", .0.message())]
    Refused(Status),
    #[error("the peer ended the exchange")]
    Ended,
}

/// Sends ordinary messages.
struct Messenger {
    ends: Ends,
    address: String,
    find_way: FindWay,
    tell: Tell,
    queued: mpsc::Receiver<v1::PeerMessage>,
    /// There is a connection.
    stands: Arc<AtomicBool>,
}

impl Messenger {
    /// Until the link is dropped. Connects when there is something to say: a member that was removed is only answered.
    async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        let mut said = false;
        while let Some(first) = self.queued.recv().await {
            let Err(broken) = self.exchange(first).await else { return };
            let connected = self.stands.swap(false, Ordering::Relaxed);
            // Once per outage: a peer may be away for days.
            if connected || !said {
                said = true;
                let (peer, error) = (self.ends.peer, chain(&broken));
                tracing::warn!(peer, address = self.address, error, "a peer cannot be reached");
            }
            if connected {
                retry = FIRST_RETRY;
            }
            self.drop_waiting();
            sleep(retry).await;
            retry = (retry * 2).min(LONGEST_RETRY);
        }
    }

    /// What waited is late by now, and consensus makes it again.
    fn drop_waiting(&mut self) {
        while self.queued.try_recv().is_ok() {}
        // Once nobody listens, this link is about to be dropped.
        let _ = (self.tell)(vec![PeerEvent::Unreachable(self.ends.peer)]);
    }

    /// Sends what is queued, and hears what comes back, until the connection breaks or the link is dropped.
    async fn exchange(&mut self, first: v1::PeerMessage) -> Result<(), Broken> {
        let way = (self.find_way)(self.ends.peer, self.address.clone());
        let channel = dial(way, PATIENCE).await?;
        let (batches, outbound) = mpsc::channel(1);
        let client = PeersClient::new(channel).max_encoding_message_size(crate::MAX_MESSAGE);
        let client = client.max_decoding_message_size(crate::MAX_MESSAGE);
        let heard = hear(client, outbound, self.ends, self.tell.clone());
        let ended = heard.map(|heard| heard.map_or_else(Broken::Refused, |()| Broken::Ended));
        tokio::pin!(ended);
        self.stands.store(true, Ordering::Relaxed);
        let mut first = Some(first);
        loop {
            let batch = tokio::select! {
                batch = self.ends.next_batch(first.take(), &mut self.queued) => batch,
                broken = &mut ended => return Err(broken),
            };
            let Some(batch) = batch else { return Ok(()) };
            tokio::select! {
                sent = batches.send(batch) => sent.map_err(|_| Broken::Ended)?,
                broken = &mut ended => return Err(broken),
            }
        }
    }
}

/// Until the peer ends the exchange. An older build says nothing before that, not even that it takes it.
async fn hear(
    mut client: PeersClient<Channel>,
    outbound: mpsc::Receiver<v1::PeerBatch>,
    ends: Ends,
    tell: Tell,
) -> Result<(), Status> {
    let mut answers = client.exchange(ReceiverStream::new(outbound)).await?.into_inner();
    while let Some(batch) = answers.message().await? {
        ends.check(batch.from, batch.to)?;
        ends.hand_on(&tell, batch, &mut answers).await?;
    }
    Ok(())
}

/// Sends snapshots, one after the other.
struct Courier {
    ends: Ends,
    address: String,
    find_way: FindWay,
    tell: Tell,
    queued: mpsc::Receiver<Bytes>,
}

impl Courier {
    async fn run(mut self) {
        while let Some(message) = self.queued.recv().await {
            let find_way = || (self.find_way)(self.ends.peer, self.address.clone());
            let delivery = match snapshot::deliver(self.ends, &message, find_way).await {
                Ok(()) => Delivery::Arrived,
                Err(error) => {
                    let (peer, error) = (self.ends.peer, chain(&error));
                    tracing::warn!(peer, error, "a snapshot did not arrive at a peer");
                    Delivery::Failed
                }
            };
            let _ = (self.tell)(vec![PeerEvent::Snapshot(self.ends.peer, delivery)]);
        }
    }
}
