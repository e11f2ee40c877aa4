//! Control groups, v1, v2 and both at once (hybrid).
//!
//! A container gets a group only where a limit or a number that we report needs one: every directory costs time to make
//! and to remove. What each controller's files look like is in `v1.rs` and `v2.rs`; both only write files below the
//! paths they are given, so tests can give them a temporary directory.
//!
//! Entering is the costly part, see there: on v1 the container's first process writes `0` to `tasks` itself, on v2 it is
//! cloned into its group. Writing a pid to `cgroup.procs` waits for an RCU grace period, 10 ms on an idle host.

mod devices;
mod v1;
mod v2;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use crate::failure::{At, Failure, Step};
use crate::features::features;
use crate::id::ContainerId;
use crate::plan::{DeviceRule, Limits};

/// Where this host's hierarchies are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The cgroup2 tree, on hybrid hosts usually without useful controllers.
    pub(crate) unified: Option<PathBuf>,
    /// Controllers that the cgroup2 tree has.
    pub(crate) unified_controllers: Vec<String>,
    /// v1 controllers and their mount points; controllers mounted together share one.
    pub(crate) v1: BTreeMap<String, PathBuf>,
}

/// The controllers this runtime has a use for.
const USED: [&str; 5] = ["memory", "pids", "cpu", "cpuacct", "devices"];

impl Layout {
    pub(crate) fn detect() -> io::Result<Layout> {
        let mut layout = Layout::of_mounts(&fs::read_to_string("/proc/self/mounts")?);
        if let Some(unified) = &layout.unified {
            let controllers = fs::read_to_string(unified.join("cgroup.controllers"))?;
            layout.unified_controllers = controllers.split_whitespace().map(str::to_owned).collect();
        }
        if layout.unified.is_none() && layout.v1.is_empty() {
            return Err(io::Error::other("no cgroup hierarchy is mounted; mount cgroup2 on /sys/fs/cgroup"));
        }
        Ok(layout)
    }

    /// Reads the format of /proc/self/mounts: source, target, type, options, two numbers.
    fn of_mounts(mounts: &str) -> Layout {
        let mut layout = Layout::default();
        for line in mounts.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [_, target, kind, options, ..] = fields.as_slice() else { continue };
            match *kind {
                // The first is the host's own; later ones may belong to something that runs inside it.
                "cgroup2" if layout.unified.is_none() => layout.unified = Some(PathBuf::from(target)),
                "cgroup" => {
                    for controller in options.split(',').filter(|option| USED.contains(option)) {
                        layout.v1.entry(controller.to_owned()).or_insert_with(|| PathBuf::from(target));
                    }
                }
                _ => {}
            }
        }
        layout
    }

    fn in_unified(&self, controller: &str) -> bool {
        !self.v1.contains_key(controller) && self.unified_controllers.iter().any(|known| known == controller)
    }

    /// Makes the parent groups, and lets the cgroup2 one hand its controllers down.
    pub(crate) fn prepare(&self, parent: &str) -> io::Result<()> {
        for mount in self.v1.values() {
            make(&mount.join(parent))?;
        }
        if let Some(devices) = self.v1.get("devices") {
            v1::prepare_standard_devices(&make(&devices.join(parent).join(v1::STANDARD_DEVICES))?)?;
        }
        if let Some(unified) = &self.unified {
            v2::prepare(unified, parent, |controller| self.in_unified(controller))?;
        }
        Ok(())
    }

    /// Whether the parent groups are there; others may have removed them while they were empty.
    pub(crate) fn is_prepared(&self, parent: &str) -> bool {
        self.v1.values().chain(&self.unified).all(|mount| mount.join(parent).is_dir())
    }

    /// The containers that have a group, whatever else is known of them.
    pub(crate) fn containers(&self, parent: &str) -> io::Result<BTreeSet<ContainerId>> {
        let mut found = BTreeSet::new();
        for mount in self.v1.values().chain(&self.unified) {
            let entries = match fs::read_dir(mount.join(parent)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    found.extend(entry.file_name().to_string_lossy().parse::<ContainerId>());
                }
            }
        }
        Ok(found)
    }

    /// Removes the parent groups that are empty; one that still has containers stays.
    pub(crate) fn remove_parents(&self, parent: &str) -> io::Result<()> {
        if let Some(devices) = self.v1.get("devices") {
            remove(&devices.join(parent).join(v1::STANDARD_DEVICES))?;
        }
        for mount in self.v1.values().chain(&self.unified) {
            remove(&mount.join(parent))?;
        }
        Ok(())
    }
}

fn make(path: &Path) -> io::Result<PathBuf> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(path.to_owned()),
    }
}

