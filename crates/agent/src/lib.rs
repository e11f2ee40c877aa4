//! The agent: runs a node's share of the desired state on its host.
//!
//! [`core`] decides and is pure; everything else here executes what it decided and tells it what happened.

pub mod core;

pub mod compile;
pub mod ledger;
