//! Everything that can happen to a manager, and everything it can ask of its shell.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use consensus::{Delivery, MemberId, PeerMessage, Persist, Snapshot, SnapshotMeta};
use model::{
    Digest, DirectoryNews, Dispatch, Generation, Heard, Level, Millis, Name, NodeId, NodeInfo, Observed,
    RevisionNumber, Service, ServiceKey, ServiceSpec, Timestamp, Usage, Version,
};
use store::{Outcome, Rejected, State, TrustChange};

use crate::{
    View,
    members::{MemberError, MemberRequest},
};

/// Numbers requests, reads and sessions. Chosen by the shell, never used twice by one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

#[derive(Debug)]
pub enum Event {
    /// Time for consensus to count; at a steady pace.
    Tick,
    Request {
        id: RequestId,
        request: Request,
    },
    /// Somebody wants other servers in the cluster, or another leader.
    Members {
        id: RequestId,
        request: MemberRequest,
    },
    /// Somebody wants to read what was written before now. Answered once a leader confirms how far that is; without
    /// one, when there is one again.
    Read {
        id: ReadId,
    },
    SessionOpened {
        session: SessionId,
        hello: Hello,
    },
    /// A session of an agent that has no subnet: it ends when the agent has one.
    NodeIntroduced {
        session: SessionId,
        info: NodeInfo,
    },
    SessionReport {
        session: SessionId,
        report: Report,
    },
    /// The agent is there. Answered with [`Effect::Heard`] if this server leads.
    SessionHeartbeat {
        session: SessionId,
        number: u64,
        /// Of the host, if the agent knows.
        usage: Option<Usage>,
    },
    /// The agent balances and routes by the directory of this version.
    SessionInForce {
        session: SessionId,
        version: u64,
    },
    SessionClosed {
        session: SessionId,
    },
    /// `level` is what its sender's build knows, where it said so.
    Peer {
        message: PeerMessage,
        level: Option<Level>,
    },
    /// The connection over which a peer spoke has ended: it may be another build when it speaks again.
    PeerEnded {
        peer: MemberId,
    },
    /// Messages to this server cannot be sent now. Without this word consensus goes on sending in the dark.
    Unreachable {
        peer: MemberId,
    },
    /// How a message of the kind `Snapshot` fared. Without this word the peer stays behind.
    SnapshotSent {
        peer: MemberId,
        delivery: Delivery,
    },
    /// The write with this number, and all before it, are durable.
    Persisted {
        number: u64,
    },
    /// An `Effect::Snapshot` is durable.
    SnapshotWritten(Snapshot),
}

#[derive(Debug)]
pub enum Effect {
    /// Make durable, in the order given, then say `Event::Persisted`.
    Persist(Persist),
    Send(Vec<PeerMessage>),
    Reply {
        id: RequestId,
        result: Result<Reply, RequestError>,
    },
    MembersReply {
        id: RequestId,
        result: Result<(), MemberError>,
    },
    /// The view holds everything written before the read was asked for.
    ReadReady {
        id: ReadId,
        view: View,
    },
    /// Tell an agent.
    Dispatch {
        session: SessionId,
        dispatch: Dispatch,
    },
    /// Tell an agent what changed in the directory.
    Directory {
        session: SessionId,
        news: Arc<DirectoryNews>,
    },
    /// Tell an agent that the leader heard it.
    Heard {
        session: SessionId,
        heard: Heard,
    },
    CloseSession {
        session: SessionId,
        reason: String,
    },
    /// Encode the state and write it down, then say `Event::SnapshotWritten`. May take its time.
    Snapshot {
        meta: SnapshotMeta,
        state: State,
    },
    /// What readers and watchers see from now on. The first effect of its step, so that whoever is answered finds what
    /// was answered.
    Publish(View),
    /// This server is no member any more, and stops: it has no part in anything that follows. The only effect of its step,
    /// and of every later one.
    Removed {
        reason: String,
    },
    /// This server cannot go on: its disk says what it cannot read. The only effect of its step, and of every later one.
    Fatal {
        reason: String,
    },
}

/// What a user or CI asks for.
#[derive(Clone, Debug)]
pub enum Request {
    /// All or none; with `dry_run` none, but the answer is the same.
    Apply {
        declarations: Vec<Declaration>,
        dry_run: bool,
    },
    Delete {
        services: Vec<ServiceKey>,
    },
    Scale {
        service: ServiceKey,
        replicas: u32,
    },
    /// Back to a kept revision; without a number to the newest stable one that is not wanted now.
    Undo {
        service: ServiceKey,
        to: Option<RevisionNumber>,
    },
    /// What runs, as a new revision. After a rollback that is not the template that failed.
    Restart {
        service: ServiceKey,
    },
    Node {
        node: NodeId,
        asked: NodeRequest,
    },
    /// How long a node may be silent before it is lost.
    Configure {
        node_lost_after: Millis,
    },
    Trust(TrustChange),
}

/// What a user can ask of a node.
#[derive(Clone, Debug)]
pub enum NodeRequest {
    Cordon {
        reason: Option<String>,
    },
    Uncordon,
    /// Cordons it too. What still runs when the span is over stops all the same.
    Drain {
        within: Option<Millis>,
        reason: Option<String>,
    },
    Label {
        set: BTreeMap<String, String>,
        unset: BTreeSet<String>,
    },
    Remove {
        force: bool,
    },
}

/// A service as a manifest declares it; images need no digest yet.
#[derive(Clone, Debug)]
pub struct Declaration {
    pub service: ServiceKey,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub spec: ServiceSpec,
    pub expects: Option<Version>,
}

