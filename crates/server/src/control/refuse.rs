//! Refusals: a status for people, with a trailer for programs.

use manager::RequestError;
use proto::v1::Reason;
use store::Rejected;
use tonic::Status;

use crate::brain::{Stopped, Unread};

pub(crate) use proto::reason::refuse;

pub(crate) fn invalid(error: impl std::fmt::Display) -> Status {
    refuse(Reason::Invalid, error.to_string())
}

pub(crate) fn not_found(message: impl Into<String>) -> Status {
    refuse(Reason::NotFound, message)
}

pub(crate) fn stopped(error: Stopped) -> Status {
    refuse(Reason::OutcomeUnknown, error.to_string())
}

pub(crate) fn unread(error: Unread) -> Status {
    match error {
        Unread::Stopped(error) => stopped(error),
        Unread::Overloaded => refuse(Reason::Overloaded, error.to_string()),
        Unread::NoLeader(why) => refuse(Reason::NoLeader, why.to_string()),
    }
}

pub(crate) fn request_error(error: RequestError) -> Status {
    let reason = match &error {
        RequestError::NotLeader { .. } => Reason::NoLeader,
        RequestError::LeadershipLost => Reason::OutcomeUnknown,
        RequestError::Rejected(rejected) => rejected.first().map_or(Reason::Unspecified, rejection),
        RequestError::Images(_) => Reason::ImageUnresolved,
        RequestError::NoneJoined | RequestError::NoNodes { .. } | RequestError::NodeNotHeard { .. } => {
            Reason::NodeSilent
        }
        RequestError::NothingToUndo { .. } => Reason::NoRevision,
        RequestError::NeedsLevel { .. } => Reason::Conflict,
        RequestError::TooLarge { .. } | RequestError::ServiceTooLarge { .. } => Reason::Invalid,
        RequestError::Overloaded | RequestError::CannotWrite { .. } | RequestError::WritesLater { .. } => {
            Reason::Overloaded
        }
    };
    refuse(reason, error.to_string())
}

fn rejection(rejected: &Rejected) -> Reason {
    match rejected {
        Rejected::NoService(_) | Rejected::NoNode(_) => Reason::NotFound,
        Rejected::NodeInUse { .. } => Reason::NodeInUse,
        Rejected::Deleting(_) => Reason::Deleting,
        Rejected::NoRevision { .. } => Reason::NoRevision,
        Rejected::PortTaken { .. } => Reason::PortTaken,
        Rejected::Conflict { .. }
        | Rejected::Stale { .. }
        | Rejected::TokenChanged(_)
        | Rejected::TokenNameTaken(_)
        | Rejected::AuthorityChanged => Reason::Conflict,
    }
}
