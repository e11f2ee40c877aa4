//! Killing all that is in a container's groups.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal};

use super::Groups;
use crate::features::features;

impl Groups {
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
