//! The fields of a container: the same for the main one, for sidecars and for init containers, but for the probes.

use model::{Bytes, Capabilities, ContainerSpec, Resources};

use super::template::base_container;
use super::{mount, no_name, probe};
use crate::leaf::amount::{CPU, Memory};
use crate::leaf::word::{
    ADDED_CAPABILITY, DROPPED_CAPABILITY, ENV_NAME_PATTERN, IMAGE, NAME, PATH, SIGNAL, USER, is_env_name,
};
use crate::leaf::{BOOLEAN, Int, Leaf, TEXT};
use crate::shape::record::{Fields, Record, lens};
use crate::shape::{List, Set, Table};

pub(crate) fn program() -> Fields<ContainerSpec> {
    Fields::<ContainerSpec>::new()
        .required(
            "image",
            "The image to run, such as `wharf.local/hello:1`; resolved to its digest when applied.",
            IMAGE,
            lens!(image.reference),
        )
        .optional(
            "command",
            "Replaces the image's entrypoint, and then also its cmd. A list: no shell takes it apart.",
            words(1),
            lens!(command),
        )
        .optional("args", "Replaces the image's cmd.", words(0), lens!(args))
        .optional("workingDir", "An absolute path; by default the image's, else `/`.", PATH, lens!(working_dir))
        .optional(
            "user",
            "`name`, `uid`, `name:group` or `uid:gid`; by default the image's, else root.",
            USER,
            lens!(user),
        )
        .field(
            "env",
            "Environment variables, added to the image's; the same name replaces. Numbers and booleans need quotes.",
            env(),
            lens!(env),
        )
}

/// Words of a command line.
pub(super) fn words(min: usize) -> List<Leaf<String>> {
    List { item: TEXT, min, max: 1_000 }
}

fn env() -> Table<Leaf<String>> {
    Table {
        key_what: "a letter or `_`, then letters, digits, `_`, `.` and `-`",
        key_pattern: ENV_NAME_PATTERN,
        key_is_good: is_env_name,
        value: TEXT,
    }
}

pub(crate) fn resources() -> Fields<ContainerSpec> {
    let shape = Fields::<Resources>::new()
        .optional(
            "cpu",
            "In cores (`2`, `0.5`) or thousandths (`250m`): a limit, and what is reserved on the node. No limit by default.",
            CPU,
            lens!(cpu),
        )
        .field(
            "memory",
            "In Ki, Mi, Gi or bytes: a limit, swap included, and what is reserved on the node.",
            Memory { min: Bytes(4 << 20), max: Bytes(64 << 40) },
            lens!(memory),
        )
        .field("pids", "How many processes and threads there may be.", Int { min: 1, max: MAX_PIDS }, lens!(pids));
    let record = Record::new("Resources", "What a container may use.", Resources::default(), shape);
    Fields::<ContainerSpec>::new().field("resources", "What the container may use.", record, lens!(resources))
}

/// PID_MAX_LIMIT of 64-bit kernels. Source: proc_sys_kernel(5), `pid_max`.
const MAX_PIDS: u32 = 4_194_304;

pub(crate) fn health() -> Fields<ContainerSpec> {
    Fields::<ContainerSpec>::new().field(
        "health",
        "How to tell whether the container works.",
        probe::health(),
        lens!(health),
    )
}

pub(crate) fn rights() -> Fields<ContainerSpec> {
    Fields::<ContainerSpec>::new()
        .field(
            "mounts",
            "What is mounted beside the image; always nosuid and nodev.",
            List { item: mount::mount(), min: 0, max: 64 },
            lens!(mounts),
        )
        .field(
            "readOnlyRootfs",
            "Whether the container cannot write to its image's files.",
            BOOLEAN,
            lens!(read_only_rootfs),
        )
        .field("capabilities", "Changes to the default set of capabilities.", capabilities(), lens!(capabilities))
        .field(
            "init",
            "Whether wharf's init is PID 1, to reap processes and pass signals on, and the command its child.",
            BOOLEAN,
            lens!(init),
        )
        .optional(
            "stopSignal",
            "The signal that asks it to end, such as `SIGTERM`; by default the image's, else SIGTERM.",
            SIGNAL,
            lens!(stop_signal),
        )
}

fn capabilities() -> Record<Capabilities> {
    let list = |item| Set(List { item, min: 0, max: 64 });
    let fields = Fields::<Capabilities>::new()
        .field("add", "Such as `NET_RAW`; with or without `CAP_`.", list(ADDED_CAPABILITY), lens!(add))
        .field(
            "drop",
            "Such as `SETUID`; `ALL` drops every one that is not in `add`.",
            list(DROPPED_CAPABILITY),
            lens!(drop),
        );
    let about = "Changes to the default capabilities: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, NET_BIND_SERVICE, \
                 SETFCAP, SETGID, SETPCAP, SETUID, SYS_CHROOT.";
    Record::new("Capabilities", about, Capabilities::default(), fields)
}

pub(crate) fn sidecar() -> Record<ContainerSpec> {
    let fields = name().include(program(), whole()).include(resources(), whole());
    let fields = fields.include(health(), whole()).include(rights(), whole());
    Record::new("Sidecar", "A container beside the main one.", base_container(no_name()), fields)
}

pub(crate) fn init_container() -> Record<ContainerSpec> {
    let fields = name().include(program(), whole()).include(resources(), whole()).include(rights(), whole());
    let about = "A container that does its work and ends before the others start.";
    Record::new("InitContainer", about, base_container(no_name()), fields)
}

fn name() -> Fields<ContainerSpec> {
    Fields::<ContainerSpec>::new().required(
        "name",
        "Unlike that of any other container of the service: a DNS label.",
        NAME,
        lens!(name),
    )
}

/// The fields of a container as fields of the same container.
fn whole() -> crate::shape::record::Lens<ContainerSpec, ContainerSpec> {
    crate::shape::record::Lens { get: |container| container, get_mut: |container| container }
}
