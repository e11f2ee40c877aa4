//! What has to be taken from the host: made here as mounts that are attached nowhere, attached by the child.
//!
//! The child may be root only of its own user namespace; then it could neither reach these paths nor mount them. A mount
//! that is attached nowhere is seen by nobody else, and goes away with its descriptor.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use oci_spec::runtime::LinuxNamespaceType;
use rustix::mount::OpenTreeFlags;

use super::filesystems;
use crate::failure::{At, Failure, Step};
use crate::features::features;
use crate::plan::{MountKind, MountPlan, Plan};
use crate::sys::{self, MountAttr};

/// Mounts for the child, in the order in which they travel to it.
pub(super) struct Prepared {
    pub(super) root: OwnedFd,
    /// One for each mount of the plan that `comes_prepared`, in order.
    pub(super) mounts: Vec<OwnedFd>,
}

/// Whether this mount is made here rather than by the child.
pub(super) fn comes_prepared(plan: &Plan, mount: &MountPlan) -> bool {
    match &mount.kind {
        MountKind::Bind { .. } => true,
        // The kernel lets only the owner of a network namespace mount sysfs for it, and a joined one is the host's.
        MountKind::Filesystem { kind, .. } => kind == "sysfs" && joins_network(plan),
        MountKind::Cgroup => false,
    }
}

fn joins_network(plan: &Plan) -> bool {
    plan.namespaces.joins(LinuxNamespaceType::Network)
}

/// Makes them all. With `userns`, files of root in the root filesystem, and in mounts that ask for it, show as the files
/// of that namespace's root.
pub(super) fn all(plan: &Plan, userns: Option<&OwnedFd>) -> Result<Prepared, Failure> {
    let root = super::rootfs::mount(&plan.rootfs, userns, super::handout::on_host(plan, 0, 0))?;
    let mut mounts = Vec::new();
    for mount in plan.mounts.iter().filter(|mount| comes_prepared(plan, mount)) {
        mounts.push(match &mount.kind {
            MountKind::Bind { source, recursive, mapped } => {
                let attr = MountAttr { set: mount.set, clear: mount.clear, ..MountAttr::default() };
                detached(source, *recursive, attr, userns.filter(|_| *mapped))
                    .at(Step::Mount, source.display())?
            }
            MountKind::Filesystem { kind, parameters } => in_joined_network(plan, || {
                filesystems::make(kind, parameters, mount.set).at(Step::Mount, &mount.target)
            })?,
            MountKind::Cgroup => continue,
        });
    }
    Ok(Prepared { root, mounts })
}

fn in_joined_network(
    plan: &Plan,
    make: impl FnOnce() -> Result<OwnedFd, Failure>,
) -> Result<OwnedFd, Failure> {
    let home = super::enter_joined(plan)?;
    let made = make();
    super::leave_joined(&home)?;
    made
}

/// A copy of the mount at a host path, attached nowhere, private: what is mounted in it never reaches the host.
/// Without mount_setattr it is not complete before `attributes::settle` was called for it.
pub(super) fn detached(
    path: &std::path::Path,
    recursive: bool,
    mut attr: MountAttr,
    userns: Option<&OwnedFd>,
) -> std::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = rustix::mount::open_tree(rustix::fs::CWD, path, flags)?;
    if !features().mount_setattr {
        return match userns {
            None => Ok(tree),
            Some(_) => Err(std::io::Error::other("id-mapped mounts need Linux 5.12")),
        };
    }
    attr.propagation = libc::MS_PRIVATE;
    if let Some(userns) = userns {
        attr.set |= libc::MOUNT_ATTR_IDMAP;
        attr.userns = userns.as_raw_fd() as u64;
    }
    sys::mount_setattr(tree.as_fd(), recursive, attr)?;
    Ok(tree)
}
