//! Control groups, v1, v2 and both at once (hybrid).
//!
//! A container gets a group only where a limit or a number that we report needs one: every directory costs time to make
//! and to remove. Which hierarchies there are is in `layout.rs`; what each controller's files look like in `v1.rs` and
//! `v2.rs`, which only write files below the paths they are given, so tests can give them a temporary directory. What is
//! read later is in `usage.rs` and `memory.rs`; how all of a container is killed in `kill.rs`.
//!
//! Entering is the costly part, see there: on v1 the container's first process writes `0` to `tasks` itself, on v2 it is
//! cloned into its group. Writing a pid to `cgroup.procs` waits for an RCU grace period, 10 ms on an idle host.

mod layout;

mod v1;
mod v2;

mod devices;
mod kill;
mod memory;
mod usage;

pub(crate) use layout::Layout;
pub(crate) use memory::UNLIMITED_BYTES;
pub use memory::{OomKills, OomLook, OomWatch};
pub use usage::Usage;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::failure::{At, Failure, Step};
use crate::id::ContainerId;
use crate::plan::{DeviceRule, Limits};

/// The groups of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Groups {
    /// Its group in the cgroup2 tree, with or without controllers there.
    pub(crate) unified: Option<PathBuf>,
    /// Its v1 groups by controller; removed with the container.
    pub(crate) v1: BTreeMap<String, PathBuf>,
    /// The v1 devices group that all containers with only the standard devices share.
    pub(crate) shared_devices: Option<PathBuf>,
    /// Whether memory is counted in the cgroup2 group.
    pub(crate) memory_in_unified: bool,
}

/// Which flavour of files a directory has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

impl Groups {
    /// Decides which groups a container with these limits gets, or says which limit could not hold here. Touches nothing.
    pub(crate) fn plan(
        layout: &Layout,
        parent: &str,
        id: &ContainerId,
        limits: &Limits,
    ) -> Result<Groups, Failure> {
        layout.can_hold(limits)?;
        let wanted = |controller: &str| match controller {
            "memory" => limits.memory_bytes.is_some(),
            "pids" => limits.pids.is_some(),
            "cpu" => limits.cpu_quota_us.is_some() || limits.cpu_shares.is_some(),
            // The cgroup2 tree counts time without any controller.
            "cpuacct" => layout.unified.is_none(),
            "devices" => !limits.devices.is_empty(),
            _ => false,
        };
        let path = |mount: &PathBuf| mount.join(parent).join(id.as_str());
        // Controllers that are mounted together are entered together.
        let with = |mount: &PathBuf| layout.v1.iter().any(|(name, other)| other == mount && wanted(name));
        let groups = layout.v1.iter().filter(|(_, mount)| with(mount));
        let v1 = groups.map(|(name, mount)| (name.clone(), path(mount))).collect();
        let shared = |mount: &PathBuf| mount.join(parent).join(v1::STANDARD_DEVICES);
        Ok(Groups {
            unified: layout.unified.as_ref().map(path),
            shared_devices: layout.v1.get("devices").filter(|_| limits.devices.is_empty()).map(shared),
            v1,
            memory_in_unified: layout.in_unified("memory"),
        })
    }

    /// Every group that a container of this name can have.
    pub(crate) fn by_name(layout: &Layout, parent: &str, id: &ContainerId) -> Groups {
        let path = |mount: &PathBuf| mount.join(parent).join(id.as_str());
        Groups {
            unified: layout.unified.as_ref().map(path),
            v1: layout.v1.iter().map(|(name, mount)| (name.clone(), path(mount))).collect(),
            shared_devices: None,
            memory_in_unified: layout.in_unified("memory"),
        }
    }

    pub(crate) fn exist(&self) -> bool {
        self.v1.values().chain(&self.unified).any(|path| path.is_dir())
    }

