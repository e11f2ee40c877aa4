//! Why a message could not become a model value: which field, and what was wrong with it.

use std::fmt;

use model::id::{DigestError, NameError};

/// A field and its problem. The field is a path from the message that was decoded: `spec.template.init[2].name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Empty when the problem is the message as a whole.
    pub field: String,
    pub problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("is required and missing")]
    Missing,
    /// Protobuf does not tell the two apart.
    #[error("is missing, or of a kind that only a newer version of wharf knows")]
    UnknownKind,
    #[error("has the value {0}, which only a newer version of wharf knows")]
    UnknownValue(i32),
    #[error("is {value}, expected {min} to {max}")]
    OutOfRange { value: u64, min: u64, max: u64 },
    #[error("has {found} bytes, expected {expected}")]
    Length { found: usize, expected: usize },
    #[error("is not a name: {0}")]
    Name(NameError),
    #[error(transparent)]
    Digest(DigestError),
    #[error("is not protobuf of the expected type: {0}")]
    Malformed(prost::DecodeError),
    #[error("is empty, not even a format version is there")]
    Empty,
    #[error(
        "was written in format {found}, and this version of wharf knows none above {known}: use a newer one"
    )]
    NewerFormat { found: u8, known: u8 },
    #[error("was written in format {0}, which never was")]
    NoFormat(u8),
    #[error("ends before it is complete")]
    Cut,
    #[error("goes on after its end")]
    Overlong,
    #[error("comes a second time")]
    Repeated,
    #[error("holds {found} objects, and its end says {said}")]
    Count { found: u64, said: u64 },
}

impl DecodeError {
    /// The same problem, seen from the message that has the value as its `field`.
    fn within(mut self, field: &str) -> DecodeError {
        let joint = if self.field.is_empty() || self.field.starts_with('[') { "" } else { "." };
        self.field.insert_str(0, joint);
        self.field.insert_str(0, field);
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "the message {}", self.problem),
            field => write!(f, "field {field} {}", self.problem),
        }
    }
}

/// The problem is shown as part of this error, so it is not a source beside it.
impl std::error::Error for DecodeError {}

impl From<Problem> for DecodeError {
    fn from(problem: Problem) -> DecodeError {
        DecodeError { field: String::new(), problem }
    }
}

impl From<NameError> for DecodeError {
    fn from(error: NameError) -> DecodeError {
        Problem::Name(error).into()
    }
}

impl From<DigestError> for DecodeError {
    fn from(error: DigestError) -> DecodeError {
        Problem::Digest(error).into()
    }
}

impl From<prost::DecodeError> for DecodeError {
    fn from(error: prost::DecodeError) -> DecodeError {
        Problem::Malformed(error).into()
    }
}

/// Says in which field a value was that could not be decoded.
pub(crate) trait Within<T> {
    fn within(self, field: &str) -> Result<T, DecodeError>;
    /// The value was this element of a list.
    fn within_element(self, index: usize) -> Result<T, DecodeError>;
}

impl<T, E: Into<DecodeError>> Within<T> for Result<T, E> {
    fn within(self, field: &str) -> Result<T, DecodeError> {
        self.map_err(|error| error.into().within(field))
    }

    fn within_element(self, index: usize) -> Result<T, DecodeError> {
        self.map_err(|error| error.into().within(&format!("[{index}]")))
    }
}
