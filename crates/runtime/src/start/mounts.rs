//! Attaching the plan's mounts inside the root, without ever following the image out of it.
//!
//! A target is resolved as if the root were `/` (openat2 with RESOLVE_IN_ROOT) and held as a descriptor; the mount goes
//! onto that descriptor. So a symlink in the image, even one that is exchanged meanwhile, changes at most which place
//! inside the root is used.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::attributes;
use super::filesystems::{self, attach};
use super::prepare::comes_prepared;
use crate::cgroup::Groups;
use crate::failure::{At, Failure, Step};
use crate::plan::{MountKind, Plan};
use crate::sys::{self, MountAttr};

/// Attaches every mount of the plan, in its order.
pub(super) fn attach_all(
    root: &OwnedFd,
    plan: &Plan,
    groups: &Groups,
    prepared: Vec<OwnedFd>,
) -> Result<(), Failure> {
    let mut prepared = prepared.into_iter();
    for mount in &plan.mounts {
        let target = mount.target.as_str();
        if comes_prepared(plan, mount) {
            let source =
                prepared.next().ok_or_else(|| Failure::new(Step::Mount, target, "was not prepared"))?;
            let place = place_for(root.as_fd(), target, &source).at(Step::Mount, target)?;
            attach(&source, &place).at(Step::Mount, target)?;
            if let MountKind::Bind { recursive, .. } = mount.kind {
                let attr = MountAttr { set: mount.set, clear: mount.clear, ..MountAttr::default() };
                attributes::settle(&source, recursive, attr).at(Step::Mount, target)?;
            }
            continue;
        }
        match &mount.kind {
            MountKind::Cgroup => filesystems::mount_cgroups(root, target, groups, mount.set)?,
            MountKind::Filesystem { kind, parameters } => {
                let place = directory(root.as_fd(), target).at(Step::Mount, target)?;
                let made = filesystems::make(kind, parameters, mount.set).at(Step::Mount, target)?;
                attach(&made, &place).at(Step::Mount, target)?;
                if mount.is_dev() {
                    filesystems::fill_dev(&made, plan)?;
                }
            }
            MountKind::Bind { .. } => {}
        }
    }
    Ok(())
}

/// A directory or file at `path` in the root, as `source` is one; made if it is missing.
fn place_for(root: BorrowedFd<'_>, path: &str, source: &OwnedFd) -> io::Result<OwnedFd> {
    let stat = rustix::fs::fstat(source)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        directory(root, path)
    } else {
        file(root, path)
    }
}

/// The directory at `path` in the root, made with its parents if missing.
pub(crate) fn directory(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    match sys::open_in_root(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => {}
        other => return Ok(other?),
    }
    let mut at = sys::open_in_root(root, "/", OFlags::PATH | OFlags::DIRECTORY)?;
    let mut walked = String::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return Err(io::Error::other("contains .. below a directory that does not exist"));
        }
        walked.push('/');
        walked.push_str(part);
        at = match sys::open_in_root(root, &walked, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
                    Err(Errno::EXIST) => {
                        return Err(io::Error::other(format!("{walked} is a symlink that leads nowhere")));
                    }
                    other => other?,
                }
                sys::open_in_root(root, &walked, OFlags::PATH | OFlags::DIRECTORY)?
            }
            other => other?,
        };
    }
    Ok(at)
}

/// The file at `path` in the root; an empty one is made if it is missing.
fn file(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    match sys::open_in_root(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        other => return Ok(other?),
    }
    let (parent, name) = path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", path));
    let parent = directory(root, if parent.is_empty() { "/" } else { parent })?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)) {
        Err(Errno::EXIST) => Err(io::Error::other("is a symlink that leads nowhere")),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(sys::open_in_root(root, path, OFlags::PATH)?),
    }
}
