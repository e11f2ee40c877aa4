//! The agent: runs a node's share of the desired state on its host.
//!
//! [`core`] decides and is pure; everything else here is the shell, which executes what it decided and tells it what
//! happened. Start reading at [`core`], then `begin.rs`, `agent.rs` (the loop), `journal.rs` (save first, then act), `lanes.rs` (who
//! executes what), `host.rs` (everything that is done to this host) and `session.rs` (the server).
//!
//! Invariants of the shell:
//! - Only the loop touches the core. Whatever happens comes to it through one channel.
//! - No action is executed before what the core saved with it is on the disk.
//! - Nothing here forks or makes a namespace: that is the runtime's, whose launcher exists before any thread.

pub mod core;

mod agent;
mod alarm;
mod balancer;
mod begin;
mod clock;
mod compile;
mod config;
mod exec;
mod host;
mod identity;
mod journal;
mod lanes;
mod lease;
mod ledger;
mod prober;
mod readiness;
mod relay;
mod remembered;
mod session;
mod watch;

pub use agent::{Error, run};
pub use config::{Config, ServerAddress};
pub use host::HostError;
pub use identity::IdentityError;
pub use ledger::{EntryError, LedgerError};
pub use session::{WaysError, write_servers};
