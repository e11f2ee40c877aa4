//! From a container of a replica and its image to an OCI runtime spec. Pure.
//!
//! What a user of Docker and Kubernetes expects: `command` replaces the image's entrypoint and drops its cmd, `args`
//! replaces its cmd; the manifest's environment wins over ours, ours over the image's. What nobody asked for is closed:
//! no new privileges, eleven capabilities, the default seccomp profile, masked paths, nosuid and nodev everywhere.

use std::path::{Path, PathBuf};

use image::{ImageConfig, User};
use model::{Assignment, Capabilities, ContainerSpec, Mount, Name, Resources};
use oci_spec::{
    OciSpecError,
    runtime::{
        self as oci, Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxCpuBuilder,
        LinuxIdMappingBuilder, LinuxMemoryBuilder, LinuxNamespaceBuilder, LinuxNamespaceType,
        LinuxPidsBuilder, LinuxResourcesBuilder, LinuxSeccomp, MountBuilder, ProcessBuilder, RootBuilder,
        Spec, SpecBuilder, UserBuilder,
    },
};

use crate::host::IDS;

/// Where programs are looked for when an image does not say; Docker's value, which images count on.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) const SIGTERM: u8 = 15;

/// The quota's period; the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;

/// What moby and runc mask, with what came to be known since. Source: FACTS of container escapes, moby's `DefaultSpec`.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error(
        "container {container}: neither the image {image} nor the manifest says what to run; set `command` in the manifest"
    )]
    NothingToRun { container: Name, image: String },
    #[error("container {container}: capability {capability:?} is not known to this version")]
    Capability { container: Name, capability: String },
    #[error(
        "container {container}: the image {image} asks for the stop signal {signal:?}, which there is not; \
         set `stopSignal` in the manifest"
    )]
    StopSignal { container: Name, image: String, signal: String },
    #[error("container {container}: its OCI spec cannot be written")]
    Spec { container: Name, source: OciSpecError },
}

/// All that a spec is made from.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub assignment: &'a Assignment,
    pub container: &'a ContainerSpec,
    pub image: &'a ImageConfig,
    /// As the image's own files resolve it.
    pub user: &'a User,
    pub node: &'a Name,
    pub files: &'a EtcFiles,
    pub network_namespace: &'a Path,
    /// What root is on the host, and the ids of its user namespace follow; without it root is root.
    pub first_host_id: Option<u32>,
    pub seccomp: LinuxSeccomp,
}

/// The replica's own files, on the host; mounted read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EtcFiles {
    pub hosts: PathBuf,
    pub hostname: PathBuf,
    pub resolv_conf: PathBuf,
}

pub(crate) fn compile(source: &Source<'_>) -> Result<Spec, CompileError> {
    let argv = argv(source)?;
    let capabilities = capabilities(source)?;
    let written =
        |source_error| CompileError::Spec { container: source.container.name.clone(), source: source_error };
    spec(source, argv, capabilities).map_err(written)
}

/// What the container is asked to end with: the manifest's word, then the image's, then SIGTERM.
pub(crate) fn stop_signal(container: &ContainerSpec, image: &ImageConfig) -> Result<u8, CompileError> {
    let Some(named) = image.stop_signal.as_ref().filter(|_| container.stop_signal.is_none()) else {
        return Ok(container.stop_signal.unwrap_or(SIGTERM));
    };
    model::observed::signal_number(named).ok_or_else(|| CompileError::StopSignal {
        container: container.name.clone(),
        image: container.image.reference.clone(),
        signal: named.clone(),
    })
}

fn spec(
    source: &Source<'_>,
    argv: Vec<String>,
    capabilities: oci::Capabilities,
) -> Result<Spec, OciSpecError> {
    let root = RootBuilder::default().path("rootfs").readonly(source.container.read_only_rootfs).build()?;
    SpecBuilder::default()
        .version("1.2.0")
        .hostname(source.assignment.hostname())
        .root(root)
        .process(process(source, argv, capabilities)?)
        .mounts(mounts(source)?)
        .linux(linux(source)?)
        .build()
}

