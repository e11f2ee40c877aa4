//! The tiny program that stays with a container; its sources are in `keeper/`, `build.rs` compiles it.

use std::io;
use std::os::fd::OwnedFd;

use crate::sys;

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/wharf-keeper"));

/// The program in a sealed memfd, from which nothing leads to the agent's own executable.
pub(crate) fn program() -> io::Result<OwnedFd> {
    sys::sealed_program(c"wharf-keeper", PROGRAM)
}