#[derive(Clone, Debug)]
pub struct Reply {
    /// In the order of what was asked.
    pub applied: Vec<Applied>,
}

#[derive(Clone, Debug)]
pub struct Applied {
    pub service: ServiceKey,
    pub outcome: Outcome,
    pub generation: Generation,
    /// As it was before, for showing what changes.
    pub previous: Option<Arc<Service>>,
    /// As it is now; none once deleted.
    pub current: Option<Arc<Service>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("this server does not lead the cluster")]
    NotLeader { leader: Option<u64> },
    #[error("{}", list(.0))]
    Rejected(Vec<Rejected>),
    #[error("{}", list(.0))]
    Images(Vec<ImageError>),
    #[error("no node is ready yet, so image {reference:?} cannot be looked up; try again shortly")]
    NoNodes { reference: String },
    #[error(
        "no node has joined the cluster yet, so nothing can run: let hosts join with `wharf join`, and start \
         `wharf agent` on them"
    )]
    NoneJoined,
    #[error(
        "node {node} has not been heard since another server leads, so it is not known whether it has another image \
         {reference:?}; try again shortly"
    )]
    NodeNotHeard { reference: String, node: NodeId },
    #[error("service {service} has no stable revision to go back to")]
    NothingToUndo { service: ServiceKey },
    #[error(
        "leadership changed while this was being written; whether it was is not known: look, then try again"
    )]
    LeadershipLost,
    #[error(
        "service {service} takes {bytes} bytes to write, and at most {max} are possible; declare less in it"
    )]
    ServiceTooLarge { service: ServiceKey, bytes: u64, max: u64 },
    #[error(
        "this is {bytes} bytes, and at most {max} can be written at once; apply fewer services at a time"
    )]
    TooLarge { bytes: u64, max: u64 },
    #[error(
        "the server cannot write now: {reason}; running services are not affected, and reads are answered"
    )]
    CannotWrite { reason: String },
    #[error(
        "the server cannot write now: {reason}; this was taken before that was known, and is written as soon as \
         it can be: look before you try again"
    )]
    WritesLater { reason: String },
    #[error("too much is being written; try again shortly")]
    Overloaded,
    #[error(
        "this needs every server to know {needs}, and {in_use} is in use: {}", upgrade(.older, .away)
    )]
    NeedsLevel {
        needs: Level,
        in_use: Level,
        older: Vec<String>,
        /// What these know is not known now.
        away: Vec<String>,
    },
}

impl RequestError {
    /// Whether this says what the state is, so that another leader could say otherwise.
    pub(crate) fn is_of_the_state(&self) -> bool {
        match self {
            RequestError::Rejected(_)
            | RequestError::Images(_)
            | RequestError::NoneJoined
            | RequestError::NothingToUndo { .. } => true,
            RequestError::NotLeader { .. }
            | RequestError::NoNodes { .. }
            | RequestError::NodeNotHeard { .. }
            | RequestError::LeadershipLost
            | RequestError::ServiceTooLarge { .. }
            | RequestError::TooLarge { .. }
            | RequestError::CannotWrite { .. }
            | RequestError::WritesLater { .. }
            | RequestError::NeedsLevel { .. }
            | RequestError::Overloaded => false,
        }
    }
}

/// Why an image's name could not be made a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error(
        "image {reference:?} of service {service}, container {container}, is on no node that is ready; \
         load it with `wharf image load`, or name one that `wharf image ls` shows"
    )]
    Unknown { service: ServiceKey, container: Name, reference: String },
    #[error(
        "image {reference:?} of service {service}, container {container}, is not the same everywhere: {}; \
         load one of them on all nodes with `wharf image load`, or name its digest",
        different(.found)
    )]
    Ambiguous { service: ServiceKey, container: Name, reference: String, found: Vec<(Digest, Vec<NodeId>)> },
}

fn list(errors: &[impl ToString]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn upgrade(older: &[String], away: &[String]) -> String {
    let servers = |names: &[String]| match names {
        [one] => format!("server {one}"),
        several => format!("the servers {}", several.join(", ")),
    };
    match (older, away) {
        ([], []) => "it is put in use in a moment; try again".to_owned(),
        (older, []) => format!("upgrade {}", servers(older)),
        ([], away) => format!("bring back {}, of which nothing is heard, or remove it", servers(away)),
        (older, away) => format!(
            "upgrade {}; and bring back {}, of which nothing is heard, or remove it",
            servers(older),
            servers(away)
        ),
    }
}

fn different(found: &[(Digest, Vec<NodeId>)]) -> String {
    let one = |(digest, nodes): &(Digest, Vec<NodeId>)| {
        let nodes: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
        format!("{digest} on {}", nodes.join(", "))
    };
    found.iter().map(one).collect::<Vec<_>>().join(" and ")
}

/// The first thing an agent says in a session: its host, and everything it observes.
#[derive(Clone, Debug)]
pub struct Hello {
    pub info: NodeInfo,
    /// What the agent's clock showed then, which all its times are by. None of an agent of a version that does not say.
    pub said_at: Option<Timestamp>,
    pub observed: Vec<Observed>,
    /// Reference in its normal form, and manifest digest.
    pub images: Vec<(String, Digest)>,
    /// What the agent knows.
    pub level: Level,
}

/// What changed on a node since it last said so. Of replicas that are not the node's, nothing is believed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// As in [`Hello`].
    pub said_at: Option<Timestamp>,
    pub observed: Vec<Observed>,
    /// Containers that ended: said once, kept in the log.
    pub exits: Vec<model::Event>,
    /// The complete list, when it changed.
    pub images: Option<Vec<(String, Digest)>>,
}
