//! Paths that a container must not see, and paths that it must not change.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::attributes;
use super::filesystems::{attach, copy_of, make, open_null};
use crate::failure::{At, Failure, Step};
use crate::sys::{self, MountAttr};

/// Covers directories with one empty read-only tmpfs, files with the host's `/dev/null`. What does not exist needs none.
pub(super) fn mask(root: &OwnedFd, paths: &[String]) -> Result<(), Failure> {
    let null = open_null()?;
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let Some(target) = find(root, path, Step::Mask)? else { continue };
        let stat = rustix::fs::fstat(&target).at(Step::Mask, path)?;
        if !FileType::from_raw_mode(stat.st_mode).is_dir() {
            copy_of(&null, false).and_then(|copy| attach(&copy, &target)).at(Step::Mask, path)?;
            continue;
        }
        // One filesystem serves all of them: it is empty and stays so.
        let cover = match &empty {
            Some(first) => copy_of(first, false).at(Step::Mask, path)?,
            None => make("tmpfs", &[("mode".into(), Some("0".into()))], libc::MOUNT_ATTR_RDONLY)
                .at(Step::Mask, path)?,
        };
        attach(&cover, &target).at(Step::Mask, path)?;
        empty.get_or_insert(cover);
    }
    Ok(())
}

/// Mounts each path onto itself, read-only with everything below.
pub(super) fn make_read_only(root: &OwnedFd, paths: &[String]) -> Result<(), Failure> {
    let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    for path in paths {
        let Some(target) = find(root, path, Step::ReadOnly)? else { continue };
        let cover = copy_of(&target, true).at(Step::ReadOnly, path)?;
        attach(&cover, &target).at(Step::ReadOnly, path)?;
        attributes::change(&cover, true, attr).at(Step::ReadOnly, path)?;
    }
    Ok(())
}

fn find(root: &OwnedFd, path: &str, step: Step) -> Result<Option<OwnedFd>, Failure> {
    match sys::open_in_root(root.as_fd(), path, OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        other => other.map(Some).at(step, path),
    }
}
