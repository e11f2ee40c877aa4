//! The gRPC service that peers call: hands their messages to the manager, and puts snapshots together.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use consensus::{MemberId, PeerMessage, PeerMessageKind};
use proto::v1;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Listens, PeerEvent, Tell,
    exchange::{Ends, Exchanges, QUEUE},
};
use crate::{caller::Caller, control::refuse::stopped};

/// The largest snapshot that is put together in memory, in bytes.
const LARGEST_SNAPSHOT: u64 = 4 << 30;
/// A transfer that nobody went on with for so long is forgotten.
const ABANDONED: Duration = Duration::from_secs(60);

/// To whoever opened an exchange: what is sent to him, and why it ends.
type Back = mpsc::Sender<Result<v1::PeerBatch, Status>>;

#[derive(Clone)]
pub struct Incoming {
    own: MemberId,
    tell: Tell,
    listens: Listens,
    exchanges: Exchanges,
    /// At most one per peer: consensus sends one snapshot at a time.
    transfers: Arc<Mutex<HashMap<MemberId, Transfer>>>,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("own", &self.own).finish_non_exhaustive()
    }
}

/// What has arrived of a snapshot.
#[derive(Debug)]
struct Transfer {
    digest: Bytes,
    length: u64,
    arrived: Vec<u8>,
    touched: Instant,
}

impl Incoming {
    pub fn new(own: MemberId, tell: Tell, listens: Listens, exchanges: Exchanges) -> Incoming {
        Incoming { own, tell, listens, exchanges, transfers: Arc::default() }
    }

    /// Of whoever calls.
    fn ends(&self, extensions: &tonic::Extensions) -> Result<Ends, Status> {
        Ok(Ends { own: self.own, peer: Caller::of(extensions).member()? })
    }

    /// Hears a peer, and answers where there is no other way to it, until either has enough.
    async fn converse(self, ends: Ends, batches: Streaming<v1::PeerBatch>, back: Back) {
        let (queue, mut queued) = mpsc::channel(QUEUE);
        let opened = queue.downgrade();
        let answer = async {
            while let Some(batch) = ends.next_batch(None, &mut queued).await
                && back.send(Ok(batch)).await.is_ok()
            {}
        };
        let heard = tokio::select! {
            heard = self.hear(ends, batches, queue) => heard,
            () = answer => Ok(()),
        };
        if self.exchanges.end(ends.peer, &opened) {
            // Nobody needs to know once the server stops.
            let _ = (self.tell)(vec![PeerEvent::Ended(ends.peer)]);
        }
        if let Err(status) = heard {
            let _ = back.send(Err(status)).await;
        }
    }

    async fn hear(
        &self,
        ends: Ends,
        mut batches: Streaming<v1::PeerBatch>,
        queue: mpsc::Sender<v1::PeerMessage>,
    ) -> Result<(), Status> {
        let mut queue = Some(queue);
        while let Some(batch) = batches.message().await? {
            ends.check(batch.from, batch.to)?;
            if let Some(queue) = queue.take() {
                self.exchanges.begin(ends.peer, queue, batch.hears_answers);
            }
            ends.hand_on(&self.tell, batch, &mut batches).await?;
        }
        Ok(())
    }

    /// A panic while holding the lock leaves at worst a transfer that its digest refuses.
    fn transfers(&self) -> MutexGuard<'_, HashMap<MemberId, Transfer>> {
        let mut transfers = self.transfers.lock().unwrap_or_else(PoisonError::into_inner);
        transfers.retain(|_, transfer| transfer.touched.elapsed() < ABANDONED);
        transfers
    }

    fn progress(&self, wanted: &v1::SnapshotTransfer) -> u64 {
        let transfers = self.transfers();
        let known = transfers.get(&wanted.from).filter(|transfer| transfer.is(wanted));
        known.map_or(0, |transfer| transfer.arrived.len() as u64)
    }

    /// Adds a piece; returns the whole message once it is there.
    fn add(&self, wanted: &v1::SnapshotTransfer, piece: &v1::SnapshotPiece) -> Result<Option<Bytes>, Status> {
        let mut transfers = self.transfers();
        let transfer = transfers.entry(wanted.from).or_insert_with(|| Transfer::begin(wanted));
        if !transfer.is(wanted) {
            *transfer = Transfer::begin(wanted);
        }
        transfer.add(piece)?;
        if transfer.arrived.len() as u64 != wanted.length {
            return Ok(None);
        }
        let Some(whole) = transfers.remove(&wanted.from) else { return Ok(None) };
        if Sha256::digest(&whole.arrived).as_slice() != wanted.digest.as_ref() {
            return Err(Status::data_loss("the snapshot that arrived is not the one that was announced"));
        }
        Ok(Some(whole.arrived.into()))
    }
}

