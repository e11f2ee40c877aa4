//! Resource limits and device rules of the plan.

use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};
use serde::{Deserialize, Serialize};

use super::{PlanError, refuse};

/// Absent means no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: Option<u64>,
    /// Memory and swap together.
    pub(crate) memory_and_swap_bytes: Option<u64>,
    pub(crate) cpu_quota_us: Option<u64>,
    pub(crate) cpu_period_us: u64,
    pub(crate) cpu_shares: Option<u64>,
    pub(crate) pids: Option<u64>,
    /// What is allowed beside the standard devices; every other is denied.
    pub(crate) devices: Vec<DeviceRule>,
}

/// An allowed device. A missing number stands for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceRule {
    pub(crate) block: bool,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) mknod: bool,
}

impl DeviceRule {
    const fn character(major: u32, minor: Option<u32>) -> DeviceRule {
        DeviceRule { block: false, major: Some(major), minor, read: true, write: true, mknod: true }
    }

    /// What every container may use: null, zero, full, random, urandom, tty, ptmx and its terminals.
    pub(crate) const STANDARD: [DeviceRule; 8] = [
        DeviceRule::character(1, Some(3)),
        DeviceRule::character(1, Some(5)),
        DeviceRule::character(1, Some(7)),
        DeviceRule::character(1, Some(8)),
        DeviceRule::character(1, Some(9)),
        DeviceRule::character(5, Some(0)),
        DeviceRule::character(5, Some(2)),
        DeviceRule::character(136, None),
    ];
}

impl Limits {
    pub(super) fn of(linux: &Linux) -> Result<Limits, PlanError> {
        let mut limits = Limits { cpu_period_us: 100_000, devices: nodes(linux), ..Limits::default() };
        let Some(resources) = linux.resources() else { return Ok(limits) };
        refuse(&[
            ("linux.resources.blockIO", resources.block_io().is_some()),
            (
                "linux.resources.hugepageLimits",
                resources.hugepage_limits().as_ref().is_some_and(|list| !list.is_empty()),
            ),
            ("linux.resources.network", resources.network().is_some()),
            ("linux.resources.rdma", resources.rdma().is_some()),
            ("linux.resources.unified", resources.unified().is_some()),
        ])?;
        memory(resources, &mut limits)?;
        cpu(resources, &mut limits)?;
        // Zero and below mean unlimited, as in the kernel's `max`.
        limits.pids = resources
            .pids()
            .as_ref()
            .and_then(|pids| u64::try_from(pids.limit()).ok())
            .filter(|count| *count > 0);
        limits.devices.extend(devices(resources.devices().as_deref().unwrap_or_default())?);
        Ok(limits)
    }
}

/// Negative means unlimited in the OCI spec.
fn bytes(value: Option<i64>) -> Option<u64> {
    value.and_then(|value| u64::try_from(value).ok())
}

fn memory(resources: &LinuxResources, limits: &mut Limits) -> Result<(), PlanError> {
    let Some(memory) = resources.memory() else { return Ok(()) };
    refuse(&[
        ("linux.resources.memory.reservation", memory.reservation().is_some()),
        ("linux.resources.memory.kernel", memory.kernel().is_some()),
        ("linux.resources.memory.kernelTCP", memory.kernel_tcp().is_some()),
        ("linux.resources.memory.swappiness", memory.swappiness().is_some()),
        ("linux.resources.memory.disableOOMKiller", memory.disable_oom_killer().unwrap_or(false)),
        ("linux.resources.memory.useHierarchy", memory.use_hierarchy().is_some()),
        ("linux.resources.memory.checkBeforeUpdate", memory.check_before_update().unwrap_or(false)),
    ])?;
    limits.memory_bytes = bytes(memory.limit());
    // Nothing said about swap means none of it: a limit that swap stretches is no limit.
    limits.memory_and_swap_bytes =
        if memory.swap().is_some() { bytes(memory.swap()) } else { limits.memory_bytes };
    match (limits.memory_bytes, limits.memory_and_swap_bytes) {
        (Some(memory), Some(both)) if both < memory => Err(PlanError::new(
            "linux.resources.memory.swap",
            "is memory and swap together, so at least the memory limit",
        )),
        (None, Some(_)) => Err(PlanError::new("linux.resources.memory.swap", "needs a memory limit")),
        _ => Ok(()),
    }
}

