//! The wire types, generated from `proto/wharf/v1`, and the one place where they become model types and back.

/// The generated types and the services `control_server`, `control_client`, `agents_server` and `agents_client`.
#[allow(missing_debug_implementations, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("wharf.v1");
}
