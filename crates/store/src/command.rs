//! What a log entry can say.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    AccessToken, Belief, ClusterTrust, Desired, Event, JoinToken, Level, Member, Millis, NodeId, NodeInfo,
    ReplicaId, RevisionHash, RevisionNumber, ServiceKey, ServiceSpec, Slot, StopReason, Timestamp, TokenId,
    Version,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A user declares a service.
    Apply(Apply),
    /// A user deletes a service: its replicas stop, then it goes.
    Delete { service: ServiceKey, at: Timestamp },
    /// A user wants another number of replicas of what runs now.
    Scale { service: ServiceKey, replicas: u32, at: Timestamp },
    /// A user makes the template of a kept revision the spec's template again.
    Undo { service: ServiceKey, to: RevisionNumber, at: Timestamp },
    /// An agent opened its first session, or says something new of its host.
    Register { info: NodeInfo, at: Timestamp },
    /// The scheduler's decisions. One that is not applicable any more is passed over; the rest hold. None at all only tells
    /// what time it is, in words that every build understands.
    Place { placements: Vec<Placement>, at: Timestamp },
    /// The reconciler's next steps for one service: all of them or, if anything wrote the service since, none.
    Progress { service: ServiceKey, based_on: Version, steps: Vec<Step>, at: Timestamp },
    /// What agents saw and cannot say again, for the story that `describe` tells.
    Record { events: Vec<Event> },
    /// Something is decided of a node, by a user or the leader.
    Node { node: NodeId, change: NodeChange, at: Timestamp },
    /// A user changes how the cluster is run.
    Configure { node_lost_after: Millis, at: Timestamp },
    /// A server shall be a member, have another part, or be one no more.
    PutMember { member: Member },
    /// Who may join, and what hosts believe.
    Trust(TrustChange),
    /// Every member knows this level: from now on what needs it may be written.
    Raise { to: Level },
}

impl Command {
    /// The level that must be in use before this may be proposed: older servers would not understand it.
    pub fn needs(&self) -> Level {
        match self {
            Command::Apply(apply) => apply.spec.needs(),
            Command::Delete { .. }
            | Command::Scale { .. }
            | Command::Undo { .. }
            | Command::Register { .. }
            | Command::Place { .. }
            | Command::Record { .. }
            | Command::Configure { .. }
            | Command::PutMember { .. } => Level::FIRST,
            Command::Progress { steps, .. } => steps.iter().map(Step::needs).max().unwrap_or_default(),
            Command::Node { change, .. } => change.needs(),
            Command::Trust(change) => change.needs(),
            // It is proposed once every member has said that it knows it.
            Command::Raise { .. } => Level::FIRST,
        }
    }
}

impl Command {
    /// When it was proposed, by the cluster's time; none of one that nothing is measured from.
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Command::Apply(apply) => Some(apply.at),
            Command::Delete { at, .. }
            | Command::Scale { at, .. }
            | Command::Undo { at, .. }
            | Command::Register { at, .. }
            | Command::Place { at, .. }
            | Command::Progress { at, .. }
            | Command::Node { at, .. }
            | Command::Configure { at, .. } => Some(*at),
            Command::Record { .. }
            | Command::PutMember { .. }
            | Command::Raise { .. }
            | Command::Trust(_) => None,
        }
    }
}

/// What can change in what hosts know each other by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustChange {
    /// The first server brings the authority, and what others join with. Changes nothing where there is one.
    Found { trust: ClusterTrust, tokens: Vec<JoinToken> },
    /// Adds a token, or counts a use of one: only if it still is `replaces`, since two hosts may redeem the last use at the
    /// same time.
    PutJoinToken { token: JoinToken, replaces: Option<JoinToken> },
    /// Nobody joins with it any more. Who has joined stays.
    RemoveJoinToken { id: TokenId },
    /// Lets a person or a CI job in; refused where another token has its name.
    PutAccessToken { token: AccessToken },
    /// Whoever has it is refused from now on.
    RemoveAccessToken { id: TokenId },
    /// The next step of a rotation of the authority: only if the bundle still is `replaces`. What hosts have said stays.
    Rotate { trust: ClusterTrust, replaces: String },
    /// How far a host has followed a rotation.
    Believe { host: NodeId, belief: Belief },
}

