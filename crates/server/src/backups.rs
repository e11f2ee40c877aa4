//! A backup on its way to whoever asked: the state of one moment, in parts.

use std::pin::Pin;

use bytes::Bytes;
use manager::Codec as _;
use model::ClusterId;
use proto::v1::{self, backup_part::Part};
use tokio_stream::Stream;
use tonic::Status;

use crate::{brain::Brain, codec::WireCodec, control::refuse::unread};

/// As large as messages like to be.
const PART_BYTES: usize = 256 << 10;

pub(crate) type Parts = Pin<Box<dyn Stream<Item = Result<v1::BackupPart, Status>> + Send>>;

/// The state is a clone that nobody changes, so the cluster goes on meanwhile.
pub(crate) async fn backup(brain: &Brain, cluster: ClusterId) -> Result<Parts, Status> {
    let state = brain.read().await.map_err(unread)?.state;
    let begin = v1::BackupBegin { cluster: cluster.0, version: state.version().0 };
    let encoded = tokio::task::spawn_blocking(move || WireCodec.encode_snapshot(&state)).await;
    let data = Bytes::from(encoded.map_err(|error| Status::internal(error.to_string()))?);
    let end = v1::BackupEnd { length: data.len() as u64 };
    let parts = (0..data.len())
        .step_by(PART_BYTES)
        .map(move |start| Part::Data(data.slice(start..data.len().min(start + PART_BYTES))));
    let parts = std::iter::once(Part::Begin(begin)).chain(parts).chain(std::iter::once(Part::End(end)));
    Ok(Box::pin(tokio_stream::iter(parts.map(|part| Ok(v1::BackupPart { part: Some(part) })))))
}
