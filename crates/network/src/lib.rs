//! Network namespaces, addresses, the bridge, and published ports balanced over replicas.
//!
//! Knows sandboxes and ports, not clusters. Everything blocks and speaks netlink directly: no other program has
//! to be installed, and a change costs what the kernel needs for it. Start at [`Network`].
//!
//! A host has one bridge; each sandbox is a network namespace with a veth cable to it. The bridges of several hosts are
//! joined by tunnels (`overlay.rs`). Published ports are
//! translated by nf_tables to the sandboxes behind them, in strict turn. How packets flow is told in
//! `firewall/base.rs`; what survives a crash and how, in `pin.rs` and `namespace.rs`.
//!
//! Invariants:
//! - No thread of the caller ever changes its namespace. Everything happens in the network namespace that
//!   [`Network::open`] was called in, whoever calls later.
//! - What is made carries the network's name or link group, so that [`Network::teardown`] finds it without
//!   any memory, also what a crash left.
//! - Published ports change in one transaction; an unchanged one is never unreachable.
//!
//! Deliberately absent: IPv6 between sandboxes, and any dealing with the rules of other programs. A firewall
//! that drops forwarded packets by policy (Docker's does) drops ours too, since nf_tables lets every table veto:
//! [`doctor`] notices and says what to add there.

mod network;

mod cable;
mod host;
mod inhabit;
mod namespace;
mod overlay;
mod pin;

mod addresses;
mod config;
mod published;

mod conntrack;
mod firewall;
mod netlink;

mod doctor;
mod error;

pub use ::subnet::{Subnet, SubnetError};
pub use addresses::{AddressError, Addresses};
pub use config::{Config, ConfigError, Overlay, Peer};
pub use doctor::{Check, Status, doctor};
pub use error::Error;
pub use inhabit::{move_in, visit};
pub use namespace::NamespaceError;
pub use netlink::Error as NetlinkError;
pub use network::{Network, Sandbox};
pub use pin::standing;
pub use published::{Protocol, Published};
