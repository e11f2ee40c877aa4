//! The link to one peer: two tasks, one for messages and one for snapshots, each with a queue of its own, so that a
//! snapshot of many seconds does not hold up heartbeats.

use std::time::Duration;

use bytes::Bytes;
use consensus::{Delivery, MemberId, PeerMessage, PeerMessageKind};
use dial::{DialError, dial};
use model::Level;
use proto::v1::{self, peers_client::PeersClient};
use tokio::{runtime::Handle, sync::mpsc, task::AbortHandle, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{FindWay, PATIENCE, PeerEvent, Tell, snapshot};
use crate::chain::chain;

/// Messages that wait for one peer. A leader has at most 256 appends under way to a peer, and each may be answered.
const QUEUE: usize = 1_024;
/// Messages are sent together as far as they wait, up to so many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// Waits between attempts to connect.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) own: MemberId,
    pub(super) peer: MemberId,
}

/// Dropping it ends its tasks.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) address: String,
    messages: mpsc::Sender<v1::PeerMessage>,
    snapshots: mpsc::Sender<Bytes>,
    tasks: [AbortHandle; 2],
}

impl Link {
    pub(super) fn open(runtime: &Handle, ends: Ends, address: String, find_way: FindWay, tell: Tell) -> Link {
        let (messages, queued) = mpsc::channel(QUEUE);
        // Consensus sends no other snapshot to a peer before it knows how the last one ended.
        let (snapshots, queued_snapshots) = mpsc::channel(1);
        let messenger = Messenger {
            ends,
            address: address.clone(),
            find_way: find_way.clone(),
            tell: tell.clone(),
            queued,
        };
        let courier = Courier { ends, address: address.clone(), find_way, tell, queued: queued_snapshots };
        let tasks =
            [runtime.spawn(messenger.run()).abort_handle(), runtime.spawn(courier.run()).abort_handle()];
        Link { address, messages, snapshots, tasks }
    }

    /// Whether there was room for it.
    pub(super) fn take(&self, message: PeerMessage) -> bool {
        let kind = match message.kind {
            PeerMessageKind::Snapshot => return self.snapshots.try_send(message.bytes).is_ok(),
            PeerMessageKind::Ordinary => v1::PeerMessageKind::Raft,
            PeerMessageKind::Asks => v1::PeerMessageKind::Asks,
            PeerMessageKind::Removed => v1::PeerMessageKind::Removed,
        };
        self.messages.try_send(v1::PeerMessage { kind: kind.into(), raft: message.bytes }).is_ok()
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
}

impl Messenger {
    /// Until the link is dropped. Connects when there is something to say: a member that was removed is only answered.
    async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        let mut said = false;
        while let Some(first) = self.queued.recv().await {
            let mut connected = false;
            let Err(broken) = self.exchange(first, &mut connected).await else { return };
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
        let _ = (self.tell)(PeerEvent::Unreachable(self.ends.peer));
    }

    /// Sends what is queued until the connection breaks, or the link is dropped.
    async fn exchange(&mut self, first: v1::PeerMessage, connected: &mut bool) -> Result<(), Broken> {
        let way = (self.find_way)(self.ends.peer, self.address.clone());
        let channel = dial(way, PATIENCE).await?;
        let (batches, outbound) = mpsc::channel(1);
        let mut client = PeersClient::new(channel).max_encoding_message_size(crate::MAX_MESSAGE);
        let answer = client.exchange(ReceiverStream::new(outbound));
        tokio::pin!(answer);
        *connected = true;
        let mut first = Some(first);
        loop {
            let batch = tokio::select! {
                batch = next_batch(first.take(), &mut self.queued, self.ends) => batch,
                ended = &mut answer => return Err(ended.map_or_else(Broken::Refused, |_| Broken::Ended)),
            };
            let Some(batch) = batch else { return Ok(()) };
            tokio::select! {
                sent = batches.send(batch) => sent.map_err(|_| Broken::Ended)?,
                ended = &mut answer => return Err(ended.map_or_else(Broken::Refused, |_| Broken::Ended)),
            }
        }
    }
}

/// Everything that waits, up to a bound; none when the link was dropped.
async fn next_batch(
    first: Option<v1::PeerMessage>,
    queued: &mut mpsc::Receiver<v1::PeerMessage>,
    ends: Ends,
) -> Option<v1::PeerBatch> {
    let first = match first {
        Some(first) => first,
        None => queued.recv().await?,
    };
    let mut bytes = first.raft.len();
    let mut messages = vec![first];
    while bytes < BATCH_BYTES
        && let Ok(next) = queued.try_recv()
    {
        bytes += next.raft.len();
        messages.push(next);
    }
    Some(v1::PeerBatch { from: ends.own, to: ends.peer, messages, level: Level::NEWEST.0 })
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
            let _ = (self.tell)(PeerEvent::Snapshot(self.ends.peer, delivery));
        }
    }
}
