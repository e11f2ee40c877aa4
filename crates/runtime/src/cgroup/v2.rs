//! The files of the cgroup2 tree.

use std::path::Path;

use super::{make, write, write_if_there};
use crate::failure::Failure;
use crate::plan::Limits;

/// Makes the parent group and turns the controllers on for the groups below it.
pub(super) fn prepare(root: &Path, parent: &str, has: impl Fn(&str) -> bool) -> Result<(), Failure> {
    let dir = root.join(parent);
    make(&dir)?;
    for controller in ["cpu", "memory", "pids"].into_iter().filter(|name| has(name)) {
        write(root, "cgroup.subtree_control", format_args!("+{controller}"))?;
        write(&dir, "cgroup.subtree_control", format_args!("+{controller}"))?;
    }
    Ok(())
}

/// Writes the limits whose controller is `ours`, not that of a v1 hierarchy.
pub(super) fn write_limits(dir: &Path, limits: &Limits, ours: impl Fn(&str) -> bool) -> Result<(), Failure> {
    if let Some(bytes) = limits.memory_bytes.filter(|_| ours("memory")) {
        write(dir, "memory.max", bytes)?;
        if let Some(both) = limits.memory_and_swap_bytes {
            write_if_there(dir, "memory.swap.max", both.saturating_sub(bytes))?;
        }
    }
    if let Some(count) = limits.pids.filter(|_| ours("pids")) {
        write(dir, "pids.max", count)?;
    }
    if ours("cpu") {
        if let Some(quota) = limits.cpu_quota_us {
            write(dir, "cpu.max", format_args!("{quota} {}", limits.cpu_period_us))?;
        }
        if let Some(shares) = limits.cpu_shares {
            write(dir, "cpu.weight", weight(shares))?;
        }
    }
    Ok(())
}

/// v1 shares (2 to 262144) on the scale of v2 weights (1 to 10000), as other runtimes map them.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_files() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let limits = Limits {
            memory_bytes: Some(64 << 20),
            memory_and_swap_bytes: Some(96 << 20),
            cpu_quota_us: Some(50_000),
            cpu_period_us: 100_000,
            cpu_shares: Some(1024),
            pids: Some(20),
            devices: Vec::new(),
        };
        write_limits(dir.path(), &limits, |controller| controller != "pids")?;
        let read = |file: &str| std::fs::read_to_string(dir.path().join(file));
        assert_eq!(read("memory.max")?, "67108864");
        assert_eq!(read("memory.swap.max")?, "33554432");
        assert_eq!(read("cpu.max")?, "50000 100000");
        assert_eq!(read("cpu.weight")?, "39");
        assert!(read("pids.max").is_err(), "pids belongs to a v1 hierarchy here");
        Ok(())
    }
}
