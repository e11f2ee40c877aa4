//! New filesystems for a container: proc, sysfs, tmpfs, devpts, mqueue, its cgroups; and what `/dev` is filled with.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dev, FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use crate::cgroup::Groups;
use crate::failure::{At, Failure, Step};
use crate::plan::{DeviceNode, Plan};
use crate::sys;

/// A new instance of a filesystem, attached nowhere yet.
pub(super) fn make(
    kind: &str,
    parameters: &[(String, Option<String>)],
    attributes: u64,
) -> io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in parameters {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(fs.as_fd(), name.as_str(), value.as_str())?,
            None => rustix::mount::fsconfig_set_flag(fs.as_fd(), name.as_str())?,
        }
    }
    rustix::mount::fsconfig_create(fs.as_fd())?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    Ok(rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Attaches a mount onto the file or directory that `target` is, whatever its name is by now.
pub(super) fn attach(mount: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", target, "", flags)?)
}

/// Another mount of what is attached at `file` itself, attached nowhere.
pub(super) fn copy_of(file: &OwnedFd, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(file, "", flags)?)
}

/// The standard nodes: name, major, minor.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Fills a fresh `/dev`. It is attached already, which bind mounts in it need.
pub(super) fn fill_dev(dev: &OwnedFd, plan: &Plan) -> Result<(), Failure> {
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, dev, name).at(Step::Device, format_args!("/dev/{name}"))?;
    }
    for directory in ["pts", "shm", "mqueue"] {
        rustix::fs::mkdirat(dev, directory, Mode::from_raw_mode(0o755))
            .at(Step::Device, format_args!("/dev/{directory}"))?;
    }
    let borrowed = !plan.namespaces.uids.is_empty();
    let standard = |(name, major, minor): (&str, u32, u32)| DeviceNode {
        name: name.to_owned(),
        block: false,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    // A spec may list a standard one itself, with another mode for instance.
    let listed = |name: &str| plan.devices.iter().any(|node| node.name == name);
    let standard = NODES.into_iter().filter(|(name, ..)| !listed(name)).map(standard);
    for node in standard.chain(plan.devices.iter().cloned()) {
        if borrowed { borrow_node(dev, &node)? } else { make_node(dev, &node)? }
    }
    Ok(())
}

fn make_node(dev: &OwnedFd, node: &DeviceNode) -> Result<(), Failure> {
    let kind = if node.block { FileType::BlockDevice } else { FileType::CharacterDevice };
    let make = || -> io::Result<()> {
        let number: Dev = rustix::fs::makedev(node.major, node.minor);
        // The umask is zero during setup, so the mode arrives as it is.
        rustix::fs::mknodat(dev, &node.name, kind, Mode::from_raw_mode(node.mode), number)?;
        if (node.uid, node.gid) != (0, 0) {
            let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
            rustix::fs::chownat(dev, &node.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    };
    make().at(Step::Device, format_args!("/dev/{}", node.name))
}

/// In a user namespace nodes cannot be made: the host's are mounted onto empty files, after a look at what they are.
fn borrow_node(dev: &OwnedFd, node: &DeviceNode) -> Result<(), Failure> {
    let path = format!("/dev/{}", node.name);
    let borrow = || -> io::Result<()> {
        let host = open_device(&path, node)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(dev, &node.name, flags, Mode::from_raw_mode(0o666))?;
        let target = rustix::fs::openat(dev, &node.name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        attach(&copy_of(&host, false)?, &target)
    };
    borrow().at(Step::Device, &path)
}

/// Opens a device of the host without using it, and makes sure that it is the one meant (CVE-2025-31133).
fn open_device(path: &str, node: &DeviceNode) -> io::Result<OwnedFd> {
    let host = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if is_device(&host, node)? {
        return Ok(host);
    }
    Err(io::Error::other(format!("is not the device {}:{}", node.major, node.minor)))
}

fn is_device(file: &OwnedFd, node: &DeviceNode) -> io::Result<bool> {
    let stat = rustix::fs::fstat(file)?;
    let kind = if node.block { FileType::BlockDevice } else { FileType::CharacterDevice };
    let number = rustix::fs::makedev(node.major, node.minor);
    Ok(FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == number)
}

fn null_node() -> DeviceNode {
    DeviceNode { name: "null".into(), block: false, major: 1, minor: 3, mode: 0, uid: 0, gid: 0 }
}

/// The host's /dev/null, verified.
pub(super) fn open_null() -> Result<OwnedFd, Failure> {
    open_device("/dev/null", &null_node()).at(Step::Device, "/dev/null of the host")
}

/// The application's standard input: the container's own /dev/null if it is one, so that it has a name there.
pub(super) fn open_stdin(root: &OwnedFd) -> Result<OwnedFd, Failure> {
    let open = || -> io::Result<OwnedFd> {
        let own = sys::open_in_root(root.as_fd(), "/dev/null", OFlags::PATH | OFlags::NOFOLLOW);
        let null = match own {
            Ok(own) if is_device(&own, &null_node())? => own,
            _ => open_device("/dev/null", &null_node())?,
        };
        // What was looked at is what is opened. This /proc is still the host's.
        let path = format!("/proc/self/fd/{}", null.as_raw_fd());
        Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    };
    open().at(Step::Device, "/dev/null")
}

/// The container's own cgroups, always read-only: one filesystem on v2, one for each controller on v1. A v1 controller
/// in which it has no group of its own is left out: there it would see the host's.
pub(super) fn mount_cgroups(
    root: &OwnedFd,
    target: &str,
    groups: &Groups,
    attributes: u64,
) -> Result<(), Failure> {
    let attributes = attributes | libc::MOUNT_ATTR_RDONLY;
    let place = |path: &str| super::mounts::directory(root.as_fd(), path).at(Step::Mount, path);
    if groups.v1.is_empty() {
        let mount = make("cgroup2", &[], attributes).at(Step::Mount, target)?;
        return attach(&mount, &place(target)?).at(Step::Mount, target);
    }
    // Writable until the directories are made in it.
    let mode = [("mode".to_owned(), Some("755".to_owned()))];
    let frame = make("tmpfs", &mode, attributes & !libc::MOUNT_ATTR_RDONLY).at(Step::Mount, target)?;
    attach(&frame, &place(target)?).at(Step::Mount, target)?;
    for controllers in together(groups) {
        let path = format!("{target}/{}", controllers.join(","));
        let flags: Vec<_> = controllers.iter().map(|name| ((*name).to_owned(), None)).collect();
        let mount = make("cgroup", &flags, attributes).at(Step::Mount, &path)?;
        attach(&mount, &place(&path)?).at(Step::Mount, &path)?;
    }
    let attr = sys::MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..sys::MountAttr::default() };
    super::attributes::change(&frame, false, attr).at(Step::Mount, target)
}

/// The container's v1 controllers, those of one hierarchy together.
fn together(groups: &Groups) -> Vec<Vec<&str>> {
    let mut hierarchies: Vec<(&Path, Vec<&str>)> = Vec::new();
    for (controller, group) in &groups.v1 {
        match hierarchies.iter_mut().find(|(path, _)| path == group) {
            Some((_, controllers)) => controllers.push(controller),
            None => hierarchies.push((group, vec![controller])),
        }
    }
    hierarchies.into_iter().map(|(_, controllers)| controllers).collect()
}