impl TrustChange {
    fn needs(&self) -> Level {
        match self {
            TrustChange::Found { .. }
            | TrustChange::PutJoinToken { .. }
            | TrustChange::RemoveJoinToken { .. }
            | TrustChange::PutAccessToken { .. }
            | TrustChange::RemoveAccessToken { .. }
            | TrustChange::Rotate { .. }
            | TrustChange::Believe { .. } => Level::FIRST,
        }
    }
}

/// What can be decided of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// The leader has not heard it for so long.
    Down {
        silent_for: Millis,
    },
    /// It is heard again.
    Up,
    Cordon {
        reason: Option<String>,
    },
    /// Also ends draining.
    Uncordon,
    Drain {
        deadline: Option<Timestamp>,
        reason: Option<String>,
    },
    /// Labels that are set, and names of such as are taken away.
    Label {
        set: BTreeMap<String, String>,
        unset: BTreeSet<String>,
    },
    /// It goes, with its replicas; only one that is down or has been drained, unless forced.
    Remove {
        force: bool,
    },
}

impl NodeChange {
    fn needs(&self) -> Level {
        match self {
            NodeChange::Down { .. }
            | NodeChange::Up
            | NodeChange::Cordon { .. }
            | NodeChange::Uncordon
            | NodeChange::Drain { .. }
            | NodeChange::Label { .. }
            | NodeChange::Remove { .. } => Level::FIRST,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apply {
    pub service: ServiceKey,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Every image of its template has a digest.
    pub spec: ServiceSpec,
    /// Of `spec.template`.
    pub hash: RevisionHash,
    /// Refuse if the service was written since this version; `Version(0)`: only create.
    pub expects: Option<Version>,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    pub replica: ReplicaId,
    pub node: NodeId,
}

/// One step of a service towards its spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new replica, to be placed.
    Create {
        id: ReplicaId,
        slot: Slot,
        revision: RevisionNumber,
        desired: Desired,
    },
    /// A prepared replica may start.
    Start {
        id: ReplicaId,
    },
    Stop {
        id: ReplicaId,
        reason: StopReason,
    },
    /// Nothing of the replica is left on its node.
    Forget {
        id: ReplicaId,
    },
    /// So many slots are available at the rollout's target: the progress deadline counts anew.
    Progressed {
        available: u32,
    },
    /// Every slot is available at the rollout's target.
    Complete,
    /// The target failed; go back.
    RollBack {
        back_to: RevisionNumber,
        reason: String,
    },
    /// Every slot is available at the revision gone back to.
    RolledBack,
    /// The target failed and there is nothing to go back to, or the service asks for a person.
    Pause {
        reason: String,
    },
    /// The last replica of a deleted service is forgotten: so is the service.
    Remove,
}

impl Step {
    fn needs(&self) -> Level {
        match self {
            Step::Create { .. }
            | Step::Start { .. }
            | Step::Stop { .. }
            | Step::Forget { .. }
            | Step::Progressed { .. }
            | Step::Complete
            | Step::RollBack { .. }
            | Step::RolledBack
            | Step::Pause { .. }
            | Step::Remove => Level::FIRST,
        }
    }

    /// Whether it only writes down how far a rollout has come: no node is told anything because of it.
    pub fn is_note(&self) -> bool {
        match self {
            Step::Progressed { .. } | Step::Complete | Step::RolledBack => true,
            Step::Create { .. } | Step::Start { .. } | Step::Stop { .. } | Step::Forget { .. } => false,
            Step::RollBack { .. } | Step::Pause { .. } | Step::Remove => false,
        }
    }
}
