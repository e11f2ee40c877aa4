//! The root filesystem, as a mount that is attached nowhere yet.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::overlay::{self, Layer, Layers};
use super::prepare::detached;
use crate::Rootfs;
use crate::failure::{At, Failure, Step};
use crate::sys::MountAttr;

/// `owner` is what root of the user namespace is on the host, if there is such a namespace.
pub(super) fn mount(
    rootfs: &Rootfs,
    userns: Option<&OwnedFd>,
    owner: (u32, u32),
) -> Result<OwnedFd, Failure> {
    match rootfs {
        Rootfs::Dir(path) => {
            detached(path, false, MountAttr::default(), userns).at(Step::Rootfs, path.display())
        }
        Rootfs::Overlay { lowers, upper, work } => {
            if lowers.is_empty() {
                return Err(Failure::new(
                    Step::Rootfs,
                    upper.display(),
                    "an overlay needs at least one lower directory",
                ));
            }
            let layers = find(lowers, upper, work, userns)?;
            match userns {
                None => overlay::mount(&layers, upper, work),
                Some(_) => acting_as(owner, || overlay::mount(&layers, upper, work)),
            }
        }
    }
}

fn find(lowers: &[PathBuf], upper: &Path, work: &Path, userns: Option<&OwnedFd>) -> Result<Layers, Failure> {
    if userns.is_none() {
        let lowers = lowers.iter().cloned().map(Layer::Path).collect();
        return Ok(Layers {
            lowers,
            upper: Layer::Path(upper.into()),
            work: Layer::Path(work.into()),
            tree: None,
        });
    }
    let mapped =
        |path: &Path| detached(path, false, MountAttr::default(), userns).at(Step::Rootfs, path.display());
    let lowers: Result<_, _> = lowers.iter().map(|path| mapped(path).map(Layer::Mapped)).collect();
    // The overlay wants upper and work in one mount, so the tree that holds both is mapped as one.
    let parent = common_parent(upper, work).ok_or_else(|| {
        Failure::new(Step::Rootfs, upper.display(), "upper and work need a common parent directory")
    })?;
    let tree = mapped(parent)?;
    let inside = |path: &Path| {
        let relative = path.strip_prefix(parent).unwrap_or(path);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&tree, relative, flags, Mode::empty())
            .at(Step::Rootfs, path.display())
            .map(Layer::Mapped)
    };
    Ok(Layers { lowers: lowers?, upper: inside(upper)?, work: inside(work)?, tree: Some(tree) })
}

fn common_parent<'a>(upper: &'a Path, work: &Path) -> Option<&'a Path> {
    upper
        .ancestors()
        .skip(1)
        .find(|parent| work.starts_with(parent))
        .filter(|parent| parent.parent().is_some())
}

/// Whoever mounts an overlay is the one in whose name it writes to its upper directory, for ever. Our own root has no
/// name in an id-mapped mount, so this is done in the name of the container's root, with all our rights.
pub(super) fn acting_as<T>(
    owner: (u32, u32),
    act: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let change = |(uid, gid): (u32, u32)| -> io::Result<()> {
        // SAFETY: changes only this thread, and no memory. Both calls return the previous id, never an error.
        unsafe {
            libc::setfsgid(gid);
            libc::setfsuid(uid);
        }
        // Becoming somebody else has taken the rights over files away; they are still permitted.
        let held = rustix::thread::capabilities(None)?;
        let all = rustix::thread::CapabilitySets { effective: held.permitted, ..held };
        Ok(rustix::thread::set_capabilities(None, all)?)
    };
    change(owner).at(Step::Rootfs, "act as the container's root")?;
    let outcome = act();
    change((0, 0)).at(Step::Rootfs, "act as root again")?;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_and_work_share_a_parent_below_the_root() {
        let parent =
            |upper, work| common_parent(Path::new(upper), Path::new(work)).map(|path| path.to_owned());
        assert_eq!(parent("/a/b/upper", "/a/b/work"), Some(PathBuf::from("/a/b")));
        assert_eq!(parent("/a/b/upper", "/a/c/work"), Some(PathBuf::from("/a")));
        assert_eq!(parent("/a/upper", "/b/work"), None);
    }
}
