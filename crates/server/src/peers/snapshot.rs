//! A snapshot on its way to a peer: cut into pieces, and gone on with where it was cut off.

use std::time::Duration;

use bytes::Bytes;
use dial::{DialError, Way, dial};
use proto::v1::{self, peers_client::PeersClient};
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;
use tonic::Status;

use super::{PATIENCE, exchange::Ends};

/// Small enough that a heartbeat does not wait long behind one on a slow line.
pub(super) const PIECE: usize = 256 << 10;
/// So many attempts in a row may bring nothing forward before consensus is told that it failed.
const FRUITLESS_ATTEMPTS: u32 = 5;
const RETRY: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
pub(super) enum DeliveryError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("after {arrived} of {length} bytes: {}", status.message())]
    Cut { arrived: u64, length: u64, status: Status },
}

/// Returns once the peer has the whole message, or several attempts in a row brought it nothing.
pub(super) async fn deliver(
    ends: Ends,
    message: &Bytes,
    find_way: impl Fn() -> Way,
) -> Result<(), DeliveryError> {
    let transfer = v1::SnapshotTransfer {
        from: ends.own,
        to: ends.peer,
        digest: Sha256::digest(message).to_vec().into(),
        length: message.len() as u64,
    };
    let (mut furthest, mut fruitless) = (0, 0);
    loop {
        let mut arrived = furthest;
        let error = match attempt(&transfer, message, &mut arrived, find_way()).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        fruitless = if arrived > furthest { 0 } else { fruitless + 1 };
        furthest = furthest.max(arrived);
        if fruitless == FRUITLESS_ATTEMPTS {
            return Err(error);
        }
        sleep(RETRY).await;
    }
}

async fn attempt(
    transfer: &v1::SnapshotTransfer,
    message: &Bytes,
    arrived: &mut u64,
    way: Way,
) -> Result<(), DeliveryError> {
    let mut client = PeersClient::new(dial(way, PATIENCE).await?);
    let length = transfer.length;
    let cut = |status, arrived| DeliveryError::Cut { arrived, length, status };
    let progress = client.get_snapshot_progress(transfer.clone()).await;
    *arrived = progress.map_err(|status| cut(status, *arrived))?.into_inner().arrived.min(length);
    let pieces = tokio_stream::iter(pieces(transfer, message, *arrived));
    let progress = client.send_snapshot(pieces).await.map_err(|status| cut(status, *arrived))?.into_inner();
    *arrived = progress.arrived;
    if *arrived == length {
        return Ok(());
    }
    Err(cut(Status::data_loss("the peer has not all of it"), *arrived))
}

/// At least one, also of an empty rest: the first tells what is transferred.
fn pieces(transfer: &v1::SnapshotTransfer, message: &Bytes, from: u64) -> Vec<v1::SnapshotPiece> {
    let rest = message.slice(from as usize..);
    let starts = (0..rest.len().max(1)).step_by(PIECE);
    let piece = |start: usize| v1::SnapshotPiece {
        transfer: (start == 0).then(|| transfer.clone()),
        offset: from + start as u64,
        data: rest.slice(start..rest.len().min(start + PIECE)),
    };
    starts.map(piece).collect()
}