    /// Makes the groups and sets the limits.
    pub(crate) fn create(&self, limits: &Limits) -> Result<(), Failure> {
        for (controller, path) in &self.v1 {
            make(path)?;
            v1::write_limits(controller, path, limits)?;
        }
        if let Some(path) = &self.unified {
            make(path)?;
            v2::write_limits(path, limits, |controller| !self.v1.contains_key(controller))?;
            if self.shared_devices.is_none() && !self.v1.contains_key("devices") {
                let rules: Vec<DeviceRule> =
                    DeviceRule::STANDARD.into_iter().chain(limits.devices.clone()).collect();
                devices::attach(path, &rules)
                    .at(Step::Cgroup, format_args!("device rules of {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// The `tasks` files into which a process writes `0` to enter the v1 groups.
    pub(crate) fn entrances(&self) -> Result<Vec<OwnedFd>, Failure> {
        let mut paths: Vec<&PathBuf> = self.v1.values().chain(&self.shared_devices).collect();
        paths.sort();
        paths.dedup();
        let open = |path: &&PathBuf| {
            let tasks = path.join("tasks");
            rustix::fs::open(&tasks, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                .at(Step::Cgroup, tasks.display())
        };
        paths.iter().map(open).collect()
    }

    /// The cgroup2 group to be cloned into.
    pub(crate) fn unified_dir(&self) -> Result<Option<OwnedFd>, Failure> {
        self.unified.as_deref().map(|path| open_dir(path).at(Step::Cgroup, path.display())).transpose()
    }

    /// Where memory is counted, if it is.
    pub(crate) fn memory(&self) -> Option<(&Path, Version)> {
        match (self.v1.get("memory"), &self.unified) {
            (Some(path), _) => Some((path, Version::V1)),
            (None, Some(path)) if self.memory_in_unified => Some((path, Version::V2)),
            (None, _) => None,
        }
    }

    /// Removes the groups. The last processes may take a moment to leave after they were killed.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        for path in self.v1.values().chain(&self.unified) {
            loop {
                match fs::remove_dir(path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                        thread::sleep(Duration::from_millis(2));
                    }
                    Err(error) => {
                        return Err(io::Error::new(
                            error.kind(),
                            format!("remove cgroup {}: {error}", path.display()),
                        ));
                    }
                    Ok(()) => break,
                }
            }
        }
        Ok(())
    }

    /// Every process in the container's own groups.
    pub(crate) fn processes(&self) -> io::Result<Vec<i32>> {
        let Some(group) = self.unified.iter().chain(self.v1.values()).next() else { return Ok(Vec::new()) };
        let text = fs::read_to_string(group.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }
}

pub(crate) fn open_dir(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Makes a group, unless it is there.
fn make(path: &Path) -> Result<(), Failure> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.at(Step::Cgroup, path.display()),
    }
}

/// Writes one control file.
fn write(dir: &Path, file: &str, value: impl Display) -> Result<(), Failure> {
    let path = dir.join(file);
    fs::write(&path, value.to_string()).at(Step::Cgroup, format_args!("{} = {value}", path.display()))
}

/// The limit of swap: a kernel that does not account for it lacks the file, and creating one is refused in that filesystem.
fn write_if_there(dir: &Path, file: &str, value: impl Display) -> Result<(), Failure> {
    match write(dir, file, value) {
        Err(Failure { errno: Some(libc::ENOENT | libc::EACCES | libc::EPERM), .. }) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_limits_get_groups() -> Result<(), Box<dyn std::error::Error>> {
        let layout = Layout::of_mounts(layout::tests::HYBRID);
        let id: ContainerId = "web.1".parse()?;
        let none = Groups::plan(&layout, "wharf", &id, &Limits::default())?;
        assert!(none.v1.is_empty());
        assert_eq!(none.unified.as_deref(), Some(Path::new("/c/unified/wharf/web.1")));
        let limited = Limits { memory_bytes: Some(1 << 20), ..Limits::default() };
        let groups = Groups::plan(&layout, "wharf", &id, &limited)?;
        assert_eq!(groups.v1.keys().collect::<Vec<_>>(), ["memory"]);
        assert_eq!(groups.memory(), Some((Path::new("/c/memory/wharf/web.1"), Version::V1)));
        Ok(())
    }

    #[test]
    fn a_limit_that_cannot_hold_is_refused() -> Result<(), crate::InvalidId> {
        let id: ContainerId = "web.1".parse()?;
        let check = |mounts: &str, limits: &Limits| {
            Groups::plan(&Layout::of_mounts(mounts), "wharf", &id, limits)
                .map(drop)
                .map_err(|error| error.to_string())
        };
        let lacks = |what: &str| {
            Err(format!(
                "cgroup {what}: this host has no such controller, so what it shall limit would not be; `wharf doctor` says more"
            ))
        };
        let pids = Limits { pids: Some(5), ..Limits::default() };
        assert_eq!(check(layout::tests::HYBRID, &pids), lacks("pids"));
        assert_eq!(check("cgroup2 /c cgroup2 rw 0 0\n", &pids), lacks("pids"));
        let memory = "cgroup /c/memory cgroup rw,memory 0 0\n";
        assert_eq!(check(memory, &Limits::default()), lacks("devices"));
        Ok(())
    }
}
