//! The process of the plan: also what an exec into a running container starts.

use oci_spec::runtime::{Capabilities, PosixRlimitType, Process};
use serde::{Deserialize, Serialize};

use super::{PlanError, refuse};
use crate::{ExecRequest, ExecStdio};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ProcessPlan {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) umask: u32,
    /// Bit masks over capability numbers. Ambient and inheritable are always empty.
    pub(crate) bounding: u64,
    pub(crate) permitted: u64,
    pub(crate) effective: u64,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) no_new_privileges: bool,
    pub(crate) oom_score_adj: Option<i32>,
    /// Whether a seccomp program travels beside the plan.
    pub(crate) seccomp: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rlimit {
    /// RLIMIT number.
    pub(crate) resource: u32,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// Capability names in the kernel's order: the position is the number. Source: linux/capability.h.
pub(crate) const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl ProcessPlan {
    pub(crate) fn of(process: &Process, seccomp: bool) -> Result<ProcessPlan, PlanError> {
        refuse(&[
            ("process.commandLine", process.command_line().is_some()),
            ("process.apparmorProfile", process.apparmor_profile().is_some()),
            ("process.selinuxLabel", process.selinux_label().is_some()),
            ("process.ioPriority", process.io_priority().is_some()),
            ("process.scheduler", process.scheduler().is_some()),
            ("process.execCPUAffinity", process.exec_cpu_affinity().is_some()),
            ("process.user.username", process.user().username().is_some()),
        ])?;
        let argv = process.args().clone().unwrap_or_default();
        if argv.first().is_none_or(String::is_empty) {
            return Err(PlanError::new("process.args", "must name a program"));
        }
        let cwd = process.cwd().to_str().unwrap_or_default().to_owned();
        if !cwd.starts_with('/') {
            return Err(PlanError::new("process.cwd", format!("{cwd:?} is not absolute")));
        }
        let env = process.env().clone().unwrap_or_default();
        let texts = argv.iter().chain(&env).chain([&cwd]);
        if let Some(text) = texts.into_iter().find(|text| text.contains('\0')) {
            return Err(PlanError::new("process", format!("{text:?} contains a null byte")));
        }
        let [bounding, permitted, effective] = capabilities(process)?;
        let user = process.user();
        Ok(ProcessPlan {
            argv,
            env,
            cwd,
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask().unwrap_or(0o022),
            bounding,
            permitted,
            effective,
            rlimits: rlimits(process)?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            oom_score_adj: process.oom_score_adj(),
            seccomp,
        })
    }
}

impl ProcessPlan {
    /// A process that is added to a container.
    pub(crate) fn of_exec(request: &ExecRequest) -> Result<ProcessPlan, PlanError> {
        let asked = &request.process;
        let terminal = asked.terminal().unwrap_or(false);
        if terminal && matches!(request.stdio, ExecStdio::Fds { .. }) {
            return Err(PlanError::new("process.terminal", "is asked for, but descriptors are given"));
        }
        if terminal && asked.console_size().is_some() {
            return Err(PlanError::new("process.consoleSize", "is told with the terminal; remove it"));
        }
        let mut process = ProcessPlan::of(asked, false)?;
        if asked.capabilities().is_none() {
            // All; the launcher cuts them down to what the container has.
            (process.bounding, process.permitted, process.effective) = (u64::MAX, u64::MAX, u64::MAX);
        }
        Ok(process)
    }
}

fn capabilities(process: &Process) -> Result<[u64; 3], PlanError> {
    let Some(given) = process.capabilities() else { return Ok([0; 3]) };
    for (name, set) in [("inheritable", given.inheritable()), ("ambient", given.ambient())] {
        if set.as_ref().is_some_and(|set| !set.is_empty()) {
            let reason =
                "must be empty: it would survive into programs that never asked for it (CVE-2022-27650)";
            return Err(PlanError::new(format!("process.capabilities.{name}"), reason));
        }
    }
    let sets = [mask(given.bounding())?, mask(given.permitted())?, mask(given.effective())?];
    let [bounding, permitted, effective] = sets;
    for (name, set, within, larger) in
        [("permitted", permitted, bounding, "bounding"), ("effective", effective, permitted, "permitted")]
    {
        if set & !within != 0 {
            let name = format!("process.capabilities.{name}");
            return Err(PlanError::new(
                name,
                format!("has some that {larger} does not have; add them there"),
            ));
        }
    }
    Ok(sets)
}

fn mask(set: &Option<Capabilities>) -> Result<u64, PlanError> {
    let mut mask = 0;
    for capability in set.iter().flatten() {
        let name = capability.to_string();
        let Some(number) = CAPABILITIES.iter().position(|known| *known == name) else {
            return Err(PlanError::new("process.capabilities", format!("{name} is unknown")));
        };
        mask |= 1 << number;
    }
    Ok(mask)
}

fn rlimits(process: &Process) -> Result<Vec<Rlimit>, PlanError> {
    let mut limits: Vec<Rlimit> = Vec::new();
    for limit in process.rlimits().as_deref().unwrap_or_default() {
        let resource = resource(limit.typ());
        if limit.soft() > limit.hard() || limits.iter().any(|other| other.resource == resource) {
            let reason =
                format!("{} is listed twice, or its soft limit is above its hard limit", limit.typ());
            return Err(PlanError::new("process.rlimits", reason));
        }
        limits.push(Rlimit { resource, soft: limit.soft(), hard: limit.hard() });
    }
    Ok(limits)
}

fn resource(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}
