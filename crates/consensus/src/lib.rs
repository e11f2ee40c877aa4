//! Agreement on one log: raft-rs driven as a pure state machine, and the formats of its log and snapshots.
//!
//! [`Consensus`] takes ticks, messages and proposals, and gives back a [`Ready`]: what to send, what to make
//! durable, what to apply. Nothing here does I/O, owns a thread, reads a clock or draws a random number; the
//! same inputs always give the same outputs, so that a simulator can run it.
//!
//! Invariants:
//! - A message that depends on a write is handed out only after [`Consensus::persisted`] confirmed that write.
//!   The shell cannot send too early, because it does not have the message yet.
//! - A snapshot or a committed entry is handed out for applying only once it is durable here.
//! - raft's protobuf types do not leave this crate; peers exchange opaque bytes.
//!
//! Start reading at [`Consensus::ready`]; then [`format`](mod@format) for what lies on disk.

mod config;
mod drain;
mod entry;
pub mod format;
mod membership;
mod message;
mod node;
mod outputs;
mod ready;
mod recovered;
mod refusal;
mod status;
mod tail;
mod translate;

pub use config::Config;
pub use entry::{Committed, CommittedEntry, Entry, Payload};
pub use membership::{MemberChange, Membership};
pub use message::{Delivery, PeerMessage, PeerMessageKind, StepError};
pub use node::Consensus;
pub use ready::{Persist, Read, Ready};
pub use recovered::{HardState, Recovered, Snapshot, SnapshotMeta};
pub use refusal::{ProposeError, Proposed, ReadError, StartError};
pub use status::{Role, Status};

/// Names a member for ever. A new one is drawn for every data directory: a member that lost its disk must not come
/// back under its old id, because the others count on what it once acknowledged.
pub type MemberId = u64;
/// A position in the log. The first entry of a bootstrapped cluster has index 2.
pub type Index = u64;
/// A period with at most one leader.
pub type Term = u64;
