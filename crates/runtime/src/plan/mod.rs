//! What shall be started, checked and in plain terms: an OCI spec with everything decided.
//!
//! The plan is made in the caller's process, where mistakes are cheap, and is complete: the launcher only executes it.
//! Whatever a spec asks for is either in the plan or refused by name; nothing is read and ignored.

mod limits;
mod mounts;
mod process;

pub(crate) use limits::{DeviceRule, Limits};
pub(crate) use mounts::{MountKind, MountPlan};
pub(crate) use process::{ProcessPlan, Rlimit};

use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, Spec};
use serde::{Deserialize, Serialize};

use crate::id::ContainerId;
use crate::{LogTarget, Rootfs, StartRequest};

/// The spec asks for something that is wrong or that this runtime does not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} in the OCI spec: {reason}")]
pub struct PlanError {
    /// The field's name as in the OCI runtime spec, such as `linux.namespaces`.
    pub field: String,
    pub reason: String,
}

impl PlanError {
    pub(crate) fn new(field: impl Into<String>, reason: impl Into<String>) -> PlanError {
        PlanError { field: field.into(), reason: reason.into() }
    }
}

/// Refuses each of the named fields that is set.
pub(crate) fn refuse(fields: &[(&str, bool)]) -> Result<(), PlanError> {
    match fields.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(PlanError::new(*field, "not supported by this runtime; remove it")),
        None => Ok(()),
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) id: ContainerId,
    pub(crate) rootfs: Rootfs,
    pub(crate) read_only_root: bool,
    pub(crate) mounts: Vec<MountPlan>,
    pub(crate) devices: Vec<DeviceNode>,
    pub(crate) masked: Vec<String>,
    pub(crate) read_only: Vec<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) sysctls: Vec<(String, String)>,
    pub(crate) namespaces: Namespaces,
    pub(crate) process: ProcessPlan,
    pub(crate) limits: Limits,
    pub(crate) log: LogTarget,
    pub(crate) deadline: Option<PathBuf>,
    pub(crate) init: bool,
}

/// A node in `/dev` beside the standard ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceNode {
    /// Relative to `/dev`.
    pub(crate) name: String,
    pub(crate) block: bool,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Namespaces {
    /// CLONE_NEW flags of the namespaces to make, without the cgroup namespace.
    pub(crate) new: u64,
    /// Made after the process has entered its cgroups, so that these are the namespace's root.
    pub(crate) new_cgroup: bool,
    /// Existing ones to enter: the CLONE_NEW flag and the path.
    pub(crate) join: Vec<(u64, PathBuf)>,
    /// Ranges of a new user namespace, empty without one.
    pub(crate) uids: Vec<IdRange>,
    pub(crate) gids: Vec<IdRange>,
}

impl Namespaces {
    pub(crate) fn makes(&self, kind: LinuxNamespaceType) -> bool {
        self.new & kind as u64 != 0
    }

    pub(crate) fn joins(&self, kind: LinuxNamespaceType) -> bool {
        self.join.iter().any(|(flag, _)| *flag == kind as u64)
    }
}

/// One line of a `uid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdRange {
    pub(crate) container: u32,
    pub(crate) host: u32,
    pub(crate) size: u32,
}

