//! The files of v1 controllers.

use std::fs;
use std::path::Path;

use super::{write, write_if_there};
use crate::failure::{At, Failure, Step};
use crate::plan::{DeviceRule, Limits};

/// One group for all containers that need no special device: a group without limits counts nothing, so it can be
/// shared, and entering a group that exists is cheaper than making one. No container id starts with a capital.
pub(super) const STANDARD_DEVICES: &str = "Standard";

/// Writes what `limits` says about `controller`.
pub(super) fn write_limits(controller: &str, dir: &Path, limits: &Limits) -> Result<(), Failure> {
    match controller {
        "memory" => write_memory(dir, limits),
        "pids" => limits.pids.map_or(Ok(()), |count| write(dir, "pids.max", count)),
        "cpu" => write_cpu(dir, limits),
        "devices" => write_devices(dir, &limits.devices),
        _ => Ok(()),
    }
}

fn write_memory(dir: &Path, limits: &Limits) -> Result<(), Failure> {
    let Some(bytes) = limits.memory_bytes else { return Ok(()) };
    write(dir, "memory.limit_in_bytes", bytes)?;
    match limits.memory_and_swap_bytes {
        Some(both) => write_if_there(dir, "memory.memsw.limit_in_bytes", both),
        None => Ok(()),
    }
}

fn write_cpu(dir: &Path, limits: &Limits) -> Result<(), Failure> {
    if let Some(shares) = limits.cpu_shares {
        write(dir, "cpu.shares", shares)?;
    }
    if let Some(quota) = limits.cpu_quota_us {
        write(dir, "cpu.cfs_period_us", limits.cpu_period_us)?;
        write(dir, "cpu.cfs_quota_us", quota)?;
    }
    Ok(())
}

/// Sets the shared group up, once: containers of an earlier caller may be in it, and must not lose their devices even
/// for a moment.
pub(super) fn prepare_standard_devices(dir: &Path) -> Result<(), Failure> {
    let list = dir.join("devices.list");
    let text = fs::read_to_string(&list).at(Step::Cgroup, list.display())?;
    // A new group allows all, which reads `a *:* rwm`.
    if text.starts_with('a') { write_devices(dir, &[]) } else { Ok(()) }
}

/// Denies everything, then allows the standard devices and `extra`.
pub(super) fn write_devices(dir: &Path, extra: &[DeviceRule]) -> Result<(), Failure> {
    write(dir, "devices.deny", "a")?;
    for rule in DeviceRule::STANDARD.iter().chain(extra) {
        write(dir, "devices.allow", rule_text(rule))?;
    }
    Ok(())
}

fn rule_text(rule: &DeviceRule) -> String {
    let number = |value: Option<u32>| value.map_or("*".to_owned(), |value| value.to_string());
    let kind = if rule.block { 'b' } else { 'c' };
    let letters = [(rule.read, 'r'), (rule.write, 'w'), (rule.mknod, 'm')];
    let access: String = letters.into_iter().filter(|(has, _)| *has).map(|(_, letter)| letter).collect();
    format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_files() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let limits = Limits {
            memory_bytes: Some(64 << 20),
            memory_and_swap_bytes: Some(64 << 20),
            cpu_quota_us: Some(50_000),
            cpu_period_us: 100_000,
            cpu_shares: Some(512),
            pids: Some(20),
            devices: Vec::new(),
        };
        for controller in ["memory", "pids", "cpu"] {
            write_limits(controller, dir.path(), &limits)?;
        }
        let read = |file: &str| std::fs::read_to_string(dir.path().join(file));
        assert_eq!(read("memory.limit_in_bytes")?, "67108864");
        assert_eq!(read("memory.memsw.limit_in_bytes")?, "67108864");
        assert_eq!(read("cpu.cfs_quota_us")?, "50000");
        assert_eq!(read("cpu.cfs_period_us")?, "100000");
        assert_eq!(read("cpu.shares")?, "512");
        assert_eq!(read("pids.max")?, "20");
        Ok(())
    }

    #[test]
    fn device_rules_read_as_the_kernel_wants_them() {
        let rule =
            DeviceRule { block: true, major: Some(8), minor: None, read: true, write: false, mknod: true };
        assert_eq!(rule_text(&rule), "b 8:* rm");
    }
}
