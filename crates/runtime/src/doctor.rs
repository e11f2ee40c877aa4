//! What this host can do for containers, and what it costs that it cannot do the rest.
//!
//! Everything is tried, not looked up: kernels are built and confined in more ways than their version tells. What depends
//! on a filesystem is tried on the one that images are kept on: another may do more, or less.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::PidfdFlags;

use crate::cgroup::Layout;
use crate::features::{self, Scratch};
use crate::start::{self, trial::Bystander};
use crate::{Rootfs, Trial};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckStatus {
    Ok,
    /// Works, with less.
    Warning,
    /// Containers, or a kind of them, cannot run.
    Missing,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub status: CheckStatus,
    /// What was found.
    pub detail: String,
    /// What it costs, and what to do; empty when all is well.
    pub cost: &'static str,
}

impl Check {
    /// Missing when it failed.
    fn needed(name: &'static str, outcome: io::Result<String>, cost: &'static str) -> Check {
        Check::of(name, outcome, CheckStatus::Missing, cost)
    }

    /// A warning when it failed.
    fn useful(name: &'static str, outcome: io::Result<String>, cost: &'static str) -> Check {
        Check::of(name, outcome, CheckStatus::Warning, cost)
    }

    fn of(
        name: &'static str,
        outcome: io::Result<String>,
        otherwise: CheckStatus,
        cost: &'static str,
    ) -> Check {
        match outcome {
            Ok(detail) => Check { name, status: CheckStatus::Ok, detail, cost: "" },
            Err(error) => Check { name, status: otherwise, detail: error.to_string(), cost },
        }
    }
}

/// Tries everything; `dir` is on the filesystem of the images. Takes some milliseconds, changes nothing, and needs root to
/// be of any use.
pub fn doctor(dir: &Path) -> Vec<Check> {
    let mut checks = vec![
        Check::needed("root", root(), "containers can only be started by root; run it with sudo"),
        Check::needed("kernel", kernel(), "containers need Linux 5.10 or later"),
    ];
    checks.extend(cgroups());
    checks.extend(namespaces());
    checks.push(Check::needed(
        "overlayfs",
        overlay(dir),
        "images cannot be stacked; load the overlay module",
    ));
    checks.extend(newer_calls(dir));
    let cost = "containers get no user namespace: root in them is root of the host, though with few rights; \
                Linux 5.19 and a filesystem that maps owners, such as ext4, xfs or btrfs";
    checks.push(Check::useful("user namespace for images", user_namespaces(dir), cost));
    let cost = "the default profile cannot be enforced; use a kernel with CONFIG_SECCOMP_FILTER";
    checks.push(Check::needed("seccomp", seccomp(), cost));
    checks.push(Check::needed("pidfd", pidfd(), "processes cannot be followed safely; Linux 5.3 or later"));
    checks
}

fn root() -> io::Result<String> {
    if rustix::process::geteuid().is_root() {
        return Ok("effective uid 0".to_owned());
    }
    Err(io::Error::other(format!("effective uid {}", rustix::process::geteuid().as_raw())))
}

fn kernel() -> io::Result<String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (5, 10) { Ok(release) } else { Err(io::Error::other(release)) }
}

fn cgroups() -> Vec<Check> {
    let layout = match Layout::detect() {
        Ok(layout) => layout,
        Err(error) => {
            return vec![Check::needed("cgroups", Err(error), "nothing can be limited; mount cgroup2")];
        }
    };
    let (status, detail, cost) = match (&layout.unified, layout.v1.is_empty()) {
        (Some(_), true) => (CheckStatus::Ok, "v2", ""),
        (Some(_), false) => {
            (CheckStatus::Warning, "hybrid", "limits use v1; boot with systemd.unified_cgroup_hierarchy=1")
        }
        (None, _) => {
            (CheckStatus::Warning, "v1", "no cgroup.kill, no freeze of whole groups; boot with cgroup2")
        }
    };
    let mut checks = vec![Check { name: "cgroups", status, detail: detail.to_owned(), cost }];
    let controllers = [
        ("memory controller", "memory", "memory cannot be limited, and OOM kills cannot be told"),
        ("pids controller", "pids", "fork bombs cannot be contained"),
        ("cpu controller", "cpu", "processor time cannot be limited"),
    ];
    for (name, controller, cost) in controllers {
        let place = match layout.v1.get(controller) {
            Some(path) => Ok(path.display().to_string()),
            None if layout.unified_controllers.iter().any(|known| known == controller) => {
                Ok("cgroup2".to_owned())
            }
            None => Err(io::Error::other("in no hierarchy")),
        };
        checks.push(Check::needed(name, place, cost));
    }
    let cost =
        "what outlives a container's PID namespace is killed one by one; Linux 5.14 or later with cgroup2";
    checks.push(Check::useful("cgroup.kill", cgroup_kill(layout.unified.as_deref()), cost));
    checks
}

