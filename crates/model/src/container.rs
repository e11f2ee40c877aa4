//! One container of a replica.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Bytes, Digest, Health, Level, MilliCpu, Name};

/// What one container runs, with what, and with which rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    pub name: Name,
    pub image: ImageRef,
    /// Replaces the image's entrypoint, and then also its cmd (as Kubernetes' `command` does).
    pub command: Option<Vec<String>>,
    /// Replaces the image's cmd.
    pub args: Option<Vec<String>>,
    /// Absolute; the image's, else `/`.
    pub working_dir: Option<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`; the image's, else root.
    pub user: Option<String>,
    /// Added to the image's environment; the same name replaces.
    pub env: BTreeMap<String, String>,
    pub resources: Resources,
    pub health: Health,
    /// A Linux signal number, 1 to 64; the image's, else SIGTERM.
    pub stop_signal: Option<u8>,
    pub mounts: Vec<Mount>,
    pub read_only_rootfs: bool,
    pub capabilities: Capabilities,
    /// Whether wharf's own init is PID 1 and the command its child.
    pub init: bool,
}

impl ContainerSpec {
    /// The same as [`crate::ReplicaTemplate::needs`], of one container.
    pub fn needs(&self) -> Level {
        let ContainerSpec {
            name: _,
            image: _,
            command: _,
            args: _,
            working_dir: _,
            user: _,
            env: _,
            resources: _,
            health: _,
            stop_signal: _,
            mounts: _,
            read_only_rootfs: _,
            capabilities: _,
            init: _,
        } = self;
        Level::FIRST
    }
}

/// An image as the user wrote it, and what it meant when it was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef {
    pub reference: String,
    /// The manifest's digest; set when a spec is applied, and always set in a revision.
    pub digest: Option<Digest>,
}

/// Limits. An absent CPU limit is none; memory and pids have defaults, so that there always is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Also what the scheduler reserves.
    pub cpu: Option<MilliCpu>,
    /// Also what the scheduler reserves. Swap is part of it, not beside it.
    pub memory: Bytes,
    pub pids: u32,
}

impl Default for Resources {
    fn default() -> Resources {
        Resources { cpu: None, memory: Bytes(512 << 20), pids: 512 }
    }
}

/// What is mounted into a container beside its image. Always nosuid and nodev.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    Tmpfs {
        /// Absolute, inside the container.
        target: String,
        /// Counts against the container's memory.
        size: Bytes,
    },
    HostPath {
        /// Absolute, on the node; must exist.
        source: String,
        target: String,
        read_only: bool,
    },
}

impl Mount {
    pub fn target(&self) -> &str {
        match self {
            Mount::Tmpfs { target, .. } | Mount::HostPath { target, .. } => target,
        }
    }
}

/// Changes to the default capability set. Names are upper-case without `CAP_`, such as `NET_BIND_SERVICE`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub add: BTreeSet<String>,
    /// `ALL` drops every one that is not in `add`.
    pub drop: BTreeSet<String>,
}

impl Capabilities {
    /// What a container may do when its manifest asks for nothing: a subset of Docker's fourteen, without
    /// those that let it make devices or speak raw network (MKNOD, NET_RAW, AUDIT_WRITE).
    pub const DEFAULT: [&'static str; 11] = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];

    /// Every capability of Linux 6.x, in the kernel's order. Source: capabilities(7).
    pub const ALL: [&'static str; 41] = [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ];

    /// What the container ends up with.
    pub fn effective(&self) -> BTreeSet<&str> {
        let keeps_default = |name: &&str| !self.drop.contains("ALL") && !self.drop.contains(*name);
        Capabilities::DEFAULT
            .into_iter()
            .filter(keeps_default)
            .chain(self.add.iter().map(String::as_str))
            .collect()
    }
}
