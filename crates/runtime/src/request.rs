//! What a caller asks for.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::{Process, Spec};
use serde::{Deserialize, Serialize};

use crate::id::ContainerId;

/// A container to start.
#[derive(Clone, Debug)]
pub struct StartRequest {
    pub id: ContainerId,
    /// What it asks for is done or refused; `root.path` is not read, `rootfs` takes its place.
    pub spec: Spec,
    pub rootfs: Rootfs,
    pub log: LogTarget,
    /// A file that says when the container is killed at the latest, whatever becomes of the caller: in its first eight
    /// bytes, little-endian, milliseconds of CLOCK_BOOTTIME. Writing another time there puts the end off; the file must
    /// stay the same one, and one that cannot be read says that the time has come.
    pub deadline: Option<PathBuf>,
    /// Whether the runtime's own init is PID 1 and the process its child.
    pub init: bool,
}

/// Where the root filesystem comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    Overlay {
        /// Read-only layers, the top one first.
        lowers: Vec<PathBuf>,
        /// Scratch that ends with the container: it is not synced, so after a crash of the host it must be made anew.
        upper: PathBuf,
        /// In the same filesystem as `upper`.
        work: PathBuf,
    },
    Dir(PathBuf),
}

/// What shall be tried before containers with user namespaces count on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trial {
    /// Layers in this directory, under which a scratch directory is made.
    Layers { dir: PathBuf },
    /// A bind mount with the options `idmap`, or when recursive `ridmap`.
    Bind { source: PathBuf, recursive: bool },
}

/// Where output goes, in the CRI log format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTarget {
    /// Absolute; its directory must exist. Older files get `.1`, `.2` and so on behind the name.
    pub path: PathBuf,
    /// A file is rotated before it grows beyond this. At least 64 KiB.
    pub max_bytes: u64,
    /// Files kept, the current one included. At least 1.
    pub max_files: u32,
}

/// A process to start in a running container.
#[derive(Debug)]
pub struct ExecRequest {
    pub id: ContainerId,
    /// Without `capabilities` or `rlimits` it gets the container's; never more than the container has.
    pub process: Process,
    pub stdio: ExecStdio,
}

#[derive(Debug)]
pub enum ExecStdio {
    /// A new terminal of this size.
    Tty(TerminalSize),
    Fds {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}