/// The root group has no such file, so a group is made to look.
fn cgroup_kill(unified: Option<&Path>) -> io::Result<String> {
    let unified = unified.ok_or_else(|| io::Error::other("no cgroup2 tree"))?;
    let probe = unified.join(format!("wharf-doctor-{}", std::process::id()));
    fs::create_dir(&probe)?;
    let found = fs::metadata(probe.join("cgroup.kill"));
    fs::remove_dir(&probe)?;
    found.map(|_| "there".to_owned())
}

fn namespaces() -> Vec<Check> {
    let kinds = [
        ("mount namespace", libc::CLONE_NEWNS, CheckStatus::Missing),
        ("pid namespace", libc::CLONE_NEWPID, CheckStatus::Missing),
        ("network namespace", libc::CLONE_NEWNET, CheckStatus::Missing),
        ("ipc namespace", libc::CLONE_NEWIPC, CheckStatus::Missing),
        ("uts namespace", libc::CLONE_NEWUTS, CheckStatus::Missing),
        ("cgroup namespace", libc::CLONE_NEWCGROUP, CheckStatus::Missing),
        ("user namespace", libc::CLONE_NEWUSER, CheckStatus::Warning),
    ];
    let cost = "containers that ask for it cannot be started; check the kernel's configuration and user.max_*_namespaces";
    let check = |(name, flag, otherwise)| {
        let outcome = Bystander::new(flag as u64).map(|_| "can be made".to_owned());
        Check::of(name, outcome, otherwise, cost)
    };
    kinds.into_iter().map(check).collect()
}

/// Every newer call that the kernel lacks, with what the older way costs. Measured where there is a number.
fn newer_calls(dir: &Path) -> Vec<Check> {
    let known = match features::learn(dir) {
        Ok(known) => known,
        Err(error) => {
            return vec![Check::needed("newer calls of the kernel", Err(error), "nothing can be tried")];
        }
    };
    let calls = [
        (
            "overlay layers one by one",
            known.layers_by_name,
            "each start takes about a millisecond longer; Linux 6.7",
        ),
        (
            "overlays of mounts without a path",
            known.layers_by_mount,
            "each start with a user namespace takes about a millisecond longer; Linux 6.15",
        ),
        ("volatile overlays", known.volatile, "ending a container may wait for the disk; Linux 5.10"),
        (
            "mount_setattr",
            known.mount_setattr,
            "mounts are changed one by one, and no id-mapped mounts; Linux 5.12",
        ),
        ("close_range", known.close_range, "each start takes a little longer; Linux 5.11"),
    ];
    let check = |(name, has, cost)| {
        let outcome = if has { Ok("used".to_owned()) } else { Err(io::Error::other("done the older way")) };
        Check::useful(name, outcome, cost)
    };
    calls.into_iter().map(check).collect()
}

fn overlay(dir: &Path) -> io::Result<String> {
    let scratch = Scratch::new(dir)?;
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| scratch.path(name));
    for path in [&lower, &upper, &work] {
        fs::create_dir(path)?;
    }
    let rootfs = Rootfs::Overlay { lowers: vec![lower], upper, work };
    start::mount_rootfs(&rootfs).map_err(io::Error::other)?;
    Ok(format!("mounts in {}", dir.display()))
}

fn user_namespaces(dir: &Path) -> io::Result<String> {
    start::trial::attempt(&Trial::Layers { dir: dir.to_owned() }).map_err(io::Error::other)?;
    Ok(format!("owners of files are mapped in {}", dir.display()))
}

fn seccomp() -> io::Result<String> {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail")?;
    if actions.split_whitespace().any(|action| action == "errno") {
        return Ok("filters can be installed".to_owned());
    }
    Err(io::Error::other("filters cannot answer with an error"))
}

fn pidfd() -> io::Result<String> {
    rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    Ok("can be opened".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_runs_the_other_tests_lacks_nothing() {
        for check in doctor(&std::env::temp_dir()) {
            assert_ne!(check.status, CheckStatus::Missing, "{check:?}");
            assert_eq!(check.cost.is_empty(), check.status == CheckStatus::Ok, "{check:?}");
        }
    }
}
