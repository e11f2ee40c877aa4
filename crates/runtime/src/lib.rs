//! The container runtime: it starts, watches and ends containers on one host, and knows no cluster.
//!
//! The seam is the OCI runtime spec: whoever has one, a root filesystem and a place for the log can start a container.
//!
//! # How it works
//!
//! Three kinds of process take part, each as small as its task:
//!
//! * The **launcher** (`launcher.rs`) is forked by [`Runtime::fork`] before the caller has any thread, and makes all
//!   other processes. Each request is handled by a fork of its own, so requests never wait for each other.
//! * The **keeper** (`keeper/`, no libc, some tens of KiB) is what such a fork becomes when the container runs: parent
//!   of its first process, reader of its output, writer of its exit record. It needs nobody else.
//! * **init** (`keeper/init.rs`) is PID 1 in the container, if wanted: reaps and forwards signals.
//!
//! What a container is, is in its run directory (`record.rs`): the caller may be killed at any moment, and a later one
//! finds everything there, running or ended.
//!
//! # Where to start reading
//!
//! * a start, from the caller to the application: [`Runtime::start`] in `runtime.rs`, `plan/mod.rs` (what an OCI spec means
//!   here), `launcher.rs`, `start/mod.rs` (the order of steps), `start/child.rs` (inside the namespaces),
//!   `start/process.rs` (the last steps), `keeper/main.rs`
//! * an exec: `exec/mod.rs`
//! * what is done with a container that is there: `runtime/container.rs`
//! * limits, devices, and kills for want of memory: `cgroup/mod.rs`; system call filters: `seccomp/mod.rs`
//! * output: `keeper/log.rs` writes it, `logs/mod.rs` reads it
//! * what the kernel can do, and the other ways on older ones: `features.rs`; what this host lacks: `doctor.rs`
//!
//! # Invariants
//!
//! * The plan is complete before anything is touched. What a spec asks for is done or refused by name.
//! * No path of an image is ever resolved by name from outside: `start/mounts.rs`.
//! * The caller's executable never enters a container: `start/child.rs` executes the sealed keeper program.
//! * A container never outlives its keeper, and never needs the caller.
//! * The state file exists before the application does; the exit record exists before the keeper ends.
//! * Nothing enters a container before its own application is executed, nor when it is ending.

mod cgroup;
mod doctor;
mod exec;
mod failure;
mod features;
mod frame;
mod id;
mod keeper;
mod launcher;
pub mod logs;
mod plan;
mod record;
mod request;
mod runtime;
pub mod seccomp;
mod start;
mod sys;

pub use cgroup::{OomKills, OomLook, OomWatch, Usage};
pub use doctor::{Check, CheckStatus, doctor};
pub use failure::{Failure, Step};
pub use id::{ContainerId, InvalidId};
pub use plan::PlanError;
pub use record::{Ending, ExitRecord};
pub use request::{ExecRequest, ExecStdio, LogTarget, Rootfs, StartRequest, TerminalSize, Trial};
pub use runtime::{
    Config, Container, Error, Exec, ExecStatus, ExitWatch, ForkError, LauncherWatch, Runtime, StartError,
    Started, Status,
};