impl Transfer {
    /// Room is made as pieces come, not for what a peer announces.
    fn begin(wanted: &v1::SnapshotTransfer) -> Transfer {
        Transfer {
            digest: wanted.digest.clone(),
            length: wanted.length,
            arrived: Vec::new(),
            touched: Instant::now(),
        }
    }

    fn is(&self, wanted: &v1::SnapshotTransfer) -> bool {
        self.digest == wanted.digest && self.length == wanted.length
    }

    fn add(&mut self, piece: &v1::SnapshotPiece) -> Result<(), Status> {
        let have = self.arrived.len() as u64;
        if piece.offset != have || have + piece.data.len() as u64 > self.length {
            let (offset, bytes, length) = (piece.offset, piece.data.len(), self.length);
            return Err(Status::invalid_argument(format!(
                "{bytes} bytes at {offset} do not follow the {have} of {length} that are here"
            )));
        }
        self.arrived.extend_from_slice(&piece.data);
        self.touched = Instant::now();
        Ok(())
    }
}

#[tonic::async_trait]
impl v1::peers_server::Peers for Incoming {
    type ExchangeStream = ReceiverStream<Result<v1::PeerBatch, Status>>;

    async fn exchange(
        &self,
        request: Request<Streaming<v1::PeerBatch>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let ends = self.ends(request.extensions())?;
        let (back, answers) = mpsc::channel(1);
        tokio::spawn(self.clone().converse(ends, request.into_inner(), back));
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn send_snapshot(
        &self,
        request: Request<Streaming<v1::SnapshotPiece>>,
    ) -> Result<Response<v1::SnapshotProgress>, Status> {
        let ends = self.ends(request.extensions())?;
        // What it brings would be in memory before the manager could look at whose it is.
        (self.listens)(ends.peer)?;
        let mut pieces = request.into_inner();
        let mut wanted = None;
        while let Some(mut piece) = pieces.message().await? {
            let transfer = piece.transfer.take();
            let wanted = wanted.get_or_insert(transfer.unwrap_or_default());
            ends.check(wanted.from, wanted.to)?;
            if wanted.length > LARGEST_SNAPSHOT {
                let length = wanted.length;
                let message =
                    format!("a snapshot of {length} bytes is larger than {LARGEST_SNAPSHOT}, the largest");
                return Err(Status::out_of_range(message));
            }
            if let Some(whole) = self.add(wanted, &piece)? {
                let Ends { own: to, peer: from } = ends;
                let message = PeerMessage { from, to, kind: PeerMessageKind::Snapshot, bytes: whole };
                (self.tell)(vec![PeerEvent::Received(message, None)]).map_err(stopped)?;
                return Ok(Response::new(v1::SnapshotProgress { arrived: wanted.length }));
            }
        }
        let arrived = wanted.map_or(0, |wanted| self.progress(&wanted));
        Ok(Response::new(v1::SnapshotProgress { arrived }))
    }

    async fn get_snapshot_progress(
        &self,
        request: Request<v1::SnapshotTransfer>,
    ) -> Result<Response<v1::SnapshotProgress>, Status> {
        let ends = self.ends(request.extensions())?;
        (self.listens)(ends.peer)?;
        let wanted = request.into_inner();
        ends.check(wanted.from, wanted.to)?;
        Ok(Response::new(v1::SnapshotProgress { arrived: self.progress(&wanted) }))
    }
}
