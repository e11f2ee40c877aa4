//! A record as bytes. The assignment and what the control plane is told anyway are written in their wire form; what only
//! the agent knows has its own messages here, with numbers that are never used for anything else.

use model::{Assignment, Exit, Timeline, Timestamp};
use prost::Message;
use proto::{DecodeError, v1};

use crate::core::{ContainerRecord, Record, Stage};

/// Grows when an older agent could not read what is written.
const VERSION: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    #[error("it was written by a newer version (format {0})")]
    Newer(u32),
    #[error("it is damaged")]
    Bytes(#[from] prost::DecodeError),
    #[error("what it says is not possible")]
    Content(#[from] DecodeError),
    #[error("{0} is missing or not possible")]
    Field(&'static str),
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(uint32, tag = "1")]
    version: u32,
    /// Of one assignment and its template.
    #[prost(message, optional, tag = "2")]
    assignment: Option<v1::AssignmentSet>,
    #[prost(enumeration = "v1::Phase", tag = "3")]
    phase: i32,
    #[prost(fixed32, optional, tag = "4")]
    address: Option<u32>,
    #[prost(message, optional, tag = "5")]
    timeline: Option<v1::Timeline>,
    #[prost(uint64, optional, tag = "6")]
    ready_since_ms: Option<u64>,
    #[prost(uint64, optional, tag = "7")]
    ending_since_ms: Option<u64>,
    #[prost(bool, tag = "8")]
    dropped: bool,
    #[prost(string, optional, tag = "9")]
    failure: Option<String>,
    #[prost(message, repeated, tag = "10")]
    containers: Vec<ContainerEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerEntry {
    #[prost(uint32, tag = "1")]
    attempt: u32,
    #[prost(uint32, tag = "2")]
    restarts: u32,
    #[prost(uint32, tag = "3")]
    streak: u32,
    #[prost(message, optional, tag = "4")]
    last_exit: Option<v1::Exit>,
    #[prost(oneof = "StageEntry", tags = "5, 6, 7, 8, 9")]
    stage: Option<StageEntry>,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
enum StageEntry {
    #[prost(message, tag = "5")]
    Waiting(Empty),
    #[prost(message, tag = "6")]
    Starting(Empty),
    #[prost(message, tag = "7")]
    Running(Running),
    /// Until, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "8")]
    BackingOff(u64),
    #[prost(message, tag = "9")]
    Ended(Empty),
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Empty {}

#[derive(Clone, Copy, PartialEq, Message)]
struct Running {
    #[prost(uint32, tag = "1")]
    pid: u32,
    #[prost(uint64, tag = "2")]
    since_ms: u64,
    #[prost(bool, tag = "3")]
    warm: bool,
    #[prost(bool, tag = "4")]
    ready: bool,
}

pub(super) fn encode(record: &Record) -> Vec<u8> {
    let ms = |at: Option<Timestamp>| at.map(|at| at.0);
    let entry = Entry {
        version: VERSION,
        assignment: Some(std::slice::from_ref(&record.assignment).into()),
        phase: v1::Phase::from(record.phase).into(),
        address: record.address.map(u32::from),
        timeline: Some((&record.timeline).into()),
        ready_since_ms: ms(record.ready_since),
        ending_since_ms: ms(record.ending_since),
        dropped: record.dropped,
        failure: record.failure.clone(),
        containers: record.containers.iter().map(encode_container).collect(),
    };
    entry.encode_to_vec()
}

fn encode_container(container: &ContainerRecord) -> ContainerEntry {
    let stage = match container.stage {
        Stage::Waiting => StageEntry::Waiting(Empty {}),
        Stage::Starting => StageEntry::Starting(Empty {}),
        Stage::Running { pid, since, warm, ready } => {
            StageEntry::Running(Running { pid, since_ms: since.0, warm, ready })
        }
        Stage::BackingOff { until } => StageEntry::BackingOff(until.0),
        Stage::Ended => StageEntry::Ended(Empty {}),
    };
    ContainerEntry {
        attempt: container.attempt,
        restarts: container.restarts,
        streak: container.streak,
        last_exit: container.last_exit.as_ref().map(Into::into),
        stage: Some(stage),
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Record, EntryError> {
    let entry = Entry::decode(bytes)?;
    if entry.version > VERSION {
        return Err(EntryError::Newer(entry.version));
    }
    let assignments: Vec<Assignment> = entry.assignment.ok_or(EntryError::Field("assignment"))?.try_into()?;
    let [assignment] =
        <[Assignment; 1]>::try_from(assignments).map_err(|_| EntryError::Field("assignment"))?;
    let phase = v1::Phase::try_from(entry.phase).map_err(|_| EntryError::Field("phase"))?;
    let containers: Vec<ContainerRecord> =
        entry.containers.into_iter().map(decode_container).collect::<Result<_, _>>()?;
    if containers.len() != assignment.template.containers().count() {
        return Err(EntryError::Field("containers"));
    }
    Ok(Record {
        phase: phase.try_into().map_err(|_| EntryError::Field("phase"))?,
        address: entry.address.map(Into::into),
        timeline: Timeline::try_from(entry.timeline.ok_or(EntryError::Field("timeline"))?)?,
        ready_since: entry.ready_since_ms.map(Timestamp),
        ending_since: entry.ending_since_ms.map(Timestamp),
        dropped: entry.dropped,
        failure: entry.failure,
        containers,
        assignment,
    })
}

fn decode_container(entry: ContainerEntry) -> Result<ContainerRecord, EntryError> {
    let stage = match entry.stage.ok_or(EntryError::Field("stage"))? {
        StageEntry::Waiting(Empty {}) => Stage::Waiting,
        StageEntry::Starting(Empty {}) => Stage::Starting,
        StageEntry::Running(Running { pid, since_ms, warm, ready }) => {
            Stage::Running { pid, since: Timestamp(since_ms), warm, ready }
        }
        StageEntry::BackingOff(until) => Stage::BackingOff { until: Timestamp(until) },
        StageEntry::Ended(Empty {}) => Stage::Ended,
    };
    Ok(ContainerRecord {
        attempt: entry.attempt,
        restarts: entry.restarts,
        streak: entry.streak,
        last_exit: entry.last_exit.map(Exit::try_from).transpose()?,
        stage,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use model::{
        Bytes, Desired, ExitCause, Millis, Phase, ReplicaId, ReplicaTemplate, RestartPolicy, RevisionNumber,
        ServiceKey, Slot,
    };

    use super::*;
    use crate::compile;

    /// With something in every field.
    pub(in crate::ledger) fn record(id: u64) -> Record {
        let template = ReplicaTemplate {
            main: compile::tests::container("main"),
            sidecars: vec![compile::tests::container("proxy")],
            init: vec![],
            ports: vec![],
            restart: RestartPolicy::default(),
            stop_grace: Millis(10_000),
            on_partition: model::OnPartition::Continue,
            restart_nonce: 0,
        };
        let assignment = Assignment {
            replica: ReplicaId(id),
            service: ServiceKey { namespace: "shop".parse().unwrap(), name: "web".parse().unwrap() },
            slot: Slot::new(3).unwrap(),
            revision: RevisionNumber(2),
            desired: Desired::Running,
            template: Arc::new(template),
        };
        let mut record = Record::new(assignment, Timestamp(5));
        record.phase = Phase::Running;
        record.address = Some([10, 0, 0, 7].into());
        record.ready_since = Some(Timestamp(9));
        record.ending_since = Some(Timestamp(10));
        record.dropped = true;
        record.failure = Some("no luck".into());
        let cause = ExitCause::OutOfMemory { limit: Bytes(1), peak: Bytes(2) };
        record.containers[0] = ContainerRecord {
            attempt: 4,
            restarts: 3,
            streak: 2,
            last_exit: Some(Exit { cause, at: Timestamp(1), ran_for: Millis(2) }),
            stage: Stage::Running { pid: 77, since: Timestamp(8), warm: true, ready: false },
        };
        record.containers[1].stage = Stage::Ended;
        record
    }

    #[test]
    fn a_record_survives_being_written() {
        let record = record(5);
        assert_eq!(decode(&encode(&record)).unwrap(), record);
        for stage in [Stage::Waiting, Stage::Starting, Stage::BackingOff { until: Timestamp(0) }] {
            let mut other = record.clone();
            other.containers[1].stage = stage;
            assert_eq!(decode(&encode(&other)).unwrap(), other);
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let bytes = encode(&record(5));
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        let newer = Entry { version: VERSION + 1, ..Entry::decode(&bytes[..]).unwrap() };
        let refused = decode(&newer.encode_to_vec()).unwrap_err();
        assert!(matches!(refused, EntryError::Newer(2)), "{refused}");
        let fewer = Entry { containers: vec![], ..Entry::decode(&bytes[..]).unwrap() };
        assert!(matches!(decode(&fewer.encode_to_vec()), Err(EntryError::Field("containers"))));
    }
}
