//! Refusals: a gRPC status for people, with a [`v1::Reason`] in a trailer for programs.

use tonic::{Code, Status, codegen::http, metadata::MetadataValue};

use crate::{DecodeError, v1::Reason};

/// The trailer that names the reason, such as `port-taken`.
pub const REASON_TRAILER: &str = "wharf-reason";

const PREFIX: &str = "REASON_";

/// A refusal with its message for people: what, where, why, what to do.
pub fn refuse(reason: Reason, message: impl Into<String>) -> Status {
    let mut status = Status::new(code(reason), message);
    // The name of a reason is ASCII, so this is never passed over.
    if let Ok(value) = MetadataValue::try_from(name(reason)) {
        status.metadata_mut().insert(REASON_TRAILER, value);
    }
    status
}

/// Why a request was refused; none when the peer gave no reason, or one that only a newer version knows.
pub fn reason(status: &Status) -> Option<Reason> {
    named(status.metadata().get(REASON_TRAILER)?.to_str().ok()?)
}

/// The same of the head of an answer that has no body, as every refusal of a call with one answer is.
pub fn reason_of(head: &http::HeaderMap) -> Option<Reason> {
    named(head.get(REASON_TRAILER)?.to_str().ok()?)
}

fn named(name: &str) -> Option<Reason> {
    Reason::from_str_name(&format!("{PREFIX}{}", name.to_ascii_uppercase().replace('-', "_")))
}

/// As the trailer writes it.
pub fn name(reason: Reason) -> String {
    reason.as_str_name().trim_start_matches(PREFIX).to_ascii_lowercase().replace('_', "-")
}

fn code(reason: Reason) -> Code {
    match reason {
        Reason::Unspecified => Code::Unknown,
        Reason::Invalid => Code::InvalidArgument,
        Reason::NotFound | Reason::NoRevision => Code::NotFound,
        Reason::Deleting
        | Reason::PortTaken
        | Reason::ImageUnresolved
        | Reason::NotRunning
        | Reason::NodeInUse => Code::FailedPrecondition,
        Reason::Conflict => Code::Aborted,
        Reason::NoLeader | Reason::NodeSilent | Reason::OutcomeUnknown => Code::Unavailable,
        Reason::Overloaded => Code::ResourceExhausted,
    }
}

/// A message that cannot be decoded is the fault of who sent it.
impl From<DecodeError> for Status {
    fn from(error: DecodeError) -> Status {
        refuse(Reason::Invalid, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_its_trailer() {
        let reasons: Vec<Reason> = (0..).map_while(|number| Reason::try_from(number).ok()).collect();
        assert!(reasons.contains(&Reason::Overloaded));
        for expected in reasons {
            assert_eq!(reason(&refuse(expected, "because")), Some(expected));
        }
        assert_eq!(name(Reason::PortTaken), "port-taken");
    }

    #[test]
    fn a_status_of_another_origin_has_no_reason() {
        assert_eq!(reason(&Status::unavailable("connection refused")), None);
    }
}
