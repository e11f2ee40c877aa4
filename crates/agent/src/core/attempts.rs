//! What is asked of the shell until it comes about: preparing, starting, cleaning. The pauses between attempts grow.
//!
//! What fails here is this node's trouble, so the pauses are not those of the template, and nothing is counted.

use model::{Millis, Timestamp};

const RETRY_BASE: Millis = Millis(500);
const RETRY_MAX: Millis = Millis(30_000);

/// Something asked of the shell that may have to be asked again.
#[derive(Clone, Debug, Default)]
pub(super) enum Attempts {
    #[default]
    Idle,
    Underway {
        failed: u32,
    },
    RetryAt {
        at: Timestamp,
        failed: u32,
        reason: String,
    },
}

impl Attempts {
    /// Whether to ask now; it then counts as asked.
    pub(super) fn begin(&mut self, now: Timestamp) -> bool {
        let failed = match *self {
            Attempts::Idle => 0,
            Attempts::RetryAt { at, failed, .. } if at <= now => failed,
            Attempts::RetryAt { .. } | Attempts::Underway { .. } => return false,
        };
        *self = Attempts::Underway { failed };
        true
    }

    pub(super) fn failed(&mut self, now: Timestamp, reason: String) {
        let failed = match *self {
            Attempts::Idle => 1,
            Attempts::Underway { failed } | Attempts::RetryAt { failed, .. } => failed.saturating_add(1),
        };
        let pause = RETRY_BASE.0.saturating_mul(1 << (failed - 1).min(20)).min(RETRY_MAX.0);
        *self = Attempts::RetryAt { at: now + Millis(pause), failed, reason };
    }

    pub(super) fn is_underway(&self) -> bool {
        matches!(self, Attempts::Underway { .. })
    }

    pub(super) fn complaint(&self) -> Option<&str> {
        match self {
            Attempts::RetryAt { reason, .. } => Some(reason),
            Attempts::Idle | Attempts::Underway { .. } => None,
        }
    }

    pub(super) fn wake(&self) -> Option<Timestamp> {
        match self {
            Attempts::RetryAt { at, .. } => Some(*at),
            Attempts::Idle | Attempts::Underway { .. } => None,
        }
    }
}