impl Plan {
    /// Decides everything, or says which field of the spec cannot be done.
    pub(crate) fn of(request: &StartRequest) -> Result<Plan, PlanError> {
        let spec = &request.spec;
        // Annotations are for others: the OCI spec forbids an error about unknown ones. So is `root.path`, see `StartRequest`.
        refuse_foreign(spec)?;
        if !spec.version().starts_with("1.") {
            let reason = format!("{:?} is not known; this runtime understands 1.x", spec.version());
            return Err(PlanError::new("ociVersion", reason));
        }
        let linux = spec.linux().as_ref().ok_or_else(|| PlanError::new("linux", "missing"))?;
        refuse_unsupported(linux)?;
        let process = spec.process().as_ref().ok_or_else(|| PlanError::new("process", "missing"))?;
        if process.terminal().unwrap_or(false) {
            let reason = "a container's output goes to its log; use exec for an interactive terminal";
            return Err(PlanError::new("process.terminal", reason));
        }
        let namespaces = namespaces(linux)?;
        let mounts = mounts::plan(spec.mounts().as_deref().unwrap_or_default(), &namespaces)?;
        let devices = mounts::devices(linux.devices().as_deref().unwrap_or_default(), &mounts, &namespaces)?;
        Ok(Plan {
            id: request.id.clone(),
            rootfs: request.rootfs.clone(),
            read_only_root: spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false)),
            mounts,
            devices,
            masked: absolute("linux.maskedPaths", linux.masked_paths())?,
            read_only: absolute("linux.readonlyPaths", linux.readonly_paths())?,
            hostname: in_own_uts("hostname", spec.hostname(), &namespaces)?,
            domainname: in_own_uts("domainname", spec.domainname(), &namespaces)?,
            sysctls: sysctls(linux, &namespaces)?,
            process: ProcessPlan::of(process, linux.seccomp().is_some())?,
            limits: Limits::of(linux)?,
            log: checked_log(&request.log)?,
            deadline: request.deadline.clone(),
            namespaces,
            init: request.init,
        })
    }
}

fn refuse_foreign(spec: &Spec) -> Result<(), PlanError> {
    refuse(&[
        ("hooks", spec.hooks().is_some()),
        ("solaris", spec.solaris().is_some()),
        ("windows", spec.windows().is_some()),
        ("vm", spec.vm().is_some()),
        ("zos", spec.zos().is_some()),
        // The OCI spec has them in `linux`.
        ("uidMappings", spec.uid_mappings().is_some()),
        ("gidMappings", spec.gid_mappings().is_some()),
    ])
}

fn refuse_unsupported(linux: &Linux) -> Result<(), PlanError> {
    let private = matches!(linux.rootfs_propagation().as_deref(), None | Some("private" | "rprivate"));
    refuse(&[
        ("linux.netDevices", linux.net_devices().is_some()),
        ("linux.cgroupsPath", linux.cgroups_path().is_some()),
        ("linux.rootfsPropagation", !private),
        ("linux.mountLabel", linux.mount_label().is_some()),
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
        ("linux.personality", linux.personality().is_some()),
        ("linux.timeOffsets", linux.time_offsets().is_some()),
    ])
}

fn namespaces(linux: &Linux) -> Result<Namespaces, PlanError> {
    let mut planned = Namespaces::default();
    for namespace in linux.namespaces().as_deref().unwrap_or_default() {
        let kind = namespace.typ();
        let flag = kind as u64;
        let repeated = planned.new & flag != 0 || planned.joins(kind);
        if repeated || (kind == LinuxNamespaceType::Cgroup && planned.new_cgroup) {
            return Err(PlanError::new("linux.namespaces", format!("{kind} is listed twice")));
        }
        match (kind, namespace.path()) {
            (LinuxNamespaceType::Cgroup, None) => planned.new_cgroup = true,
            (_, None) => planned.new |= flag,
            (LinuxNamespaceType::Network | LinuxNamespaceType::Ipc | LinuxNamespaceType::Uts, Some(path)) => {
                planned.join.push((flag, path.clone()));
            }
            (_, Some(_)) => {
                return Err(PlanError::new(
                    "linux.namespaces",
                    format!("an existing {kind} namespace cannot be joined"),
                ));
            }
        }
    }
    for needed in [LinuxNamespaceType::Mount, LinuxNamespaceType::Pid] {
        if !planned.makes(needed) {
            let reason = format!("a container needs a new {needed} namespace of its own; add it");
            return Err(PlanError::new("linux.namespaces", reason));
        }
    }
    planned.uids = id_ranges("linux.uidMappings", linux.uid_mappings(), &planned)?;
    planned.gids = id_ranges("linux.gidMappings", linux.gid_mappings(), &planned)?;
    Ok(planned)
}

