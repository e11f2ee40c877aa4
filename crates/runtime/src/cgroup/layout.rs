//! Where control groups are on this host, and the groups above those of containers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{make, v1, v2};
use crate::failure::{Failure, Step};
use crate::id::ContainerId;
use crate::plan::Limits;

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
    pub(super) fn of_mounts(mounts: &str) -> Layout {
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

    pub(super) fn in_unified(&self, controller: &str) -> bool {
        !self.v1.contains_key(controller) && self.unified_controllers.iter().any(|known| known == controller)
    }

    /// Refuses a limit whose controller is nowhere: it would be no limit.
    pub(super) fn can_hold(&self, limits: &Limits) -> Result<(), Failure> {
        let asked = [
            ("memory", limits.memory_bytes.is_some()),
            ("pids", limits.pids.is_some()),
            ("cpu", limits.cpu_quota_us.is_some() || limits.cpu_shares.is_some()),
            // Every container is kept from most devices; the cgroup2 tree can always do that.
            ("devices", self.unified.is_none()),
        ];
        let missing = |name: &str| !self.v1.contains_key(name) && !self.in_unified(name);
        match asked.iter().find(|(name, asked)| *asked && missing(name)) {
            None => Ok(()),
            Some((name, _)) => Err(Failure::new(
                Step::Cgroup,
                name,
                "this host has no such controller, so what it shall limit would not be; `wharf doctor` says more",
            )),
        }
    }

    /// Makes the parent groups, and lets the cgroup2 one hand its controllers down.
    pub(crate) fn prepare(&self, parent: &str) -> Result<(), Failure> {
        for mount in self.v1.values() {
            make(&mount.join(parent))?;
        }
        if let Some(devices) = self.v1.get("devices") {
            let standard = devices.join(parent).join(v1::STANDARD_DEVICES);
            make(&standard)?;
            v1::prepare_standard_devices(&standard)?;
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cgroup) const HYBRID: &str = "cgroup /c/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\ncgroup /c/memory cgroup rw,memory 0 0\n\
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
}