fn process(
    source: &Source<'_>,
    argv: Vec<String>,
    capabilities: oci::Capabilities,
) -> Result<oci::Process, OciSpecError> {
    let user = source.user;
    // Without ambient capabilities, a user other than root has none after exec; the bounding set is what remains.
    let held = if user.uid == 0 { capabilities.clone() } else { oci::Capabilities::new() };
    let user = UserBuilder::default()
        .uid(user.uid)
        .gid(user.gid)
        .additional_gids(user.additional_gids.clone())
        .build()?;
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(capabilities)
        .permitted(held.clone())
        .effective(held)
        .inheritable(oci::Capabilities::new())
        .ambient(oci::Capabilities::new())
        .build()?;
    ProcessBuilder::default()
        .terminal(false)
        .user(user)
        .args(argv)
        .env(environment(source))
        .cwd(working_dir(source))
        .capabilities(capabilities)
        .rlimits(Vec::new())
        .no_new_privileges(true)
        .build()
}

fn argv(source: &Source<'_>) -> Result<Vec<String>, CompileError> {
    let (container, image) = (source.container, source.image);
    let (program, arguments) = match (&container.command, &container.args) {
        (Some(command), args) => (command.clone(), args.clone().unwrap_or_default()),
        (None, Some(args)) => (image.entrypoint.clone(), args.clone()),
        (None, None) => (image.entrypoint.clone(), image.cmd.clone()),
    };
    let argv = [program, arguments].concat();
    if argv.first().is_none_or(String::is_empty) {
        let image = container.image.reference.clone();
        return Err(CompileError::NothingToRun { container: container.name.clone(), image });
    }
    Ok(argv)
}

/// The image's, then ours, then the manifest's; a later one of the same name takes the place of the earlier.
fn environment(source: &Source<'_>) -> Vec<String> {
    let assignment = source.assignment;
    let ours = [
        ("HOSTNAME", assignment.hostname()),
        ("WHARF_NAMESPACE", assignment.service.namespace.to_string()),
        ("WHARF_NODE", source.node.to_string()),
        ("WHARF_REPLICA", assignment.replica.to_string()),
        ("WHARF_REVISION", assignment.revision.to_string()),
        ("WHARF_SERVICE", assignment.service.name.to_string()),
        ("WHARF_SLOT", assignment.slot.to_string()),
    ];
    let mut environment: Vec<(&str, &str)> = vec![("PATH", PATH), ("HOME", &source.user.home)];
    let image = source.image.env.iter().filter_map(|entry| entry.split_once('='));
    let ours = ours.iter().map(|(name, value)| (*name, value.as_str()));
    let manifest = source.container.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in image.chain(ours).chain(manifest) {
        match environment.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => environment.push((name, value)),
        }
    }
    environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn working_dir(source: &Source<'_>) -> PathBuf {
    let image = Some(&source.image.working_dir).filter(|dir| !dir.is_empty());
    let dir = source.container.working_dir.as_ref().or(image).map_or("/", String::as_str);
    // Images from old builders have relative ones, meant from the root.
    Path::new("/").join(dir)
}

fn capabilities(source: &Source<'_>) -> Result<oci::Capabilities, CompileError> {
    let granted: &Capabilities = &source.container.capabilities;
    let parse = |name: &str| {
        name.parse::<Capability>().map_err(|_| CompileError::Capability {
            container: source.container.name.clone(),
            capability: name.to_owned(),
        })
    };
    granted.effective().into_iter().map(parse).collect()
}

