//! A rollout: the stored progress of a service towards a revision.
//!
//! It lives in the replicated state, so a new leader goes on with it where the old one stopped.

use crate::{Generation, Millis, RevisionNumber, Timestamp};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// The generation whose apply started it: what `apply --wait` waits for.
    pub generation: Generation,
    /// The revision that ran before; none for a new service.
    pub from: Option<RevisionNumber>,
    /// What the user asked for. After a rollback [`crate::Service::revision`] is another.
    pub to: RevisionNumber,
    pub started_at: Timestamp,
    /// When a replica of the target last became available: what `progress_deadline` counts from.
    pub progressed_at: Timestamp,
    /// The most slots that were seen available at the target; what "progressed" compares with.
    pub available: u32,
    pub phase: RolloutPhase,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutPhase {
    /// Replacing replicas with ones of `to`.
    Progressing,
    /// Every slot runs `to` and is available.
    Completed { at: Timestamp },
    /// `to` failed; going back to the revision `back_to`.
    RollingBack { back_to: RevisionNumber, reason: String },
    /// Every slot runs `back_to` again.
    RolledBack { back_to: RevisionNumber, reason: String, at: Timestamp },
    /// `to` failed and nothing more happens until a person acts (`rollout undo`, or another apply).
    Paused { reason: String, at: Timestamp },
}

impl RolloutPhase {
    /// Whether the rollout has come to its end, good or bad.
    pub fn is_over(&self) -> bool {
        match self {
            RolloutPhase::Progressing | RolloutPhase::RollingBack { .. } => false,
            RolloutPhase::Completed { .. }
            | RolloutPhase::RolledBack { .. }
            | RolloutPhase::Paused { .. } => true,
        }
    }

    /// The word for tables and `-o json`.
    pub fn as_str(&self) -> &'static str {
        match self {
            RolloutPhase::Progressing => "progressing",
            RolloutPhase::Completed { .. } => "completed",
            RolloutPhase::RollingBack { .. } => "rolling-back",
            RolloutPhase::RolledBack { .. } => "rolled-back",
            RolloutPhase::Paused { .. } => "paused",
        }
    }
}

impl Rollout {
    /// When it fails unless a replica becomes available before.
    pub fn progress_due(&self, progress_deadline: Millis) -> Timestamp {
        self.progressed_at + progress_deadline
    }
}