/// Removes a group unless it is gone already or still in use.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::EBUSY) =>
        {
            Ok(())
        }
        other => other,
    }
}

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
    /// Decides which groups a container with these limits gets. Touches nothing.
    pub(crate) fn plan(layout: &Layout, parent: &str, id: &ContainerId, limits: &Limits) -> Groups {
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
        Groups {
            unified: layout.unified.as_ref().map(path),
            shared_devices: layout.v1.get("devices").filter(|_| limits.devices.is_empty()).map(shared),
            v1,
            memory_in_unified: layout.in_unified("memory"),
        }
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
            make(path).at(Step::Cgroup, path.display())?;
            v1::write_limits(controller, path, limits).at(Step::Cgroup, path.display())?;
        }
        if let Some(path) = &self.unified {
            make(path).at(Step::Cgroup, path.display())?;
            v2::write_limits(path, limits, |controller| !self.v1.contains_key(controller))
                .at(Step::Cgroup, path.display())?;
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

    /// Kills every process of the cgroup2 group at once, where there is one.
    pub(crate) fn kill(&self) -> io::Result<()> {
        let Some(path) = &self.unified else { return Ok(()) };
        if features().cgroup_kill {
            match fs::write(path.join("cgroup.kill"), "1") {
                // Linux before 5.14 has no such file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => return other,
            }
        }
        kill_each(path)
    }

    /// Kills every process of all the groups, for whoever does not know in which of them it is.
    pub(crate) fn kill_everywhere(&self) -> io::Result<()> {
        self.kill()?;
        self.v1.values().try_for_each(|path| kill_each(path))
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

    pub(crate) fn usage(&self) -> Usage {
        let unified = |file: &str| self.unified.as_ref().map(|path| path.join(file));
        let v1 = |controller: &str, file: &str| self.v1.get(controller).map(|path| path.join(file));
        Usage {
            memory_bytes: number(v1("memory", "memory.usage_in_bytes").or_else(|| unified("memory.current"))),
            cpu_ns: number(v1("cpuacct", "cpuacct.usage"))
                .or_else(|| keyed(&unified("cpu.stat")?, "usage_usec").map(|micros| micros * 1000)),
            pids: number(v1("pids", "pids.current").or_else(|| unified("pids.current"))),
        }
    }
}

/// Kills the processes of a cgroup2 group one by one, until a look shows none that was not told yet. A removed group has
/// no processes.
fn kill_each(group: &Path) -> io::Result<()> {
    let processes = || -> io::Result<BTreeSet<i32>> {
        match fs::read_to_string(group.join("cgroup.procs")) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
                Ok(BTreeSet::new())
            }
            other => Ok(other?.lines().filter_map(|line| line.parse().ok()).collect()),
        }
    };
    let open = |pid: &i32| {
        let pidfd = rustix::process::pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok()?;
        Some((*pid, pidfd))
    };
    let mut told = BTreeSet::new();
    loop {
        let fresh: Vec<_> = processes()?.difference(&told).filter_map(open).collect();
        // Who is in the group after it was opened is who was opened, whatever happened to its number before.
        let members = processes()?;
        let fresh: Vec<_> = fresh.into_iter().filter(|(pid, _)| members.contains(pid)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        for (pid, pidfd) in fresh {
            told.insert(pid);
            // It may have ended by itself.
            let _dead = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        }
    }
}

/// What a container uses now. A missing number is one that its cgroups do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub memory_bytes: Option<u64>,
    /// Processor time since the container started.
    pub cpu_ns: Option<u64>,
    pub pids: Option<u64>,
}

fn number(path: Option<PathBuf>) -> Option<u64> {
    fs::read_to_string(path?).ok()?.trim().parse().ok()
}

/// The number after `key` in a file of `key value` lines.
fn keyed(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

pub(crate) fn open_dir(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Writes one control file.
fn write(dir: &Path, file: &str, value: impl std::fmt::Display) -> io::Result<()> {
    fs::write(dir.join(file), value.to_string()).map_err(|error| match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "cgroup /c/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\ncgroup /c/memory cgroup rw,memory 0 0\n\
                          cgroup /c/systemd cgroup rw,name=systemd 0 0\ncgroup2 /c/unified cgroup2 rw 0 0\n\
                          cgroup2 /other cgroup2 rw 0 0\n";

    #[test]
    fn a_hybrid_host_is_read_from_its_mounts() {
        let layout = Layout::of_mounts(HYBRID);
        assert_eq!(layout.unified.as_deref(), Some(Path::new("/c/unified")));
        let v1: Vec<(&str, &Path)> =
            layout.v1.iter().map(|(name, path)| (name.as_str(), path.as_path())).collect();
        let both = Path::new("/c/cpu,cpuacct");
        assert_eq!(v1, [("cpu", both), ("cpuacct", both), ("memory", Path::new("/c/memory"))]);
    }

    #[test]
    fn only_limits_get_groups() -> Result<(), crate::InvalidId> {
        let layout = Layout::of_mounts(HYBRID);
        let id: ContainerId = "web.1".parse()?;
        let none = Groups::plan(&layout, "wharf", &id, &Limits::default());
        assert!(none.v1.is_empty());
        assert_eq!(none.unified.as_deref(), Some(Path::new("/c/unified/wharf/web.1")));
        let limited = Limits { memory_bytes: Some(1 << 20), ..Limits::default() };
        let groups = Groups::plan(&layout, "wharf", &id, &limited);
        assert_eq!(groups.v1.keys().collect::<Vec<_>>(), ["memory"]);
        assert_eq!(groups.memory(), Some((Path::new("/c/memory/wharf/web.1"), Version::V1)));
        Ok(())
    }
}