fn mounts(asked_by: &Source<'_>) -> Result<Vec<oci::Mount>, OciSpecError> {
    let mut mounts = vec![
        filesystem("/proc", "proc", &["nosuid", "noexec", "nodev"])?,
        filesystem("/dev", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=64k"])?,
        filesystem(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        )?,
        filesystem("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"])?,
        filesystem("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
        filesystem("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"])?,
        filesystem("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"])?,
    ];
    let files = asked_by.files;
    for (target, file) in [
        ("/etc/hosts", &files.hosts),
        ("/etc/hostname", &files.hostname),
        ("/etc/resolv.conf", &files.resolv_conf),
    ] {
        mounts.push(bind(target, file, &["bind", "ro", "nosuid", "nodev", "noexec"])?);
    }
    let mut asked: Vec<&Mount> = asked_by.container.mounts.iter().collect();
    // A mount inside another one comes after it, in whatever order they were written.
    asked.sort_by_key(|mount| mount.target().split('/').filter(|part| !part.is_empty()).count());
    for mount in asked {
        mounts.push(match mount {
            Mount::Tmpfs { target, size } => {
                filesystem(target, "tmpfs", &["nosuid", "nodev", "mode=1777", &format!("size={}", size.0)])?
            }
            Mount::HostPath { source, target, read_only } => {
                let access = if *read_only { "ro" } else { "rw" };
                let mut options = vec!["rbind", access, "nosuid", "nodev"];
                // Files keep the owners that they have on the host, and what root makes there belongs to root.
                options.extend(asked_by.first_host_id.map(|_| "ridmap"));
                bind(target, Path::new(source), &options)?
            }
        });
    }
    Ok(mounts)
}

fn filesystem(target: &str, kind: &str, options: &[&str]) -> Result<oci::Mount, OciSpecError> {
    mount(target, kind, Path::new(kind), options)
}

fn bind(target: &str, source: &Path, options: &[&str]) -> Result<oci::Mount, OciSpecError> {
    mount(target, "bind", source, options)
}

fn mount(target: &str, kind: &str, source: &Path, options: &[&str]) -> Result<oci::Mount, OciSpecError> {
    let options: Vec<String> = options.iter().map(ToString::to_string).collect();
    MountBuilder::default().destination(target).typ(kind).source(source).options(options).build()
}

fn linux(source: &Source<'_>) -> Result<oci::Linux, OciSpecError> {
    let user = source.first_host_id.map(|_| LinuxNamespaceType::User);
    let own = [
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Cgroup,
    ];
    let mut namespaces = Vec::new();
    for kind in own.into_iter().chain(user) {
        namespaces.push(LinuxNamespaceBuilder::default().typ(kind).build()?);
    }
    let shared =
        LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Network).path(source.network_namespace);
    namespaces.push(shared.build()?);
    let linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .resources(resources(&source.container.resources)?)
        .seccomp(source.seccomp.clone())
        .masked_paths(MASKED.map(str::to_owned).to_vec())
        .readonly_paths(READ_ONLY.map(str::to_owned).to_vec());
    let Some(first) = source.first_host_id else { return linux.build() };
    let mapping = LinuxIdMappingBuilder::default().container_id(0u32).host_id(first).size(IDS).build()?;
    linux.uid_mappings(vec![mapping]).gid_mappings(vec![mapping]).build()
}

fn resources(resources: &Resources) -> Result<oci::LinuxResources, OciSpecError> {
    let memory = i64::try_from(resources.memory.0).unwrap_or(i64::MAX);
    // Memory and swap together have the same limit as memory: no swap.
    let memory = LinuxMemoryBuilder::default().limit(memory).swap(memory).build()?;
    let pids = LinuxPidsBuilder::default().limit(i64::from(resources.pids)).build()?;
    let limits = LinuxResourcesBuilder::default().memory(memory).pids(pids);
    let Some(cpu) = resources.cpu else { return limits.build() };
    let quota = i64::try_from(cpu.0.saturating_mul(CPU_PERIOD_US / 1_000)).unwrap_or(i64::MAX);
    // A core is worth 1024 shares; the kernel takes no fewer than 2 and no more than 262144.
    let shares = cpu.0.saturating_mul(1_024).div_euclid(1_000).clamp(2, 262_144);
    // A quota below one millisecond is refused by the kernel.
    let cpu =
        LinuxCpuBuilder::default().quota(quota.max(1_000)).period(CPU_PERIOD_US).shares(shares).build()?;
    limits.cpu(cpu).build()
}

#[cfg(test)]
pub(crate) mod tests;
