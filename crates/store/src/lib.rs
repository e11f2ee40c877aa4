//! The replicated state: what every server of a cluster agrees on.
//!
//! A [`Command`] is one log entry. [`State::apply`] executes it and is deterministic: the same state and the same
//! command give the same state on every server, today and when the log is read again in a year. It therefore reads
//! no clock and draws no random number: times and ids are in the command.
//!
//! All collections are persistent maps, so a clone of the state costs nothing and a snapshot or a slow reader never
//! holds up the next command.
//!
//! Start reading at [`command`], then [`state`], then `apply`.

mod apply;
pub mod command;
pub mod observations;
pub mod state;
mod time;

pub use apply::{Changes, Outcome, Rejected};
pub use command::{Apply, Command, NodeChange, Placement, Step, TrustChange};
pub use observations::{NodeReport, NodeStatus, Observations};
pub use state::{Objects, State};
