//! What is on disk and what is hashed: the only place that encodes log entries, snapshots and templates.
//!
//! Everything begins with one byte, its format version, and is protobuf after it. All maps are sorted and all fields
//! are written in the order of their numbers, so the same value always has the same bytes.
//!
//! Two kinds of change are possible without a new format version. A field may be added whose absence means what was
//! meant before: older entries keep their meaning, and a template that does not use the field keeps its bytes and so
//! its hash. And a variant may be added to a oneof, or a value to an enum: a server that does not know it refuses the
//! entry with an error instead of guessing. What an older server would overlook and thereby come to another state
//! than its peers needs a new format version, written only once every member knows it. Old versions are read for ever.

use model::{Assignment, Level, NodeId, ReplicaTemplate, Settings, Timestamp, Version};
use prost::Message;
use store::{Command, Objects, State};

use crate::{
    error::{DecodeError, Problem, Within},
    field,
    v1::{self, snapshot_record as record, snapshot_record::Record},
};

/// The newest format that is written and known.
pub const FORMAT: u8 = 1;

pub fn encode_command(command: &Command) -> Vec<u8> {
    versioned(&v1::Command::from(command))
}

pub fn decode_command(bytes: &[u8]) -> Result<Command, DecodeError> {
    v1::Command::decode(body(bytes)?)?.try_into()
}

/// The canonical bytes of a template: what a [`model::RevisionHash`] is the SHA-256 of.
///
/// Equal templates have equal bytes in every version of wharf that writes this format: a field that is added later
/// adds nothing while it is absent or zero.
pub fn encode_template(template: &ReplicaTemplate) -> Vec<u8> {
    versioned(&v1::ReplicaTemplate::from(template))
}

/// Replicas with all that is needed to run them, as an agent keeps them.
pub fn encode_assignments(assignments: &[Assignment]) -> Vec<u8> {
    versioned(&v1::AssignmentSet::from(assignments))
}

pub fn decode_assignments(bytes: &[u8]) -> Result<Vec<Assignment>, DecodeError> {
    v1::AssignmentSet::decode(body(bytes)?)?.try_into()
}

/// One record per object, so that no second copy of the whole state is made on the way to bytes.
pub fn encode_snapshot(state: &State) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    let mut objects = 0;
    let decided_at_unix_ms = state.decided_at().map(|at| at.0);
    push(&mut bytes, Record::Begin(record::Begin { version: state.version().0, decided_at_unix_ms }));
    for object in objects_of(state) {
        push(&mut bytes, object);
        objects += 1;
    }
    push(&mut bytes, Record::End(record::End { objects }));
    bytes
}

pub fn decode_snapshot(bytes: &[u8]) -> Result<State, DecodeError> {
    let mut rest = body(bytes)?;
    let Record::Begin(begin) = pull(&mut rest)? else { return Err(Problem::Missing).within("begin") };
    let decided_at = begin.decided_at_unix_ms.map(Timestamp);
    let mut objects = Objects { decided_at, ..Objects::default() };
    let mut found = 0;
    let end = loop {
        match pull(&mut rest)? {
            Record::End(end) => break end,
            object => add(&mut objects, object).within_element(found).within("objects")?,
        }
        found += 1;
    };
    if !rest.is_empty() {
        return Err(Problem::Overlong.into());
    }
    if end.objects != found as u64 {
        return Err(Problem::Count { found: found as u64, said: end.objects }.into());
    }
    Ok(State::restore(Version(begin.version), objects))
}

fn objects_of(state: &State) -> impl Iterator<Item = Record> {
    let services = state.services().map(|service| Record::Service((&**service).into()));
    let revisions = state.all_revisions().map(|(key, revision)| {
        let (service, revision) = (Some(key.into()), Some((&**revision).into()));
        Record::Revision(record::KeptRevision { service, revision })
    });
    let replicas = state.replicas().map(|replica| Record::Replica((&**replica).into()));
    let nodes = state.nodes().map(|node| Record::Node((&**node).into()));
    let events = state.events().map(|event| Record::Event((&**event).into()));
    let removed = state
        .removed_nodes()
        .map(|(node, at)| Record::RemovedNode(record::RemovedNode { node: node.0, at_unix_ms: at.0 }));
    // What is as it was before there were settings is written as it was then.
    let settings = Some(state.settings()).filter(|settings| **settings != Settings::default());
    let settings = settings.map(|settings| Record::Settings(settings.into()));
    let members = state.members().map(|member| Record::Member((&**member).into()));
    let trust = state.trust().map(|trust| Record::Trust((&**trust).into()));
    let tokens = state.join_tokens().map(|token| Record::JoinToken((&**token).into()));
    let level = Some(state.level()).filter(|level| *level != Level::FIRST);
    let level = level.map(|level| Record::Level(record::LevelInUse { level: level.0 }));
    let access = state.access_tokens().map(|token| Record::AccessToken((&**token).into()));
    let first = services.chain(revisions).chain(replicas).chain(nodes).chain(events);
    first.chain(removed).chain(settings).chain(members).chain(trust).chain(tokens).chain(access).chain(level)
}

fn add(objects: &mut Objects, record: Record) -> Result<(), DecodeError> {
    match record {
        Record::Service(service) => objects.services.push(service.try_into().within("service")?),
        Record::Revision(kept) => {
            let service = field::required(kept.service, "revision.service")?;
            let revision = field::required(kept.revision, "revision.revision")?;
            objects.revisions.push((service, revision));
        }
        Record::Replica(replica) => objects.replicas.push(replica.try_into().within("replica")?),
        Record::Node(node) => objects.nodes.push(node.try_into().within("node")?),
        Record::RemovedNode(removed) => {
            objects.removed_nodes.push((NodeId(removed.node), Timestamp(removed.at_unix_ms)));
        }
        Record::Settings(settings) => objects.settings = settings.try_into()?,
        Record::Event(event) => objects.events.push(event.try_into().within("event")?),
        Record::Member(member) => objects.members.push(member.try_into().within("member")?),
        Record::Trust(trust) => objects.trust = Some(trust.try_into().within("trust")?),
        Record::JoinToken(token) => objects.join_tokens.push(token.try_into().within("join_token")?),
        Record::AccessToken(token) => objects.access_tokens.push(token.try_into().within("access_token")?),
        Record::Level(in_use) => objects.level = field::level(in_use.level)?,
        Record::Begin(_) | Record::End(_) => return Err(Problem::Repeated).within("begin"),
    }
    Ok(())
}

fn versioned(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.push(FORMAT);
    bytes.append(&mut message.encode_to_vec());
    bytes
}

/// What follows the format version, if it is one that is known.
fn body(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    match bytes.split_first() {
        None => Err(Problem::Empty.into()),
        Some((0, _)) => Err(Problem::NoFormat(0).into()),
        Some((&found, _)) if found > FORMAT => Err(Problem::NewerFormat { found, known: FORMAT }.into()),
        Some((_, body)) => Ok(body),
    }
}

fn push(bytes: &mut Vec<u8>, record: Record) {
    let record = v1::SnapshotRecord { record: Some(record) };
    bytes.append(&mut record.encode_length_delimited_to_vec());
}

fn pull(rest: &mut &[u8]) -> Result<Record, DecodeError> {
    if rest.is_empty() {
        return Err(Problem::Cut.into());
    }
    let record = v1::SnapshotRecord::decode_length_delimited(&mut *rest)?;
    field::kind(record.record, "record")
}
