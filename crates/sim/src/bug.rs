//! Deliberate bugs of the simulated shells, to see that the checkers notice them.

/// What a shell does wrong. Each breaks a promise that the cores count on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The server's log says that a write is durable before it is.
    AcknowledgeBeforeSync,
    /// The log forgets its last group in a crash, though it was synced.
    LoseLastGroup,
    /// A snapshot is written with a state that is older than it says.
    StaleSnapshot,
    /// Replica ids are drawn from the same seed at every start of the server.
    SameIdsAgain,
    /// An agent's ledger does not hold the last save before a crash, though it said so.
    LoseLastSave,
    /// Actions are executed while what they depend on is still being saved.
    ActBeforeSave,
    /// An increment is lost, and the next one is made to follow what came before it.
    LoseIncrement,
    /// A session that opens says nothing of what the agent observes.
    SilentHello,
    /// What was reported while a session was just being opened is dropped.
    DropReports,
    /// The agent is told that a balancer's set is in force before it is.
    BalancedTooEarly,
    /// A container's exit is not told.
    SwallowExit,
    /// After its restart an agent is told that no containers are there.
    FindNothing,
    /// An agent claims that a replica is ready as soon as it runs.
    ClaimReady,
    /// An agent claims to have twice the memory that it has.
    Boast,
    /// The balancer says that a set is in force, and goes on with the one before.
    StuckBalancer,
    /// A server that starts does not know for whom it voted.
    ForgetVote,
    /// A server that leads, or thinks that it does, answers reads without asking the others.
    ReadAlone,
    /// A user's condition is not passed on.
    SkipCompareAndSet,
    /// What other servers decided is applied one entry too late.
    SwapEntries,
    /// A snapshot lacks one of the members.
    ForgetMember,
    /// A server whose disk was lost comes back empty, under its old id.
    KeepId,
    /// What runs on a node that cannot be reached is taken for gone.
    ForgetNode,
    /// A lease lasts ten times as long as the leader says.
    EndlessLease,
    /// An agent says that it goes by a changed directory, and forgets the change.
    IgnoreDirectory,
    /// Keepers let run what has no lease any more, though the agent is dead.
    IdleKeepers,
    /// A server goes by its host's wall clock, also when that jumps.
    ServerByTheWall,
    /// An agent does.
    AgentByTheWall,
}

impl Bug {
    pub const ALL: [Bug; 27] = [
        Bug::AcknowledgeBeforeSync,
        Bug::LoseLastGroup,
        Bug::StaleSnapshot,
        Bug::SameIdsAgain,
        Bug::LoseLastSave,
        Bug::ActBeforeSave,
        Bug::LoseIncrement,
        Bug::SilentHello,
        Bug::DropReports,
        Bug::BalancedTooEarly,
        Bug::SwallowExit,
        Bug::FindNothing,
        Bug::ClaimReady,
        Bug::Boast,
        Bug::StuckBalancer,
        Bug::ForgetVote,
        Bug::ReadAlone,
        Bug::SkipCompareAndSet,
        Bug::SwapEntries,
        Bug::ForgetMember,
        Bug::KeepId,
        Bug::ForgetNode,
        Bug::EndlessLease,
        Bug::IgnoreDirectory,
        Bug::IdleKeepers,
        Bug::ServerByTheWall,
        Bug::AgentByTheWall,
    ];
}
