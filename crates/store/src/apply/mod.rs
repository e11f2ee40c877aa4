//! Executing commands. One file per writer: what users say ([`user`]), what the leader decides ([`leader`]), and what
//! either decides of nodes ([`node`]).

mod leader;
mod node;
mod trust;
mod user;

use std::{collections::BTreeSet, sync::Arc};

use model::{
    Event, EventKind, Member, Name, NodeId, Protocol, ReplicaId, RevisionNumber, ServiceKey, Timestamp,
    TokenId, Version,
};

use crate::{Command, State};

/// What a command touched: what has to be looked at again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub services: BTreeSet<ServiceKey>,
    pub replicas: BTreeSet<ReplicaId>,
    pub nodes: BTreeSet<NodeId>,
    /// Replicas that are no longer part of the state.
    pub forgotten: BTreeSet<ReplicaId>,
}

/// What the one who asked for a command learns of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Created { revision: RevisionNumber },
    Changed { revision: RevisionNumber, rollout: bool },
    Unchanged { revision: RevisionNumber },
    Deleted,
    Done,
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("there is no service {0}")]
    NoService(ServiceKey),
    #[error("service {0} is being deleted; apply it again once it is gone")]
    Deleting(ServiceKey),
    #[error(
        "service {service} has no revision {revision}; `wharf rollout history {service}` lists those that are kept"
    )]
    NoRevision { service: ServiceKey, revision: RevisionNumber },
    #[error(
        "service {service} cannot publish port {port}/{}: service {by} does; choose another port or delete that service",
        .protocol.as_str()
    )]
    PortTaken { service: ServiceKey, protocol: Protocol, port: u16, by: ServiceKey },
    #[error(
        "service {service} was changed meanwhile (version {is}, expected {expected}); look at it and try again"
    )]
    Conflict { service: ServiceKey, is: Version, expected: Version },
    /// A leader's plan that is out of date: it makes a new one.
    #[error("the plan for service {service} is out of date")]
    Stale { service: ServiceKey },
    #[error("there is no node {0}")]
    NoNode(NodeId),
    #[error(
        "node {node} ({name}) is neither down nor drained, and {replicas} of its replicas would stop at once; \
         `wharf node drain {name}` replaces them first, --force removes it all the same"
    )]
    NodeInUse { node: NodeId, name: Name, replicas: u32 },
    #[error("join token {0} was used or withdrawn by another meanwhile; try again")]
    TokenChanged(TokenId),
    #[error(
        "there is an access token {0} already; `wharf token revoke {0}` withdraws it, or give the new one another name"
    )]
    TokenNameTaken(Name),
    #[error("the cluster's authority is being changed by another at this moment; look at it and try again")]
    AuthorityChanged,
}

impl State {
    /// Executes the log entry `version`. A rejected command changes nothing but the version and the time.
    pub fn apply(&mut self, version: Version, command: Command) -> Result<(Outcome, Changes), Rejected> {
        assert!(version > self.version, "log entries are applied in order, each once");
        self.version = version;
        self.decided_at = command.at().or(self.decided_at);
        match command {
            Command::Apply(apply) => self.apply_service(apply),
            Command::Delete { service, at } => self.delete_service(service, at),
            Command::Scale { service, replicas, at } => self.scale(service, replicas, at),
            Command::Undo { service, to, at } => self.undo(service, to, at),
            Command::Register { info, at } => Ok(self.register(info, at)),
            Command::Place { placements, at } => Ok(self.place(placements, at)),
            Command::Progress { service, based_on, steps, at } => self.progress(service, based_on, steps, at),
            Command::Record { events } => {
                for event in events {
                    self.record(event);
                }
                Ok((Outcome::Done, Changes::default()))
            }
            Command::Node { node, change, at } => self.change_node(node, change, at),
            Command::Configure { node_lost_after, at } => Ok(self.configure(node_lost_after, at)),
            Command::PutMember { member } => Ok(self.put_member(member)),
            Command::Trust(change) => self.change_trust(change),
            Command::Raise { to } => {
                // It never falls, whatever comes in which order.
                self.level = self.level.max(to);
                Ok((Outcome::Done, Changes::default()))
            }
        }
    }

    /// Whether it may be is for the leader to say before it proposes: only it knows who can be reached.
    fn put_member(&mut self, member: Member) -> (Outcome, Changes) {
        self.members.insert(member.id, Arc::new(member));
        (Outcome::Done, Changes::default())
    }

    fn tell(&mut self, at: Timestamp, service: &ServiceKey, kind: EventKind) {
        self.record(Event { at, service: Some(service.clone()), kind });
    }
}

impl Changes {
    fn of_service(key: &ServiceKey) -> Changes {
        Changes { services: BTreeSet::from([key.clone()]), ..Changes::default() }
    }
}
