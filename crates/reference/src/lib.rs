//! What an image is called: a digest, which is its content, or a name, which can mean another tomorrow.
//!
//! Users write names, nodes keep images under them, and the control plane compares the two. All of them read names here,
//! so that `docker.io/library/busybox` is `busybox:latest` to everybody. Pure, and knows neither cluster nor host.

mod digest;
mod name;

pub use digest::{Digest, DigestError};
pub use name::{Reference, ReferenceError, TaggedName};
