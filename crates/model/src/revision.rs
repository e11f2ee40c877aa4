//! A revision: one version of a service's replica template, known by its content.

use std::{fmt, sync::Arc};

use crate::{Generation, ReplicaTemplate, RevisionNumber, Timestamp};

/// SHA-256 of the template's canonical encoding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevisionHash(pub [u8; 32]);

impl fmt::Display for RevisionHash {
    /// The first ten hex digits: enough to tell ten kept revisions apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex: String = self.0[..5].iter().map(|byte| format!("{byte:02x}")).collect();
        f.pad(&hex)
    }
}

impl fmt::Debug for RevisionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    pub number: RevisionNumber,
    pub hash: RevisionHash,
    /// With every image resolved to its digest.
    pub template: Arc<ReplicaTemplate>,
    /// The generation of the spec that first asked for it.
    pub generation: Generation,
    pub created_at: Timestamp,
    pub status: RevisionStatus,
}

/// What is known of a revision from the rollouts that went to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevisionStatus {
    /// No rollout to it has ended yet.
    Untried,
    /// A rollout to it completed: it is what a rollback goes back to.
    Stable,
    /// A rollout to it failed, for this reason.
    Failed { reason: String },
}

impl Revision {
    /// How many are kept per service, the current one included.
    pub const KEPT: usize = 10;
}
