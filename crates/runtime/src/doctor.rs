//! What this host can do for containers, and what it costs that it cannot do the rest.
//!
//! Everything is tried, not looked up: kernels are built and confined in more ways than their version tells.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use crate::cgroup::Layout;
use crate::sys::{self, MountAttr};

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

/// Tries everything. Takes some milliseconds, changes nothing, and needs root to be of any use.
pub fn doctor() -> Vec<Check> {
    let mut checks = vec![
        Check::needed("root", root(), "containers can only be started by root; run it with sudo"),
        Check::needed(
            "kernel",
            kernel(),
            "containers need Linux 6.7 or later (overlay layers given one by one)",
        ),
    ];
    checks.extend(cgroups());
    checks.extend(namespaces());
    checks.push(Check::needed("overlayfs", overlay(), "images cannot be stacked; load the overlay module"));
    let cost = "root in a container with a user namespace cannot own its files; Linux 5.12 and a filesystem that can do it";
    checks.push(Check::useful("id-mapped mounts", idmapped(), cost));
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
    if version >= (6, 7) { Ok(release) } else { Err(io::Error::other(release)) }
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
    let cost = "killing a container relies on its PID namespace alone; Linux 5.14 or later with cgroup2";
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
        let outcome = Probe::new(flag as u64).map(|_| "can be made".to_owned());
        Check::of(name, outcome, otherwise, cost)
    };
    kinds.into_iter().map(check).collect()
}

/// A process in new namespaces that does nothing until it is killed.
struct Probe {
    pid: Pid,
}

impl Probe {
    fn new(flags: u64) -> io::Result<Probe> {
        match sys::clone3(flags, None)? {
            Some(cloned) => Ok(Probe { pid: cloned.pid }),
            // Only system calls from here on: the caller may have threads whose locks this copy would wait for.
            None => loop {
                // SAFETY: pause has no arguments and touches no memory.
                unsafe { libc::pause() };
            },
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // It cannot be gone: nobody else reaps it.
        let _killed = rustix::process::kill_process(self.pid, Signal::KILL);
        let _reaped = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
    }
}

/// A directory that goes away again.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> io::Result<Scratch> {
        let path =
            std::env::temp_dir().join(format!("wharf-doctor-{}-{}", std::process::id(), sys::unix_ms()));
        fs::create_dir(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover in the temporary directory harms nobody.
        let _kept = fs::remove_dir_all(&self.0);
    }
}

fn overlay() -> io::Result<String> {
    let scratch = Scratch::new()?;
    for name in ["lower", "upper", "work"] {
        fs::create_dir(scratch.0.join(name))?;
    }
    let overlay = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (option, name) in [("lowerdir+", "lower"), ("upperdir", "upper"), ("workdir", "work")] {
        rustix::mount::fsconfig_set_string(overlay.as_fd(), option, scratch.0.join(name))?;
    }
    rustix::mount::fsconfig_set_flag(overlay.as_fd(), "volatile")?;
    rustix::mount::fsconfig_create(overlay.as_fd())?;
    rustix::mount::fsmount(overlay.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    Ok(format!("mounts in {}", std::env::temp_dir().display()))
}

fn idmapped() -> io::Result<String> {
    let scratch = Scratch::new()?;
    let probe = Probe::new(libc::CLONE_NEWUSER as u64)?;
    let pid = probe.pid.as_raw_nonzero();
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{map}"), "0 100000 65536\n")?;
    }
    let userns: OwnedFd = fs::File::open(format!("/proc/{pid}/ns/user"))?.into();
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(rustix::fs::CWD, &scratch.0, flags)?;
    let userns = std::os::fd::AsRawFd::as_raw_fd(&userns) as u64;
    let attr = MountAttr { set: libc::MOUNT_ATTR_IDMAP, userns, ..MountAttr::default() };
    sys::mount_setattr(tree.as_fd(), false, attr)?;
    Ok(format!("work in {}", std::env::temp_dir().display()))
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
        for check in doctor() {
            assert_ne!(check.status, CheckStatus::Missing, "{check:?}");
            assert_eq!(check.cost.is_empty(), check.status == CheckStatus::Ok, "{check:?}");
        }
    }
}
