//! Generates the wire types from `proto/wharf/v1` without needing protoc.

use std::error::Error;

const ROOT: &str = "../../proto";
const FILES: [&str; 9] = [
    "wharf/v1/spec.proto",
    "wharf/v1/state.proto",
    "wharf/v1/log.proto",
    "wharf/v1/stream.proto",
    "wharf/v1/control.proto",
    "wharf/v1/agents.proto",
    "wharf/v1/peers.proto",
    "wharf/v1/cluster.proto",
    "wharf/v1/join.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={ROOT}");
    let descriptors = protox::compile(FILES, [ROOT])?;
    tonic_prost_build::configure()
        // Sorted maps, so that the same value always has the same bytes: revisions are known by their hash.
        .btree_map(".")
        // Archives and log lines are handed on without being copied.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
