//! Collects what is wrong while a document is read, and knows where the reader stands.

use crate::path::{Path, Step};
use crate::tree::Span;

/// Something wrong, before the text of its line is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) at: Span,
    pub(crate) related: Option<(Span, String)>,
    pub(crate) help: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Reader {
    path: Path,
    pub(crate) faults: Vec<Fault>,
    /// Where a fault was found, so that no rule is held against a value that is not there.
    pub(crate) failed: Vec<Path>,
}

impl Reader {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what lies one step further in.
    pub(crate) fn inside<R>(&mut self, step: impl Into<Step>, read: impl FnOnce(&mut Reader) -> R) -> R {
        self.path.push(step);
        let result = read(self);
        self.path.pop();
        result
    }

    /// Records that the value at the current path is wrong.
    pub(crate) fn fault(&mut self, at: Span, message: String, help: Option<String>) {
        self.failed.push(self.path.clone());
        self.faults.push(Fault { message, at, related: None, help });
    }

    /// Whether a fault was found at, inside or around the path.
    pub(crate) fn has_failed(&self, path: &Path) -> bool {
        self.failed.iter().any(|failed| failed.touches(path))
    }
}
