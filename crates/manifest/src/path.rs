//! Where a value stands in a document: `spec.ports[0].name`.

use std::fmt;

/// From the document down to one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    /// The path that `a.b` names; only for keys without dots and for no indexes.
    pub(crate) fn of(dotted: &str) -> Path {
        Path(dotted.split('.').map(Step::from).collect())
    }

    pub(crate) fn push(&mut self, step: impl Into<Step>) {
        self.0.push(step.into());
    }

    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }

    /// This path and one step more.
    pub(crate) fn at(&self, step: impl Into<Step>) -> Path {
        let mut longer = self.clone();
        longer.push(step);
        longer
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether one of the two lies inside the other.
    pub(crate) fn touches(&self, other: &Path) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a == b)
    }
}

impl From<&str> for Step {
    fn from(key: &str) -> Step {
        Step::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Step {
        Step::Index(index)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if i == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