fn cpu(resources: &LinuxResources, limits: &mut Limits) -> Result<(), PlanError> {
    let Some(cpu) = resources.cpu() else { return Ok(()) };
    refuse(&[
        ("linux.resources.cpu.idle", cpu.idle().is_some()),
        ("linux.resources.cpu.burst", cpu.burst().is_some()),
        ("linux.resources.cpu.realtimeRuntime", cpu.realtime_runtime().is_some()),
        ("linux.resources.cpu.realtimePeriod", cpu.realtime_period().is_some()),
        ("linux.resources.cpu.cpus", cpu.cpus().as_ref().is_some_and(|cpus| !cpus.is_empty())),
        ("linux.resources.cpu.mems", cpu.mems().as_ref().is_some_and(|mems| !mems.is_empty())),
    ])?;
    limits.cpu_quota_us = bytes(cpu.quota()).filter(|quota| *quota > 0);
    limits.cpu_shares = cpu.shares().filter(|shares| *shares > 0);
    if let Some(period) = cpu.period().filter(|period| *period > 0) {
        limits.cpu_period_us = period;
    }
    Ok(())
}

/// Nodes that are listed can be made; using them takes a rule that says so.
fn nodes(linux: &Linux) -> Vec<DeviceRule> {
    let rule = |node: &LinuxDevice| DeviceRule {
        block: matches!(node.typ(), LinuxDeviceType::B),
        major: u32::try_from(node.major()).ok(),
        minor: u32::try_from(node.minor()).ok(),
        read: false,
        write: false,
        mknod: true,
    };
    linux.devices().iter().flatten().map(rule).collect()
}

/// Deny-all comes first in every sensible list and is the rule here anyway; only what is allowed is kept.
fn devices(rules: &[LinuxDeviceCgroup]) -> Result<Vec<DeviceRule>, PlanError> {
    let mut allowed = Vec::new();
    for rule in rules {
        let (major, minor) = (number(rule.major())?, number(rule.minor())?);
        let access = access(rule)?;
        let all = matches!(rule.typ(), None | Some(LinuxDeviceType::A));
        let any = major.is_none() && minor.is_none() && "rwm".chars().all(|letter| access.contains(letter));
        match (rule.allow(), all) {
            (false, true) if any => allowed.clear(),
            (false, _) => {
                return Err(wrong(
                    "denying single devices is not supported: everything that is not allowed is denied",
                ));
            }
            (true, true) => {
                return Err(wrong("allowing all devices is not supported; list those that are needed"));
            }
            (true, false) => allowed.push(device(rule, major, minor, access)?),
        }
    }
    // The standard ones are allowed anyway, and a container that needs no others shares its group with all such.
    allowed.retain(|rule| !DeviceRule::STANDARD.contains(rule));
    Ok(allowed)
}

/// Missing or -1 stands for all.
fn number(value: Option<i64>) -> Result<Option<u32>, PlanError> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => {
            u32::try_from(value).map(Some).map_err(|_| wrong(&format!("{value} is no device number")))
        }
    }
}

fn access(rule: &LinuxDeviceCgroup) -> Result<&str, PlanError> {
    let access = rule.access().as_deref().unwrap_or("rwm");
    if access.is_empty() || access.chars().any(|letter| !"rwm".contains(letter)) {
        return Err(wrong(&format!("access {access:?} is not made of r, w and m")));
    }
    Ok(access)
}

fn device(
    rule: &LinuxDeviceCgroup,
    major: Option<u32>,
    minor: Option<u32>,
    access: &str,
) -> Result<DeviceRule, PlanError> {
    let block = match rule.typ() {
        Some(LinuxDeviceType::B) => true,
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => false,
        None | Some(LinuxDeviceType::A | LinuxDeviceType::P) => {
            return Err(wrong("only character and block devices have rules"));
        }
    };
    let has = |letter| access.contains(letter);
    Ok(DeviceRule { block, major, minor, read: has('r'), write: has('w'), mknod: has('m') })
}

fn wrong(reason: &str) -> PlanError {
    PlanError::new("linux.resources.devices", reason)
}
