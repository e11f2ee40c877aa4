//! The wire types, generated from `proto/wharf/v1`, and the one place where they become model types and back.
//!
//! For each model type `X` that travels there is `From<&X> for v1::X` and `TryFrom<v1::X> for X`, which checks
//! everything that the types and the documentation of `X` promise: whatever was encoded decodes again, and what a newer
//! peer says that is not known here is an error, never a guess. Whether a spec makes sense is for `manifest` to say.
//!
//! Start reading at [`codec`] for what is on disk, and at the `.proto` files for what is on the wire.

/// The generated types and the services `control_server`, `control_client`, `agents_server` and `agents_client`.
#[allow(missing_debug_implementations, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("wharf.v1");
}

pub mod codec;
mod container;
pub mod directory;
pub mod error;
mod event;
mod field;
mod log;
mod member;
mod node;
mod observed;
pub mod reason;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod round_trip;
pub mod session;
mod spec;
mod state;
#[cfg(test)]
mod strategies;
pub mod trust;
mod waiting;

pub use error::{DecodeError, Problem};
pub use session::{CLUSTER_HEADER, LEADER_HEADER, PROTOCOL_VERSION};
