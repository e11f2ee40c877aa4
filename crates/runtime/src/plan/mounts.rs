//! Mounts and device nodes of the plan.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, LinuxNamespaceType, Mount};
use serde::{Deserialize, Serialize};

use super::{DeviceNode, Namespaces, PlanError};

/// One mount, in the order of the spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountPlan {
    /// Absolute, inside the container.
    pub(crate) target: String,
    pub(crate) kind: MountKind,
    /// MOUNT_ATTR flags to set and to clear.
    pub(crate) set: u64,
    pub(crate) clear: u64,
}

impl MountPlan {
    /// Whether this is what device nodes are made in.
    pub(crate) fn is_dev(&self) -> bool {
        let tmpfs = matches!(&self.kind, MountKind::Filesystem { kind, .. } if kind == "tmpfs");
        tmpfs && self.target == "/dev"
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MountKind {
    /// A host path.
    Bind {
        source: PathBuf,
        recursive: bool,
        /// Whether owners of files are mapped into the container's user namespace; a plan of before that was said has none.
        #[serde(default)]
        mapped: bool,
    },
    /// A new instance of a filesystem: its type and its parameters. A source would only be a label, and has no effect.
    Filesystem { kind: String, parameters: Vec<(String, Option<String>)> },
    /// The container's own cgroups.
    Cgroup,
}

pub(super) fn plan(mounts: &[Mount], namespaces: &Namespaces) -> Result<Vec<MountPlan>, PlanError> {
    mounts.iter().map(|mount| plan_one(mount, namespaces)).collect()
}

const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;

/// Options that set or clear attributes of the mount: name, set, clear.
const ATTRIBUTES: [(&str, u64, u64); 13] = [
    ("ro", RDONLY, 0),
    ("rw", 0, RDONLY),
    ("nosuid", NOSUID, 0),
    ("suid", 0, NOSUID),
    ("nodev", NODEV, 0),
    ("dev", 0, NODEV),
    ("noexec", NOEXEC, 0),
    ("exec", 0, NOEXEC),
    // The access time is one value of several bits, so setting it clears the others. Relatime is zero.
    ("relatime", 0, ATIME),
    ("noatime", NOATIME, ATIME),
    ("strictatime", STRICTATIME, ATIME),
    ("nodiratime", NODIRATIME, 0),
    ("diratime", 0, NODIRATIME),
];

fn plan_one(mount: &Mount, namespaces: &Namespaces) -> Result<MountPlan, PlanError> {
    let wrong = |reason: String| PlanError::new(format!("mounts[{}]", mount.destination().display()), reason);
    let target = plain(mount.destination())
        .ok_or_else(|| wrong("the destination must be an absolute path below /, without ..".into()))?;
    if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
        return Err(wrong("mappings of one mount are not supported; the container's own are applied".into()));
    }
    let (mut set, mut clear, mut bind, mut mapped) = (0, 0, None, None);
    let mut parameters = Vec::new();
    for option in mount.options().as_deref().unwrap_or_default() {
        if let Some((_, sets, clears)) = ATTRIBUTES.iter().find(|(name, ..)| name == option) {
            // The last one said wins.
            set = (set & !clears) | sets;
            clear = (clear & !sets) | clears;
            continue;
        }
        match option.as_str() {
            "bind" => bind = Some(false),
            "rbind" => bind = Some(true),
            "idmap" => mapped = Some(false),
            "ridmap" => mapped = Some(true),
            // Every mount of a container is private; nothing it does reaches the host.
            "private" | "rprivate" => {}
            "shared" | "rshared" | "slave" | "rslave" | "unbindable" | "runbindable" => {
                return Err(wrong(format!("{option} is not supported: mounts of a container are private")));
            }
            _ => parameters.push(match option.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (option.clone(), None),
            }),
        }
    }
    if mapped.is_some() && (mapped != bind || !namespaces.makes(LinuxNamespaceType::User)) {
        let reason =
            "idmap goes with bind, ridmap with rbind, and both need a user namespace of the container";
        return Err(wrong(reason.into()));
    }
    let mapped = mapped.is_some();
    let kind = match (bind, mount.typ().as_deref()) {
        (Some(recursive), _) => bind_kind(mount, recursive, mapped, &parameters),
        (None, Some("bind")) => bind_kind(mount, true, mapped, &parameters),
        (None, Some("cgroup" | "cgroup2")) if namespaces.new_cgroup => cgroup_kind(clear, &parameters),
        (None, Some("cgroup" | "cgroup2")) => Err("needs a new cgroup namespace".to_owned()),
        (None, Some("mqueue"))
            if !namespaces.makes(LinuxNamespaceType::Ipc) && !namespaces.joins(LinuxNamespaceType::Ipc) =>
        {
            Err("needs an ipc namespace of the container".to_owned())
        }
        (None, Some(kind @ ("proc" | "sysfs" | "tmpfs" | "devpts" | "mqueue"))) => {
            Ok(MountKind::Filesystem { kind: kind.to_owned(), parameters })
        }
        (None, kind) => Err(format!("type {:?} is not supported", kind.unwrap_or_default())),
    };
    Ok(MountPlan { target, kind: kind.map_err(wrong)?, set, clear })
}

