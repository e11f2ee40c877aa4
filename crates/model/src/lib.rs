//! The nouns of wharf: ids, quantities, specs, replicas, nodes and rollouts, and which transition each allows.
//!
//! Every other crate speaks these types. Nothing here does I/O, reads a clock or draws a random number, and
//! nothing here knows how a value is written on the wire or in a manifest.
//!
//! Start reading at [`service`], then [`replica`] (what the control plane wants) and [`observed`] (what an agent
//! saw). The two are different types on purpose: each has exactly one writer.

pub mod assignment;
pub mod container;
pub mod directory;
pub mod event;
pub mod id;
pub mod level;
pub mod member;
pub mod node;
pub mod observed;
pub mod placement;
pub mod probe;
pub mod quantity;
pub mod ranges;
pub mod replica;
pub mod revision;
pub mod rollout;
pub mod service;
pub mod settings;
pub mod template;
pub mod token;
pub mod trust;
pub mod waiting;

pub use assignment::{Assignment, Dispatch};
pub use container::{Capabilities, ContainerSpec, ImageRef, Mount, Resources};
pub use directory::{Directory, DirectoryNews, Endpoint, Listing};
pub use event::{Event, EventKind};
pub use id::{
    ClusterId, Digest, Generation, IdSource, MemberId, Name, NodeId, ReplicaId, RevisionNumber, ServiceKey,
    Slot, TokenId, Version,
};
pub use level::Level;
pub use member::{Member, MemberPart};
pub use node::{Down, Node, NodeInfo, Reach, Scheduling, Silence, Usage};
pub use observed::{ContainerObserved, ContainerState, Exit, ExitCause, Observed, Phase, Stop, Timeline};
pub use placement::{NodeLoss, OnPartition, PlacementRules};
pub use probe::{Health, Probe, ProbeAction};
pub use quantity::{Bytes, CountOrPercent, MilliCpu, Millis, Timestamp};
pub use ranges::{RangeError, ReplicaRange};
pub use replica::{Desired, Replica, StopReason};
pub use revision::{Revision, RevisionHash, RevisionStatus};
pub use rollout::{Rollout, RolloutPhase};
pub use service::{OnFailure, Service, ServiceSpec, UpdateOrder, UpdatePolicy};
pub use settings::{Heard, Settings};
pub use subnet::{Subnet, SubnetError};
pub use template::{Backoff, Port, Protocol, ReplicaTemplate, RestartPolicy, RestartWhen};
pub use token::{AccessRole, AccessToken, Grant, HostRole, JoinToken, Scope, SecretHash, Uses};
pub use trust::{Belief, ClusterTrust, Pin, PinError, SecretText};
pub use waiting::{Unplaceable, WaitingOn};
