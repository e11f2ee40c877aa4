//! What came of a run.

use std::fmt;

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: &'static str,
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)
    }
}

#[derive(Clone, Debug)]
pub struct Outcome {
    pub violation: Option<Violation>,
    /// How long the run took in its own time.
    pub virtual_ms: u64,
    /// Of every line of the trace: two runs of one plan have the same.
    pub hash: u64,
    /// Empty unless it was asked for.
    pub trace: Vec<String>,
}