/// The path without what means nothing in it, such as a slash at its end: `/dev` is known by its name.
fn plain(path: &Path) -> Option<String> {
    let mut parts = path.components();
    let absolute = parts.next() == Some(Component::RootDir);
    let names: Option<Vec<&str>> = parts
        .map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    let names = names.filter(|names| absolute && !names.is_empty())?;
    Some(format!("/{}", names.join("/")))
}

/// It is made from the groups that the container has.
fn cgroup_kind(clear: u64, parameters: &[(String, Option<String>)]) -> Result<MountKind, String> {
    if clear & RDONLY != 0 {
        return Err("a container's cgroups are always read-only; remove rw".to_owned());
    }
    match parameters.first() {
        Some((name, _)) => Err(format!("option {name:?} means nothing for a container's own cgroups")),
        None => Ok(MountKind::Cgroup),
    }
}

fn bind_kind(
    mount: &Mount,
    recursive: bool,
    mapped: bool,
    parameters: &[(String, Option<String>)],
) -> Result<MountKind, String> {
    if let Some((name, _)) = parameters.first() {
        return Err(format!("option {name:?} means nothing for a bind mount"));
    }
    match mount.source() {
        Some(source) if source.is_absolute() => {
            Ok(MountKind::Bind { source: source.clone(), recursive, mapped })
        }
        _ => Err("a bind mount needs an absolute source".to_owned()),
    }
}

/// Names in `/dev` that are no device nodes in a container.
const TAKEN: [&str; 8] = ["fd", "stdin", "stdout", "stderr", "ptmx", "pts", "shm", "mqueue"];

pub(super) fn devices(
    devices: &[LinuxDevice],
    mounts: &[MountPlan],
    namespaces: &Namespaces,
) -> Result<Vec<DeviceNode>, PlanError> {
    if !devices.is_empty() && !mounts.iter().any(MountPlan::is_dev) {
        return Err(PlanError::new("linux.devices", "are made in a tmpfs on /dev; add one to mounts"));
    }
    let mut nodes: Vec<DeviceNode> = Vec::new();
    for asked in devices {
        let node = device(asked, namespaces)?;
        if TAKEN.contains(&node.name.as_str()) || nodes.iter().any(|other| other.name == node.name) {
            return Err(PlanError::new(format!("linux.devices[/dev/{}]", node.name), "this name is taken"));
        }
        nodes.push(node);
    }
    Ok(nodes)
}

fn device(device: &LinuxDevice, namespaces: &Namespaces) -> Result<DeviceNode, PlanError> {
    let wrong = |reason: &str| PlanError::new(format!("linux.devices[{}]", device.path().display()), reason);
    let name = device.path().strip_prefix("/dev").ok().and_then(|name| name.to_str()).unwrap_or_default();
    // One name, so that the node is made in the container's own /dev and nowhere else.
    if name.is_empty() || name.contains('/') || name == ".." {
        return Err(wrong("must be a file directly in /dev"));
    }
    let chosen = device.file_mode().is_some() || device.uid().is_some() || device.gid().is_some();
    if chosen && namespaces.makes(LinuxNamespaceType::User) {
        return Err(wrong("with a user namespace it is the host's node: remove fileMode, uid and gid"));
    }
    let block = match device.typ() {
        LinuxDeviceType::B => true,
        LinuxDeviceType::C | LinuxDeviceType::U => false,
        LinuxDeviceType::A | LinuxDeviceType::P => return Err(wrong("must be a character or block device")),
    };
    let number = |value: i64| u32::try_from(value).map_err(|_| wrong("has a bad device number"));
    Ok(DeviceNode {
        name: name.to_owned(),
        block,
        major: number(device.major())?,
        minor: number(device.minor())?,
        mode: device.file_mode().unwrap_or(0o666) & 0o777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}