fn id_ranges(
    field: &str,
    given: &Option<Vec<LinuxIdMapping>>,
    planned: &Namespaces,
) -> Result<Vec<IdRange>, PlanError> {
    let range = |map: &LinuxIdMapping| IdRange {
        container: map.container_id(),
        host: map.host_id(),
        size: map.size(),
    };
    let ranges: Vec<IdRange> = given.as_deref().unwrap_or_default().iter().map(range).collect();
    let fits = |first: u32, size: u32| size > 0 && first.checked_add(size - 1).is_some();
    if !ranges.iter().all(|range| fits(range.container, range.size) && fits(range.host, range.size)) {
        return Err(PlanError::new(field, "a range is empty, or goes beyond the largest id"));
    }
    match (planned.makes(LinuxNamespaceType::User), ranges.iter().any(|range| range.container == 0)) {
        (true, false) => Err(PlanError::new(field, "a user namespace needs a mapping for id 0")),
        (false, _) if !ranges.is_empty() => {
            Err(PlanError::new(field, "mappings need a user namespace in linux.namespaces"))
        }
        _ => Ok(ranges),
    }
}

fn absolute(field: &str, paths: &Option<Vec<String>>) -> Result<Vec<String>, PlanError> {
    let paths = paths.clone().unwrap_or_default();
    match paths.iter().find(|path| !path.starts_with('/')) {
        Some(path) => Err(PlanError::new(field, format!("{path:?} is not absolute"))),
        None => Ok(paths),
    }
}

fn in_own_uts(field: &str, name: &Option<String>, planned: &Namespaces) -> Result<Option<String>, PlanError> {
    match name {
        // Setting it anywhere else would rename the host, or every container of the pod.
        Some(_) if !planned.makes(LinuxNamespaceType::Uts) => {
            Err(PlanError::new(field, "needs a new uts namespace"))
        }
        _ => Ok(name.clone()),
    }
}

/// Only those that belong to a namespace of the container; any other would change the host.
fn sysctls(linux: &Linux, planned: &Namespaces) -> Result<Vec<(String, String)>, PlanError> {
    const IPC: [&str; 8] =
        ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    let own = |kind| planned.makes(kind) || planned.joins(kind);
    let mut wanted: Vec<(String, String)> = linux.sysctl().clone().unwrap_or_default().into_iter().collect();
    wanted.sort();
    for (name, _) in &wanted {
        let parts: Vec<&str> = name.split('.').collect();
        let allowed = match parts.as_slice() {
            ["net", _, ..] => own(LinuxNamespaceType::Network),
            ["kernel", name] => IPC.contains(name) && own(LinuxNamespaceType::Ipc),
            ["fs", "mqueue", _] => own(LinuxNamespaceType::Ipc),
            _ => false,
        };
        let plain = parts.iter().all(|part| !part.is_empty() && !part.contains('/'));
        if !allowed || !plain {
            return Err(PlanError::new(
                "linux.sysctl",
                format!("{name} belongs to no namespace of the container"),
            ));
        }
    }
    Ok(wanted)
}

fn checked_log(log: &LogTarget) -> Result<LogTarget, PlanError> {
    let name = log.path.file_name().map_or(0, |name| name.len());
    if !log.path.is_absolute() || name == 0 || name > 240 {
        return Err(PlanError::new(
            "log.path",
            format!("{} is no absolute path of a file", log.path.display()),
        ));
    }
    if log.max_bytes < 64 * 1024 || log.max_files == 0 || log.max_files > 1000 {
        return Err(PlanError::new("log", "max_bytes must be at least 65536, max_files 1 to 1000"));
    }
    Ok(log.clone())
}

#[cfg(test)]
mod tests;
