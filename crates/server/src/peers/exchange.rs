//! What is said in an exchange, at either end of it, and who has one open to this server.
//!
//! A server speaks to another over a connection that it opens itself, to where the state says that the other is. One that
//! lags behind does not know of everybody who speaks to it, or knows of somebody where it was before it moved. What it has
//! to say to such a one goes back over the exchange that this one opened. So nobody is ever dialled for what he said: who
//! speaks, his certificate proves; and what goes back to him ends with his connection.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use consensus::{MemberId, PeerMessage, PeerMessageKind};
use futures_util::FutureExt as _;
use model::Level;
use proto::v1;
use tokio::{sync::mpsc, task::yield_now};
use tonic::{Status, Streaming};

use super::{PeerEvent, Tell};
use crate::control::refuse::stopped;

/// Messages that wait for one peer. A leader has at most 256 appends under way to a peer, and each may be answered.
pub(super) const QUEUE: usize = 1_024;
/// Messages are sent together as far as they wait, up to so many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// So many messages are told at once, or those of one batch more.
const TOGETHER: usize = 256;

#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) own: MemberId,
    /// As the connection proves.
    pub(super) peer: MemberId,
}

impl Ends {
    /// Whether it is from whom the connection proves, and meant for this server.
    pub(super) fn check(self, from: MemberId, to: MemberId) -> Result<(), Status> {
        let Ends { own, peer } = self;
        if peer != from {
            let message = format!("member {peer} sent a message that says it is from member {from}");
            return Err(Status::permission_denied(message));
        }
        if to != own {
            return Err(Status::failed_precondition(format!(
                "a message for member {to} came to member {own}: it has another data folder now"
            )));
        }
        Ok(())
    }

    /// Tells what the peer said, which was checked, and what has arrived from it since: they share a write to the disk.
    pub(super) async fn hand_on(
        self,
        tell: &Tell,
        batch: v1::PeerBatch,
        more: &mut Streaming<v1::PeerBatch>,
    ) -> Result<(), Status> {
        let mut events: Vec<_> = self.events(batch).collect();
        yield_now().await;
        while events.len() < TOGETHER
            && let Some(Ok(Some(batch))) = more.message().now_or_never()
        {
            self.check(batch.from, batch.to)?;
            events.extend(self.events(batch));
        }
        tell(events).map_err(stopped)
    }

    fn events(self, batch: v1::PeerBatch) -> impl Iterator<Item = PeerEvent> {
        let level = Level::said(batch.level);
        batch.messages.into_iter().filter_map(move |message| {
            let kind = match message.kind() {
                v1::PeerMessageKind::Raft => PeerMessageKind::Ordinary,
                v1::PeerMessageKind::Asks => PeerMessageKind::Asks,
                v1::PeerMessageKind::Removed => PeerMessageKind::Removed,
                // Of a newer version; losing a message is allowed.
                v1::PeerMessageKind::Unspecified => return None,
            };
            let message = PeerMessage { from: self.peer, to: self.own, kind, bytes: message.raft };
            Some(PeerEvent::Received(message, Some(level)))
        })
    }

    /// Everything that waits, up to a bound; none when the queue was dropped.
    pub(super) async fn next_batch(
        self,
        first: Option<v1::PeerMessage>,
        queued: &mut mpsc::Receiver<v1::PeerMessage>,
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
        let Ends { own: from, peer: to } = self;
        Some(v1::PeerBatch { from, to, messages, level: Level::NEWEST.0, hears_answers: true })
    }
}

/// None of a snapshot, which has a stream of its own.
pub(super) fn in_words(message: PeerMessage) -> Option<v1::PeerMessage> {
    let kind = match message.kind {
        PeerMessageKind::Snapshot => return None,
        PeerMessageKind::Ordinary => v1::PeerMessageKind::Raft,
        PeerMessageKind::Asks => v1::PeerMessageKind::Asks,
        PeerMessageKind::Removed => v1::PeerMessageKind::Removed,
    };
    Some(v1::PeerMessage { kind: kind.into(), raft: message.bytes })
}

/// The exchanges that other servers have opened: one of each, the newest.
#[derive(Clone, Debug, Default)]
pub struct Exchanges(Arc<Mutex<BTreeMap<MemberId, WayBack>>>);

/// To whoever opened an exchange.
#[derive(Debug)]
struct WayBack {
    queue: mpsc::Sender<v1::PeerMessage>,
    /// A build that does not takes the first word for the end of the exchange.
    is_heard: bool,
}

impl Exchanges {
    /// One that the same peer opened before loses its queue, by which it ends.
    pub(super) fn begin(&self, peer: MemberId, queue: mpsc::Sender<v1::PeerMessage>, is_heard: bool) {
        self.open().insert(peer, WayBack { queue, is_heard });
    }

    /// Says whether it was the newest of this peer.
    pub(super) fn end(&self, peer: MemberId, queue: &mpsc::WeakSender<v1::PeerMessage>) -> bool {
        let mut open = self.open();
        let newest = open.get(&peer).map(|way| &way.queue);
        let is_newest =
            newest.zip(queue.upgrade()).is_some_and(|(newest, queue)| newest.same_channel(&queue));
        if is_newest {
            open.remove(&peer);
        }
        is_newest
    }

    /// Whether there is a way back, and room on it.
    pub(super) fn answer(&self, message: PeerMessage) -> bool {
        let open = self.open();
        let Some(way) = open.get(&message.to).filter(|way| way.is_heard) else { return false };
        in_words(message).is_some_and(|message| way.queue.try_send(message).is_ok())
    }

    /// Whole, also after a panic: each change is one call of the map.
    fn open(&self) -> MutexGuard<'_, BTreeMap<MemberId, WayBack>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
